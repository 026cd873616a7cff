"""Bayesian optimization: a Gaussian process and expected hypervolume improvement."""
