"""One decision: what an action means, and which part of the network it sets."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Decision:
    """One step of an episode.

    Attributes:
        kind: one of :data:`prune_gym.search_space.KINDS`.
        name: the channel group, layer or block that it is about.
        of: the original network's value.
        options: the values that can be chosen, ascending, as the costs are, ``(options,)``.
        scale: where they lie on the axis of actions, ascending, ``(options,)``.
        columns: which columns of the kind's array in ``Configuration`` it sets.
        layer: the layer of the table that describes it to the agent.
        lost: the share of output energy that each option is expected to lose, ``(options,)``.
        inside: the innermost block around it (-1: none); where that, or one around it, is skipped,
            the decision is not made.
    """

    kind: str
    name: str
    of: float
    options: np.ndarray
    scale: np.ndarray
    columns: tuple[int, ...]
    layer: int
    lost: np.ndarray
    inside: int = -1

    def nearest(self, action: float, allowed: np.ndarray | None = None) -> float:
        """Return the allowed value nearest to what an action in [-1, 1] asks for.

        -1 asks for the first option and 1 for the last, linearly on the scale in between; of two
        equally near ones the smaller is taken. ``allowed`` is a mask over the options; None: all.
        """
        low, high = self.scale[0], self.scale[-1]
        wanted = low + (high - low) * (float(action) + 1) / 2
        distance = np.abs(self.scale - wanted)
        if allowed is not None:
            distance = np.where(allowed, distance, np.inf)
        return float(self.options[distance.argmin()])

    def encode(self, value: float) -> float:
        """Return the action in [-1, 1] that asks for one of the options."""
        low, high = self.scale[0], self.scale[-1]
        place = self.scale[int(np.searchsorted(self.options, value))]
        return float(2 * (place - low) / (high - low) - 1) if high > low else 1.0

    def as_plain_data(self, value: float) -> dict[str, Any]:
        """Return the decision as it stands in a strategy's JSON; whole numbers are whole there."""
        whole = int(value) if value == int(value) else value
        return {"kind": self.kind, "name": self.name, "value": whole, "of": self.of}

    def sensitivity_at(self, value: float) -> float:
        """Return the share of output energy that a value is expected to lose."""
        return float(np.interp(value, self.options, self.lost))
