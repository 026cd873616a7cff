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
        choices, layers = densities(options), network.table.weighted
        losses = [pruning_loss(network.weights(index), choices) for index in layers]
        columns = tuple(range(len(layers)))
        about = (self.name, "all layers", 1.0, choices, choices, columns, layers[0])
        return [Decision(*about, np.mean(losses, axis=0))]
