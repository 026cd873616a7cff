"""Count the multiply-adds of one image."""

import numpy as np

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable


class Flops:
    """Multiply-adds of convolutions, linear layers and attention.

    They are half of what ``torch.utils.flop_counter`` counts.

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
        table = self._table
        return table.nonzeros(configuration) @ self._pixels + table.attention(configuration)
