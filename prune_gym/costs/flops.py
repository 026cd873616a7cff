"""Multiply-adds of one image."""

import numpy as np

from prune_gym.network.table import LayerTable


class Flops:
    """Multiply-adds of convolutions and linear layers (half of ``torch.utils.flop_counter``)."""

    name = "flops"
    metric = "flops"
    unit = "multiply-adds"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable) -> None:
        """Take the layers of ``table``."""
        self._table = table
        self._per_pair = np.array(
            [
                layer.has_weight * np.prod(layer.kernel) * np.prod(layer.out_size)
                for layer in table.layers
            ],
            dtype=np.float64,
        )

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        """Return multiply-adds: widths (n, groups) -> float64 (n,)."""
        return (self._table.inputs(widths) * self._table.outputs(widths)) @ self._per_pair
