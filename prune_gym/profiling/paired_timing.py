"""Two networks timed in turn, so that a machine whose speed drifts favours neither."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prune_gym.profiling.timing import visit

PASSES, SECONDS = 30, 0.04


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """Return those of some numbers, any shape."""
        low, median, high = (float(each) for each in np.percentile(values, [25, 50, 75]))
        return cls(low, median, high)


@dataclass(frozen=True)
class Compared:
    """What two networks took: ms of all calls, and how many times quicker the second was.

    The factor is taken pass by pass, of the medians of the calls of a pass.
    """

    before: Spread
    after: Spread
    factor: Spread

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def interleaved(before: Callable[[], object], after: Callable[[], object]) -> Compared:
    """Call two networks in turn, 30 passes of 40 ms each after a warm-up."""
    calls: list[tuple[list[float], list[float]]] = [
        (visit(before, SECONDS), visit(after, SECONDS)) for _ in range(PASSES)
    ]
    ratios = [float(np.median(first) / np.median(second)) for first, second in calls]
    firsts, seconds = (np.concatenate(each) for each in zip(*calls, strict=True))
    return Compared(Spread.of(firsts), Spread.of(seconds), Spread.of(np.array(ratios)))
