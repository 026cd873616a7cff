"""Time two networks in turns, so that a drift in the speed of the machine favors neither."""

from collections.abc import Callable
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
    calls: list[tuple[list[float], list[float]]] = [
        (time_calls(before, SECONDS), time_calls(after, SECONDS)) for _ in range(PASSES)
    ]
    ratios = [float(np.median(first) / np.median(second)) for first, second in calls]
    firsts, seconds = (np.concatenate(each) for each in zip(*calls, strict=True))
    return Compared(Spread.of(firsts), Spread.of(seconds), Spread.of(np.array(ratios)))
