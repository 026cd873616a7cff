"""One density for all layers (EMOMC)."""

import numpy as np

from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.base import DecisionKind, NetworkStatistics
from prune_gym.search_space.kinds.layerwise import densities, pruning_loss
from prune_gym.search_space.kinds.options import SpaceOptions


class GlobalDensity(DecisionKind):
    """The one decision of the same density for all layers."""

    name = "global_density"
    field = "density"

    def decisions(self, network: NetworkStatistics, options: SpaceOptions) -> list[Decision]:
        """Return the one decision."""
        choices, table = densities(options), network.table
        layers = {
            column: index
            for column, index in enumerate(table.weighted)
            if options.may_change([table.layers[index].name])
        }
        if not layers:
            return []
        losses = [pruning_loss(network.weights(index), choices) for index in layers.values()]
        first = min(layers.values())
        about = (self.name, "all layers", 1.0, choices, choices, tuple(layers), first)
        return [Decision(*about, np.mean(losses, axis=0))]
