"""How many channels of a group stay (AMC, MCMC)."""

import math

import numpy as np

from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.options import SpaceOptions


def channel_decisions(evaluator: Evaluator, rules: SpaceOptions) -> list[Decision]:
    """Return one decision per channel group: multiples of ``round_to``, and all channels."""
    table, errors = evaluator.table, evaluator.calibration.errors
    position = {layer.name: i for i, layer in enumerate(table.layers)}
    decisions = []
    for index, group in enumerate(table.groups):
        options = widths(group.size, rules, group.channels_each)
        layer = position[next(m.module for m in group.members if m.dim == "out")]
        lost = errors[index][options]
        inside = table.block_around(member.module for member in group.members)
        decisions.append(
            Decision(
                *("channels", group.name, group.size, options, options, (index,), layer, lost),
                inside,
            )
        )
    return decisions


def widths(size: int, rules: SpaceOptions, each: int = 1) -> np.ndarray:
    """Return the widths that a group of ``size`` channels may be cut to, ascending.

    Where one of them stands for ``each`` output channels, those are multiples of ``round_to``.
    """
    lowest = max(1, int(np.ceil(rules.min_keep * size - 1e-9)))
    step = rules.round_to // math.gcd(rules.round_to, each)
    first = -(-lowest // step) * step
    multiples = np.arange(first, size + 1, step)
    return np.unique(np.append(multiples, size)).astype(np.int64)
