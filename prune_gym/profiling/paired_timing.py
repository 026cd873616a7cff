"""Time networks in turns, so that a drift in the speed of the machine favors none."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prune_gym.profiling.timing import time_calls

PASSES, SECONDS = 30, 0.04


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """Return the median and quartiles of ``values`` (any shape)."""
        low, median, high = (float(each) for each in np.percentile(values, [25, 50, 75]))
        return cls(low, median, high)


@dataclass(frozen=True)
class Compared:
    """The ms of all calls of two networks, and how many times quicker the second is.

    The factor is the ratio of the medians of each pass.
    """

    before: Spread
    after: Spread
    factor: Spread

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def interleaved(before: Callable[[], object], after: Callable[[], object]) -> Compared:
    """Time two networks in turns: 30 passes of 40 ms each, after a warm-up."""
    passes = _in_turns([before, after])
    ratios = np.array([np.median(first) / np.median(second) for first, second in passes])
    firsts, seconds = (np.concatenate(each) for each in zip(*passes, strict=True))
    return Compared(Spread.of(firsts), Spread.of(seconds), Spread.of(ratios))


def medians_in_turns(calls: Sequence[Callable[[], object]]) -> np.ndarray:
    """Time networks likewise and return the median ms of each pass, float64 (passes, networks)."""
    return np.array([[np.median(each) for each in one] for one in _in_turns(calls)])


def _in_turns(calls: Sequence[Callable[[], object]]) -> list[list[list[float]]]:
    """Return the ms of all calls, by pass and network."""
    return [[time_calls(call, SECONDS) for call in calls] for _ in range(PASSES)]
