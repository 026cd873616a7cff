"""Fit the time of conversions between int8 and float layers to measured mixed networks."""

import numpy as np
from scipy.optimize import nnls

from prune_gym.costs.latency import INT8_BITS, Latency
from prune_gym.costs.latency_table import LatencyTable
from prune_gym.costs.precisions import Precisions
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable


def fit_conversions(
    table: LayerTable, latency: LatencyTable, configuration: Configuration, measured: np.ndarray
) -> tuple[float, ...]:
    """Return ms of a conversion to int8, ms of a million numbers more, and the same to float.

    They are the non-negative least squares of relative errors: what the networks took longer than
    the sum of their layers.

    Args:
        table: of the network.
        latency: times of its layers in int8 and in float, without conversions.
        configuration: n strategies with layers of both precisions.
        measured: their ms, float64 (n,).
    """
    int8, precisions = configuration.weight_bits <= INT8_BITS, Precisions(table)
    tensors = precisions.tensors(configuration, int8)
    counted = precisions.conversions(configuration, int8, tensors)
    rest = measured - Latency(table, latency)(configuration)
    found, _ = nnls(counted / measured[:, None], rest / measured)
    return tuple(found.tolist())
