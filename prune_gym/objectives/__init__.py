"""What is optimised: objectives, preferences, Pareto fronts, and picking one strategy."""
