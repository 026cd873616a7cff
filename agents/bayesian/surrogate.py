"""A Gaussian process that predicts accuracy from a strategy's decisions, and says how surely."""

from dataclasses import dataclass

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor

from prune_gym.agents.bayesian.kernel_fit import fit_kernel, kernel_of
from prune_gym.agents.sensitivity.order import SCALE
from prune_gym.agents.sensitivity.outlook import energy_lost, shares_lost
from prune_gym.search_space import SearchSpace

CLEARANCE = 0.02  # keeps the log-odds of 0 and 1 finite
REFIT = 1.15  # the kernel is fitted again when there are so many times more strategies
FITTED_TO = 300  # strategies at most, evenly spaced
# Of the curve: twice the middle scale or half of it is one standard deviation away.
FACTORS, POWERS = 2.0 ** np.linspace(-4, 4, 65), np.geomspace(1, 4, 13)
SCATTER = 0.5  # of log-odds around the curve


@dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy as a function of the energy lost: ``chance + height exp(-(lost / scale)^power)``."""

    chance: float
    height: float
    scale: float | np.ndarray
    power: float | np.ndarray

    def __call__(self, lost: np.ndarray) -> np.ndarray:
        """Return accuracies: energies lost (n,) -> ``(n,)``; ``(m, n)`` of m curves in columns."""
        return self.chance + self.height * np.exp(-((lost / self.scale) ** self.power))

    @classmethod
    def fitted(
        cls, lost: np.ndarray, accuracies: np.ndarray, chance: float, decisions: int
    ) -> "AccuracyCurve":
        """Return the most probable curve of evaluated strategies, (n,) each."""
        odds, height = log_odds(accuracies), max(accuracies.max() - chance, 0.0)
        factors, powers = np.repeat(FACTORS, len(POWERS)), np.tile(POWERS, len(FACTORS))
        scales = SCALE * decisions * factors
        curves = cls(chance, height, scales[:, None], powers[:, None])
        away = (odds - log_odds(curves(lost))) / SCATTER
        unlikely = (away**2).sum(axis=1)
        unlikely += np.log2(factors) ** 2 + (np.log(powers / 2) / 0.3) ** 2
        best = unlikely.argmin()
        return cls(chance, height, scales[best], powers[best])


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
        self._kernel = kernel_of(2 * len(space) + 1 if sensitivities else len(space))
        self._process = GaussianProcessRegressor(self._kernel, optimizer=None)
        self._fitted = 0

    def describe(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the process sees of strategies, ``(n, features)``, and their energy lost."""
        shares, taken = shares_lost(self._space, values), np.empty(values.shape)
        lost = energy_lost(self._space, values, shares)
        for index, decision in enumerate(self._space.decisions):
            places = np.linspace(1, 0, len(decision.options))
            taken[:, index] = np.interp(values[:, index], decision.options, places)
        if not self._sensitivities:
            return taken, lost
        return np.concatenate([taken, np.sqrt(shares), np.log1p(lost)[:, None]], axis=1), lost

    def fit(self, values: np.ndarray, accuracies: np.ndarray) -> None:
        """Learn from evaluated strategies: values (n, decisions), accuracies (n,)."""
        features, lost = self.describe(values)
        odds = log_odds(accuracies)
        self._curve = AccuracyCurve.fitted(lost, accuracies, self._chance, len(self._space))
        self._mean = odds.mean()
        residuals = odds - self._expected(lost)
        if len(values) >= REFIT * self._fitted:
            self._fitted = len(values)
            # From the start: what fitted a few strategies is a poor beginning for many.
            some = slice(None, None, -(-len(values) // FITTED_TO))
            self._process.kernel = fit_kernel(self._kernel, features[some], residuals[some])
        self._process.fit(features, residuals)

    def predict(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the log-odds, ``(n,)`` each."""
        features, lost = self.describe(values)
        mean, deviation = self._process.predict(features, return_std=True)
        return mean + self._expected(lost), deviation

    def _expected(self, lost: np.ndarray) -> np.ndarray:
        """Return the log-odds that the process adds to: energies lost (n,) -> ``(n,)``."""
        if not self._sensitivities:
            return np.full(len(lost), self._mean)
        return log_odds(self._curve(lost))


def log_odds(accuracies: np.ndarray) -> np.ndarray:
    """Return the log-odds of accuracies in [0, 1]."""
    return np.log((accuracies + CLEARANCE) / (1 - accuracies + CLEARANCE))


def from_log_odds(odds: np.ndarray) -> np.ndarray:
    """Return the accuracies, in [0, 1], of log-odds."""
    return np.clip((1 + 2 * CLEARANCE) / (1 + np.exp(-odds)) - CLEARANCE, 0.0, 1.0)
