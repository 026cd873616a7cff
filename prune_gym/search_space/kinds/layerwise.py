"""What kinds that decide about single layers with weights have in common."""

from collections.abc import Callable

import numpy as np

from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds.base import NetworkStatistics
from prune_gym.search_space.kinds.options import SpaceOptions

DENSITY_STEP = 0.05
# A sample of a layer's weights and the options -> the share of energy that each of them loses.
Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


def per_layer(
    network: NetworkStatistics,
    limits: SpaceOptions,
    kind: str,
    original: float,
    options: np.ndarray,
    grid: np.ndarray,
    loss: Loss,
) -> list[Decision]:
    """Return one decision per layer with weights that may change, all with the same options."""
    table, decisions = network.table, []
    for column, index in enumerate(table.weighted):
        name = table.layers[index].name
        if not limits.may_change([name]):
            continue
        sensitivity = loss(network.weights(index), options)
        about = (kind, name, original, options, grid, (column,), index, sensitivity)
        decisions.append(Decision(*about, table.block_around([name])))
    return decisions


def densities(options: SpaceOptions) -> np.ndarray:
    """Return the densities to choose from, ascending: multiples of 0.05 and the least one."""
    steps = np.arange(np.ceil(options.min_density / DENSITY_STEP - 1e-9), 1 / DENSITY_STEP + 0.5)
    return np.unique(np.append(np.round(steps * DENSITY_STEP, 2), options.min_density))


def pruning_loss(weights: np.ndarray, densities: np.ndarray) -> np.ndarray:
    """Return the share of the weights' energy that magnitude pruning takes away."""
    energy = np.sort(weights.ravel() ** 2)
    below = np.concatenate([[0.0], np.cumsum(energy, dtype=np.float64)])
    removed = np.round((1 - densities) * len(energy)).astype(int)
    return below[removed] / max(below[-1], 1e-12)
