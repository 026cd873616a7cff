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

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return parameters of n strategies, float64 (n,)."""
        table = self._table
        return table.nonzeros(configuration).sum(axis=1) + table.other_params(configuration)
