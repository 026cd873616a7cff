"""How many channels of a group stay (AMC, MCMC)."""

import math

import numpy as np

from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.base import DecisionKind, NetworkStatistics
from prune_gym.search_space.kinds.options import SpaceOptions


class Channels(DecisionKind):
    """One decision per channel group: multiples of ``round_to``, and all channels."""

    name = "channels"
    field = "widths"

    def decisions(self, network: NetworkStatistics, options: SpaceOptions) -> list[Decision]:
        """Return one decision per channel group."""
        table = network.table
        position = {layer.name: i for i, layer in enumerate(table.layers)}
        weighted = {table.layers[i].name for i in table.weighted}
        decisions = []
        for index, group in enumerate(table.groups):
            cut = [m.module for m in group.members if m.dim == "out"]
            layers = [name for name in cut if name in weighted]
            if not options.may_change(layers):
                continue
            share = options.least_share(layers)
            choices = widths(group.size, share, options.round_to, group.channels_each)
            layer = position[cut[0]]
            sensitivity = network.channel_errors(index)[choices]
            parent = table.block_around(member.module for member in group.members)
            about = (self.name, group.name, group.size, choices, choices, (index,), layer)
            decisions.append(Decision(*about, sensitivity, parent))
        return decisions


def widths(size: int, min_keep: float, round_to: int, each: int = 1) -> np.ndarray:
    """Return the widths that a group of ``size`` channels may be cut to, ascending.

    Where one of them stands for ``each`` output channels, those are multiples of ``round_to``.
    """
    lowest = max(1, int(np.ceil(min_keep * size - 1e-9)))
    step = round_to // math.gcd(round_to, each)
    first = -(-lowest // step) * step
    multiples = np.arange(first, size + 1, step)
    return np.unique(np.append(multiples, size)).astype(np.int64)
