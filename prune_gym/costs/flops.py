"""Count the multiply-adds of one image."""

import numpy as np

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable


class Flops:
    """Multiply-adds of convolutions and linear layers (half of ``torch.utils.flop_counter``).

    Single pruned weights are not counted.
    """

    name = "flops"
    metric = "flops"
    unit = "multiply-adds"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable) -> None:
        """Take the layers of ``table``."""
        self._table = table
        self._pixels = table.weighted_pixels

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return multiply-adds of n strategies, float64 (n,)."""
        return self._table.nonzeros(configuration) @ self._pixels
