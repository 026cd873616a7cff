"""Peak memory of inference on one image."""

import numpy as np

from prune_gym.costs.params import Params
from prune_gym.network.table import LayerTable

BYTES = 4  # float32


class Memory:
    """Weights plus the largest sum of live activations, in float32, batch 1.

    An activation lives from the layer that writes it to the last one that reads it. Batch-norm is
    folded and activation functions work in place, so neither holds a buffer of its own.
    """

    name = "memory"
    metric = "memory_bytes"
    unit = "bytes"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable) -> None:
        """Take the activations of ``table``."""
        self._table = table
        self._params = Params(table)
        steps = sorted({activation.born for activation in table.activations})
        self._live = np.array(
            [[a.pixels * (a.born <= step <= a.dies) for step in steps] for a in table.activations],
            dtype=np.float64,
        )

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        """Return bytes: widths (n, groups) -> float64 (n,)."""
        live = self._table.activation_channels(widths) @ self._live
        return BYTES * (self._params(widths) + live.max(axis=1))
