"""Units: the names that channels carry through the network.

Layers write units; additions and products make two units one. What must not be cut is *pinned*,
with the operation that pins it and the reason.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from prune_gym.graph.groups import NO_UNIT


class NotUnderstood(Exception):
    """An operation whose effect on channels is not known; the message says what it is."""


@dataclass
class Traced:
    """A traced tensor.

    Attributes:
        units: one for each place along ``axis``; NO_UNIT where nothing can be cut.
        axis: the dimension that holds the channels: 1 of maps, the last of tokens.
        size: of a map, such as height and width; of tokens their number and 1.
        buffer: the index of the memory that holds it.
        writer: the layer whose output it is, unchanged ("" where there is none).
        stacked: how many tensors of the same channels it holds, one after another; ``units`` has
            those of the first, then those of the second, and so on.
        stack_axis: the dimension that they are stacked along.
    """

    units: np.ndarray
    axis: int
    size: tuple[int, ...]
    buffer: int
    writer: str = ""
    stacked: int = 1
    stack_axis: int = -1


def size_of(shape: Sequence[int], axis: int, channels: int) -> tuple[int, ...]:
    """Return the size of a map; of other tensors the numbers of a channel, and 1.

    Windows of one image that stand in the place of the images count as one high map.
    """
    if axis == 1 and len(shape) > 2:
        return (shape[0] * shape[2], *shape[3:])
    return (math.prod(shape) // max(channels, 1), 1)


@dataclass
class Units:
    """All units of a network: which are one, and which are pinned.

    Attributes:
        pins: units, the operation that pins them, and why.
    """

    pins: list[tuple[np.ndarray, str, str]] = field(default_factory=list)
    _parent: list[int] = field(default_factory=list)

    def fresh(self, count: int) -> np.ndarray:
        """Return ``count`` new units."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def pin(self, units: np.ndarray, by: str, why: str) -> None:
        """Keep units from being cut."""
        if (units != NO_UNIT).any():
            self.pins.append((units[units != NO_UNIT], by, why))

    def merge(self, left: np.ndarray, right: np.ndarray, by: str) -> np.ndarray:
        """Make units one, place by place; those opposite NO_UNIT are pinned."""
        merged = np.where(left == NO_UNIT, right, left)
        # How many channels the other side has is written in the network's code.
        self.pin(merged[(left == NO_UNIT) ^ (right == NO_UNIT)], by, "the other side cannot be cut")
        for a, b in zip(left, right, strict=True):
            if NO_UNIT not in (a, b):
                self._parent[self._root(a)] = self._root(b)
        return merged

    def repeats(self, units: np.ndarray, of: np.ndarray) -> bool:
        """Return whether ``units`` are those of other channels, each equally often."""
        times, left = divmod(len(units), len(of))
        if left or (units == NO_UNIT).any() or (of == NO_UNIT).any():
            return False
        one, other = ([self._root(unit) for unit in each] for each in (units, of))
        return sorted(one) == sorted(other * times)

    def tie(self, units: np.ndarray, parts: int, by: str) -> np.ndarray:
        """Make channels at the same place of equal parts one unit; return the units, ``(n,)``."""
        first, *others = units.reshape(parts, -1)
        for other in others:
            first = self.merge(first, other, by)
        return np.tile(first, parts)

    def merge_in_rows(self, units: np.ndarray, rows: int, by: str) -> np.ndarray:
        """Make all units of a row one; return one unit for each of the equal rows, ``(rows,)``."""
        first, *others = units.reshape(rows, -1).T
        for other in others:
            first = self.merge(first, other, by)
        return first

    def roots(self) -> np.ndarray:
        """Return for each unit the one that stands for all that are one with it; last NO_UNIT."""
        return np.array([self._root(unit) for unit in range(len(self._parent))] + [NO_UNIT])

    def _root(self, unit: int) -> int:
        while self._parent[unit] != unit:
            self._parent[unit] = self._parent[self._parent[unit]]
            unit = self._parent[unit]
        return unit
