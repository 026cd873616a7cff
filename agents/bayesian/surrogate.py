"""A Gaussian process that predicts accuracy from a strategy's decisions, and says how surely."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from prune_gym.agents.sensitivity.order import SCALE
from prune_gym.agents.sensitivity.outlook import energy_lost
from prune_gym.search_space import SearchSpace

CLEARANCE = 0.02  # keeps the log-odds of 0 and 1 finite
REFIT = 1.15  # the kernel is fitted again when there are so many times more strategies
FITTED_TO = 300  # strategies at most, evenly spaced: its gradient takes their square in memory
# Of the curve: twice the middle scale or half of it is one standard deviation away.
FACTORS, POWERS = 2.0 ** np.linspace(-4, 4, 65), np.geomspace(1, 4, 13)
SCATTER = 0.5  # of log-odds around the curve
# Of the kernel before anything is known: its deviation, in log-odds around the curve, and its
# length along a feature. Features mostly span 0 to 1.
DEVIATION, LENGTH = 1.0, 3.0


@dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy as a function of the energy lost: ``chance + height exp(-(lost / scale)^power)``."""

    chance: float
    height: float
    scale: float
    power: float

    def __call__(self, lost: np.ndarray) -> np.ndarray:
        """Return accuracies: energies lost (n,) -> ``(n,)``."""
        return self.chance + self.height * np.exp(-((lost / self.scale) ** self.power))

    @classmethod
    def fitted(
        cls, lost: np.ndarray, accuracies: np.ndarray, chance: float, decisions: int
    ) -> "AccuracyCurve":
        """Return the most probable curve of evaluated strategies, (n,) each."""
        odds, height = log_odds(accuracies), max(accuracies.max() - chance, 0.0)
        curves = [cls(chance, height, SCALE * decisions * f, p) for f in FACTORS for p in POWERS]

        def unlikely(curve: AccuracyCurve) -> float:
            away = (odds - log_odds(curve(lost))) / SCATTER
            factor = np.log(curve.scale / (SCALE * decisions)) / np.log(2)
            power = np.log(curve.power / 2) / 0.3
            return away @ away + factor**2 + power**2

        return min(curves, key=unlikely)


class AccuracyModel:
    """Learns accuracies of evaluated strategies and predicts those of others, all as log-odds.

    The last points below the original's accuracy count for more than those of a ruined network.
    Before anything else accuracy falls with the energy lost (`AccuracyCurve`), and the
    process learns how far a strategy lies above or below the curve. A strategy is described by two
    numbers a decision: how much it takes away and the root of the share of output energy that it is
    expected to lose, which the environment measures beforehand; and all decisions together by one,
    the logarithm of the energy lost.
    """

    def __init__(self, space: SearchSpace, chance: float, sensitivities: bool = True) -> None:
        """Learn nothing yet.

        Args:
            space: the search space.
            chance: the accuracy of guessing.
            sensitivities: use them. If not, a strategy is described by how much its decisions take
                away, and accuracies lie around their mean before anything else.
        """
        self._space, self._chance, self._sensitivities = space, chance, sensitivities
        lengths = np.full(2 * len(space) + 1 if sensitivities else len(space), LENGTH)
        self._kernel = ConstantKernel(DEVIATION**2, (1e-3, 1e3)) * Matern(
            lengths, (0.02, 1e3), nu=2.5
        ) + WhiteKernel(1e-4, (1e-7, 1e-1))
        self._process = GaussianProcessRegressor(self._kernel, random_state=0)
        self._fitted = 0

    def features(self, values: np.ndarray) -> np.ndarray:
        """Return what describes strategies: values (n, decisions) -> ``(n, features)``."""
        taken, lost = np.empty((2, *values.shape))
        for index, decision in enumerate(self._space.decisions):
            options = decision.options
            places = np.linspace(1, 0, len(options))
            taken[:, index] = np.interp(values[:, index], options, places)
            lost[:, index] = np.interp(values[:, index], options, decision.sensitivity)
        if not self._sensitivities:
            return taken
        together = np.log1p(energy_lost(self._space, values))[:, None]
        return np.concatenate([taken, np.sqrt(lost), together], axis=1)

    def fit(self, values: np.ndarray, accuracies: np.ndarray) -> None:
        """Learn from evaluated strategies: values (n, decisions), accuracies (n,)."""
        features, odds = self.features(values), log_odds(accuracies)
        lost = energy_lost(self._space, values)
        self._curve = AccuracyCurve.fitted(lost, accuracies, self._chance, len(self._space))
        self._mean = odds.mean()
        residuals = odds - self._expected(values)
        if len(values) >= REFIT * self._fitted:
            self._fitted = len(values)
            step = -(-len(values) // FITTED_TO)
            # From the start: what fitted a few strategies is a poor beginning for many.
            self._process.kernel = self._kernel
            self._learn(features[::step], residuals[::step], _most_probable)
        self._learn(features, residuals, None)

    def _learn(
        self, features: np.ndarray, residuals: np.ndarray, optimizer: Callable | None
    ) -> None:
        self._process.optimizer = optimizer
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is fine
            self._process.fit(features, residuals)
        self._process.kernel = self._process.kernel_

    def predict(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the log-odds, ``(n,)`` each."""
        mean, deviation = self._process.predict(self.features(values), return_std=True)
        return mean + self._expected(values), deviation

    def _expected(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds ``(n,)`` that the process adds to."""
        if not self._sensitivities:
            return np.full(len(values), self._mean)
        return log_odds(self._curve(energy_lost(self._space, values)))


def _most_probable(
    objective: Callable, start: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the most probable parameters of the kernel and their loss, for scikit-learn.

    A few strategies say little about many lengths: by likelihood alone the model concludes that
    most decisions do not matter and is far too sure of what it has not seen. So lengths have a
    prior, log-normal around ``LENGTH`` (as in Hvarfner, Hellsten & Nardi, ICML 2024), and the scale
    has one around ``DEVIATION``: the first strategies are like each other and lie near the curve.

    Args:
        objective: minus the log-likelihood and its gradient by the logarithms of the parameters:
            scale, lengths, noise.
        start: the logarithms ``(parameters,)`` to start from.
        bounds: of the logarithms ``(parameters, 2)``.
    """
    expected = np.log(np.append(DEVIATION**2, np.full(len(start) - 2, LENGTH)))
    deviations = np.append(0.5, np.ones(len(start) - 2))

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(logarithms)
        away = logarithms[:-1] - expected
        gradient[:-1] += away / deviations**2
        return value + (away / deviations) @ (away / deviations) / 2, gradient

    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return found.x, found.fun


def log_odds(accuracies: np.ndarray) -> np.ndarray:
    """Return the log-odds of accuracies in [0, 1]."""
    return np.log((accuracies + CLEARANCE) / (1 - accuracies + CLEARANCE))


def from_log_odds(odds: np.ndarray) -> np.ndarray:
    """Return the accuracies, in [0, 1], of log-odds."""
    return np.clip((1 + 2 * CLEARANCE) / (1 + np.exp(-odds)) - CLEARANCE, 0.0, 1.0)
