"""A Gaussian process that predicts accuracy from a strategy's decisions, and says how surely."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from prune_gym.decisions import Decision

CLEARANCE = 0.02  # keeps the log-odds of 0 and 1 finite
REFIT = 1.15  # the kernel is fitted anew when there are so many times more strategies
FITTED_TO = 300  # strategies at most, evenly spaced: its gradient takes their square in memory


class AccuracyModel:
    """Learns accuracies of evaluated strategies and predicts those of others, all as log-odds.

    The last points below the original's accuracy count for more than those of a ruined network. A
    strategy is described by two numbers a decision: how much it takes away and the root of the
    share of output energy that it is expected to lose, which the environment measures beforehand.
    """

    def __init__(self, decisions: tuple[Decision, ...]) -> None:
        """Take the decisions of the environment."""
        self._decisions = decisions
        dimensions = 2 * len(decisions)
        self._kernel = ConstantKernel(0.1, (1e-3, 1e2)) * Matern(
            np.ones(dimensions), (0.05, 50.0), nu=2.5
        ) + WhiteKernel(1e-4, (1e-7, 1e-1))
        self._process = GaussianProcessRegressor(self._kernel, random_state=0)
        self._fitted = 0

    def features(self, values: np.ndarray) -> np.ndarray:
        """Return what describes strategies: values (n, decisions) -> ``(n, 2 decisions)``."""
        columns = []
        for decision, column in zip(self._decisions, values.T, strict=True):
            columns.append(
                1 - np.interp(column, decision.options, np.linspace(0, 1, len(decision.options)))
            )
            columns.append(np.sqrt(np.interp(column, decision.options, decision.lost)))
        return np.stack(columns, axis=1)

    def fit(self, values: np.ndarray, accuracies: np.ndarray) -> None:
        """Learn from evaluated strategies: values (n, decisions), accuracies (n,)."""
        features, odds = self.features(values), log_odds(accuracies)
        self._mean = odds.mean()
        if len(values) >= REFIT * self._fitted:
            self._fitted = len(values)
            step = -(-len(values) // FITTED_TO)
            # From the start: what fitted a few strategies is a poor beginning for many.
            self._process.kernel = self._kernel
            self._learn(features[::step], odds[::step], "fmin_l_bfgs_b")
        self._learn(features, odds, None)

    def _learn(self, features: np.ndarray, odds: np.ndarray, optimizer: str | None) -> None:
        self._process.optimizer = optimizer
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is fine
            self._process.fit(features, odds - self._mean)
        self._process.kernel = self._process.kernel_

    def predict(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the log-odds, ``(n,)`` each."""
        mean, deviation = self._process.predict(self.features(values), return_std=True)
        return mean + self._mean, deviation


def log_odds(accuracies: np.ndarray) -> np.ndarray:
    """Return the log-odds of accuracies in [0, 1]."""
    return np.log((accuracies + CLEARANCE) / (1 - accuracies + CLEARANCE))


def from_log_odds(odds: np.ndarray) -> np.ndarray:
    """Return the accuracies, in [0, 1], of log-odds."""
    return np.clip((1 + 2 * CLEARANCE) / (1 + np.exp(-odds)) - CLEARANCE, 0.0, 1.0)
