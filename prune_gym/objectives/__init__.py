"""Objectives, preferences, Pareto fronts, and the choice of one strategy."""
