"""The share of a layer's weights that stays, by magnitude (JCW)."""

from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.base import DecisionKind, NetworkStatistics
from prune_gym.search_space.kinds.layerwise import densities, per_layer, pruning_loss
from prune_gym.search_space.kinds.options import SpaceOptions


class Density(DecisionKind):
    """One decision per layer with weights: a density in steps of 0.05."""

    name = "density"
    field = "density"

    def decisions(self, network: NetworkStatistics, options: SpaceOptions) -> list[Decision]:
        """Return one decision per layer with weights."""
        choices = densities(options)
        return per_layer(network, options, self.name, 1.0, choices, choices, pruning_loss)
