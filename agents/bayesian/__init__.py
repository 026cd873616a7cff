"""Bayesian optimisation: a Gaussian process and expected hypervolume improvement."""
