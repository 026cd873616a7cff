"""Decisions: what one action means for one channel group."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ChannelDecision:
    """How many channels of a group stay.

    Attributes:
        name: the group's name.
        size: channels of the original network.
        options: the widths that can be chosen, ascending, ``int64 (options,)``.
    """

    name: str
    size: int
    options: np.ndarray

    kind = "channels"

    def nearest(self, action: float, allowed: np.ndarray) -> int:
        """Return the allowed width nearest to what an action in [-1, 1] asks for.

        -1 asks for the smallest option and 1 for all channels, linearly in between; of two
        equally near widths the smaller one is taken. ``allowed`` is a mask over the options.
        """
        low, high = self.options[0], self.options[-1]
        wanted = low + (high - low) * (float(action) + 1) / 2
        choices = self.options[allowed]
        return int(choices[np.abs(choices - wanted).argmin()])


def channel_decision(name: str, size: int, min_keep: float, round_to: int) -> ChannelDecision:
    """Return the decision for a group: multiples of ``round_to`` from ``min_keep``, and all."""
    lowest = max(1, int(np.ceil(min_keep * size - 1e-9)))
    multiples = np.arange(-(-lowest // round_to) * round_to, size + 1, round_to)
    options = np.unique(np.append(multiples, size)).astype(np.int64)
    return ChannelDecision(name, size, options)
