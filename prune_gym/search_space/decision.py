"""One decision: what an action means, and which part of the network it sets."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Decision:
    """One step of an episode.

    Attributes:
        kind: the name of its kind, one of `prune_gym.search_space.KINDS`.
        name: the channel group, layer or block that it is about.
        original: the original network's value.
        options: the values that can be chosen, ascending, as the costs are, ``(options,)``.
        grid: where the options lie on the axis of actions, ascending, ``(options,)``.
        columns: which columns of the kind's array in ``Configuration`` it sets.
        layer: the layer of the table that describes it to the agent.
        sensitivity: the share of output energy that each option is expected to lose,
            ``(options,)``.
        parent_block: the innermost block around it (-1: none); where that block, or one around it,
            is skipped, the decision is not active.
    """

    kind: str
    name: str
    original: float
    options: np.ndarray = field(repr=False)
    grid: np.ndarray = field(repr=False)
    columns: tuple[int, ...]
    layer: int
    sensitivity: np.ndarray = field(repr=False)
    parent_block: int = -1

    def decode(self, action: float, allowed: np.ndarray | None = None) -> float:
        """Return the allowed option nearest to an action in [-1, 1].

        -1 means the first option and 1 the last, linearly on the grid in between; of two equally
        near ones the smaller is taken. ``allowed`` is a mask over the options; None: all of them.
        """
        low, high = self.grid[0], self.grid[-1]
        wanted = low + (high - low) * (float(action) + 1) / 2
        distance = np.abs(self.grid - wanted)
        if allowed is not None:
            distance = np.where(allowed, distance, np.inf)
        return float(self.options[distance.argmin()])

    def encode(self, value: float) -> float:
        """Return the action in [-1, 1] that means one of the options."""
        low, high = self.grid[0], self.grid[-1]
        place = self.grid[int(np.searchsorted(self.options, value))]
        return float(2 * (place - low) / (high - low) - 1) if high > low else 1.0

    def sensitivity_at(self, value: float) -> float:
        """Return the share of output energy that a value is expected to lose."""
        return float(np.interp(value, self.options, self.sensitivity))
