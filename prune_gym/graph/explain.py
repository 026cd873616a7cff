"""What of a network can be cut, what cannot, and why."""

import numpy as np

from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable

SHOWN = 6  # pins in an error's line


def shares_that_can_be_cut(table: LayerTable) -> tuple[float, float]:
    """Return the shares of parameters and of multiply-adds that can be cut.

    They are what is gone when every channel group keeps one channel.
    """
    vectors = np.array([layer.vectors for layer in table.layers], dtype=np.float64)
    uncounted = sum(count for _, count in table.uncounted)
    left = []
    for widths in (table.full, np.minimum(table.full, 1)):
        weights = table.weights(Configuration(widths[None]))[0]
        parameters = weights.sum() + table.outputs(widths[None])[0] @ vectors
        left.append((parameters, weights @ table.weighted_pixels + uncounted))
    whole, least = np.array(left)
    shares = 1 - least / np.maximum(whole, 1)
    return float(shares[0]), float(shares[1])
