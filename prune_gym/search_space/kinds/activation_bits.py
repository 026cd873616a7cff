"""The bits of a layer's input (HAQ, two-stage)."""

import numpy as np

from prune_gym.search_space.kinds.weight_bits import WeightBits


class ActivationBits(WeightBits):
    """One decision per layer with weights, with the options of `WeightBits`."""

    name = "activation_bits"
    field = "activation_bits"

    def loss(self, weights: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Return the noise of uniform quantization of a half-normal input clipped at 3 sigma."""
        return np.minimum((3 / (2.0**bits - 1)) ** 2 / 12, 1.0)
