"""Trainable parameters."""

import numpy as np

from prune_gym.network.table import LayerTable


class Params:
    """Weights, biases and batch-norm's scales and shifts, as ``net.parameters()`` counts them."""

    name = "params"
    metric = "params"
    unit = "parameters"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable) -> None:
        """Take the layers of ``table``."""
        self._table = table
        self._per_pair = np.array(
            [layer.has_weight * np.prod(layer.kernel) for layer in table.layers], dtype=np.float64
        )
        self._per_output = np.array([layer.vectors for layer in table.layers], dtype=np.float64)

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        """Return parameters: widths (n, groups) -> float64 (n,)."""
        outputs = self._table.outputs(widths)
        return (self._table.inputs(widths) * outputs) @ self._per_pair + outputs @ self._per_output
