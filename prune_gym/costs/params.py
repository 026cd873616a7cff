"""Count the trainable parameters."""

import numpy as np

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable


class Params:
    """Weights, biases, scales, shifts and slopes, as ``network.parameters()`` counts them.

    Single pruned weights are not counted.
    """

    name = "params"
    metric = "params"
    unit = "parameters"
    deterministic = True
    platform_dependent = False

    def __init__(self, table: LayerTable) -> None:
        """Take the layers of ``table``."""
        self._table = table
        self._params_per_channel = np.array(
            [layer.params_per_channel for layer in table.layers], dtype=np.float64
        )

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return parameters of n strategies, float64 (n,)."""
        outputs = self._table.outputs(configuration.widths)
        if not configuration.keeps_all_blocks:
            outputs *= self._table.runs(configuration)
        return self._table.nonzeros(configuration).sum(axis=1) + outputs @ self._params_per_channel
