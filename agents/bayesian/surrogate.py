"""A Gaussian process that predicts accuracy from a strategy's decisions, and says how surely."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from prune_gym.search_space import Decision

CLEARANCE = 0.02  # keeps the log-odds of 0 and 1 finite
REFIT = 1.15  # the kernel is fitted anew when there are so many times more strategies
FITTED_TO = 300  # strategies at most, evenly spaced: its gradient takes their square in memory
LENGTH = 3.0  # of the kernel along a feature before anything is known; features mostly span 0 to 1


class AccuracyModel:
    """Learns accuracies of evaluated strategies and predicts those of others, all as log-odds.

    The last points below the original's accuracy count for more than those of a ruined network. A
    strategy is described by two numbers a decision: how much it takes away and the root of the
    share of output energy that it is expected to lose, which the environment measures beforehand;
    and all decisions together by one, the logarithm of the sum of the shares.
    """

    def __init__(self, decisions: tuple[Decision, ...]) -> None:
        """Take the decisions of the environment."""
        self._decisions = decisions
        lengths = np.full(2 * len(decisions) + 1, LENGTH)
        self._kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(
            lengths, (0.02, 1e3), nu=2.5
        ) + WhiteKernel(1e-4, (1e-7, 1e-1))
        self._process = GaussianProcessRegressor(self._kernel, random_state=0)
        self._fitted = 0

    def features(self, values: np.ndarray) -> np.ndarray:
        """Return what describes strategies: values (n, decisions) -> ``(n, 2 decisions + 1)``."""
        taken, lost = np.empty((2, *values.shape))
        for index, decision in enumerate(self._decisions):
            options = decision.options
            places = np.linspace(1, 0, len(options))
            taken[:, index] = np.interp(values[:, index], options, places)
            lost[:, index] = np.interp(values[:, index], options, decision.sensitivity)
        together = np.log1p(lost.sum(axis=1, keepdims=True))
        return np.concatenate([taken, np.sqrt(lost), together], axis=1)

    def fit(self, values: np.ndarray, accuracies: np.ndarray) -> None:
        """Learn from evaluated strategies: values (n, decisions), accuracies (n,)."""
        features, odds = self.features(values), log_odds(accuracies)
        self._mean = odds.mean()
        if len(values) >= REFIT * self._fitted:
            self._fitted = len(values)
            step = -(-len(values) // FITTED_TO)
            # From the start: what fitted a few strategies is a poor beginning for many.
            self._process.kernel = self._kernel
            self._learn(features[::step], odds[::step], _most_probable)
        self._learn(features, odds, None)

    def _learn(self, features: np.ndarray, odds: np.ndarray, optimizer: Callable | None) -> None:
        self._process.optimizer = optimizer
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is fine
            self._process.fit(features, odds - self._mean)
        self._process.kernel = self._process.kernel_

    def predict(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the log-odds, ``(n,)`` each."""
        mean, deviation = self._process.predict(self.features(values), return_std=True)
        return mean + self._mean, deviation


def _most_probable(
    objective: Callable, start: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the most probable parameters of the kernel and their loss, for scikit-learn.

    A few strategies say little about many lengths: by likelihood alone the model comes to think
    that most decisions do not matter and is far too sure of what it has not seen. So lengths have a
    prior, log-normal around ``LENGTH`` (as in Hvarfner, Hellsten & Nardi, ICML 2024).

    Args:
        objective: minus the log-likelihood and its gradient by the logarithms of the parameters:
            scale, lengths, noise.
        start: the logarithms ``(parameters,)`` to start from.
        bounds: of the logarithms ``(parameters, 2)``.
    """

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(logarithms)
        away = logarithms[1:-1] - np.log(LENGTH)
        gradient[1:-1] += away
        return value + away @ away / 2, gradient

    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x, found.fun


def log_odds(accuracies: np.ndarray) -> np.ndarray:
    """Return the log-odds of accuracies in [0, 1]."""
    return np.log((accuracies + CLEARANCE) / (1 - accuracies + CLEARANCE))


def from_log_odds(odds: np.ndarray) -> np.ndarray:
    """Return the accuracies, in [0, 1], of log-odds."""
    return np.clip((1 + 2 * CLEARANCE) / (1 + np.exp(-odds)) - CLEARANCE, 0.0, 1.0)
