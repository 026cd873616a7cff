"""Interquartile means with bootstrap intervals over seeds.

After "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (Agarwal et al.,
NeurIPS 2021): with a handful of seeds the mean follows outliers and the median wastes half of what
is known; the mean of the middle half does neither.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import trim_mean

from prune_gym.errors import UserError

RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A point estimate and its interval."""

    point: float
    low: float
    high: float

    def apart_from(self, other: "Interval") -> bool:
        """Return whether the intervals do not overlap."""
        return self.low > other.high or self.high < other.low


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean without the lowest and highest quarter, over the first axis.

    Of n values ``n // 4`` are left out at each end: of five the lowest and the highest, of three
    none.
    """
    return np.asarray(trim_mean(np.sort(values, axis=0), 0.25, axis=0))


def bootstrap(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % percentile interval of the interquartile mean.

    Seeds are drawn with replacement; a single one leaves an interval of no width.

    Args:
        values: one row per seed, ``(seeds, ...)``; infinite ones are kept as they are.
        seed: of the resampling, so that the same values give the same interval.

    Returns:
        Two arrays ``(...)``.
    """
    ordered = np.sort(values, axis=0)  # the order of the seeds must not matter
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(ordered), size=(len(ordered), RESAMPLES))
    means = interquartile_mean(ordered[drawn])
    tail = (1 - CONFIDENCE) / 2
    # No interpolation: between infinite numbers there is none.
    low, high = np.quantile(means, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return low, high


def interval(values: np.ndarray) -> Interval:
    """Return the interquartile mean of one value per seed ``(seeds,)`` and its interval.

    Raises:
        UserError: there are none.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        raise UserError("expected at least one seed, got none")
    low, high = bootstrap(values)
    return Interval(float(interquartile_mean(values)), float(low), float(high))
