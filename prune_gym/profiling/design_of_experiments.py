"""Choose the widths to measure: a lattice over inputs and outputs of layers, and random ones."""

import math

import numpy as np

from prune_gym.costs.latency import INT8_BITS
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.layer_table import LayerTable

ROUND_TO = 8
MIN_KEEP = 0.125
GRID_WIDTHS = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
ACTION_NOISE = 0.3  # of the groups of a strategy, standard deviation of actions in [-1, 1]


def grid(size: int, each: int = 1) -> list[int]:
    """Return the ascending widths at which a group of ``size`` channels is measured.

    One channel of the group stands for ``each`` output channels.
    """
    least = _least(size, each)
    steps = (-(-step // each) for step in GRID_WIDTHS)
    return sorted({least, size, *(step for step in steps if least < step < size)})


def _least(size: int, each: int) -> int:
    step = _step(each)
    return min(size, int(-(-size * MIN_KEEP // step)) * step)


def _step(each: int) -> int:
    return ROUND_TO // math.gcd(ROUND_TO, each)


def lattice(table: LayerTable) -> list[np.ndarray]:
    """Return strategies in which every layer sees all pairs of the grid widths of its groups.

    In run (u, v), group g takes the width with index ``u + slope_g * v`` modulo a prime p. Groups
    that share a layer have different slopes, so each pair occurs once in the p * p runs.
    """
    grids = [grid(group.size, group.channels_each) for group in table.groups]
    most = max((len(widths) for widths in grids), default=1)
    prime = next(p for p in PRIMES if p >= most)
    slopes = _slopes(table, prime)
    return [
        np.array(
            [
                widths[(u + slope * v) % prime * len(widths) // prime]
                for widths, slope in zip(grids, slopes, strict=True)
            ]
        )
        for u in range(prime)
        for v in range(prime)
    ]


def _slopes(table: LayerTable, prime: int) -> list[int]:
    """Color the groups so that groups of one layer differ, as far as p colors allow."""
    shared: list[set[int]] = [set() for _ in table.groups]
    for layer in table.layers:
        counts = np.add(layer.inputs.per_group, layer.outputs.per_group)
        together = set(np.flatnonzero(counts).tolist())
        for group in together:
            shared[group] |= together - {group}
    slopes: list[int] = []
    for group in range(len(table.groups)):
        taken = [slopes[other] for other in shared[group] if other < group]
        # The least used by neighbors, then the least used of all.
        slopes.append(min(range(prime), key=lambda s: (taken.count(s), slopes.count(s))))
    return slopes


def random_bits(table: LayerTable, count: int, seed: int) -> np.ndarray:
    """Return bits of weights, 8 or 32: a random share of each strategy's layers has 8.

    They are ``int (count, layers with weights)``.
    """
    rng = np.random.default_rng(seed)
    shares = rng.uniform(size=(count, 1))
    return np.where(rng.uniform(size=(count, len(table.weighted))) < shares, INT8_BITS, FLOAT_BITS)


def random_strategies(table: LayerTable, count: int, seed: int) -> list[np.ndarray]:
    """Return strategies around random overall ratios, like those of the agent ``random-ratio``.

    Each is ``int (groups,)`` and keeps multiples of eight channels, at least an eighth of them.
    """
    rng = np.random.default_rng(seed)
    full = table.full
    least = np.array([_least(group.size, group.channels_each) for group in table.groups])
    step = np.array([_step(group.channels_each) for group in table.groups])
    strategies = []
    for _ in range(count):
        noise = rng.normal(0.0, ACTION_NOISE, size=len(full))
        actions = np.clip(rng.uniform(-1.0, 1.0) + noise, -1.0, 1.0)
        widths = least + (full - least) * (actions + 1) / 2
        rounded = step * np.rint(widths / step)
        strategies.append(np.clip(rounded, least, full).astype(np.int64))
    return strategies
