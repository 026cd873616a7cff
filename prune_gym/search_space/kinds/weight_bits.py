"""The bits of a layer's weights (HAQ, EMOMC, two-stage)."""

import numpy as np

from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.base import DecisionKind, NetworkStatistics
from prune_gym.search_space.kinds.layerwise import per_layer
from prune_gym.search_space.kinds.options import SpaceOptions


class WeightBits(DecisionKind):
    """One decision per layer with weights, evenly spaced actions for the bits to choose from."""

    name = "weight_bits"
    field = "weight_bits"

    def decisions(self, network: NetworkStatistics, options: SpaceOptions) -> list[Decision]:
        """Return one decision per layer with weights."""
        choices = np.array(sorted(set(options.bits)))
        grid = np.arange(len(choices))
        return per_layer(network, options, self.name, FLOAT_BITS, choices, grid, self.loss)

    def loss(self, weights: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Return the noise of uniform symmetric quantization per output channel, of the energy."""
        levels = np.maximum(2.0 ** (bits - 1) - 1, 0.5)
        steps = np.abs(weights).max(axis=1)[None] / levels[:, None]
        noise = (steps**2).mean(axis=1) / 12 / max(float((weights**2).mean()), 1e-12)
        return np.minimum(noise, 1.0)
