"""Figures of merit of one cell, from the episode returns of what it has evaluated."""

import numpy as np

from prune_gym.objectives.pareto import hypervolume, non_dominated

CHECKPOINTS = 100
EARLY = (20, 60)  # evaluations that have a checkpoint and a column in the table


def checkpoints(evaluations: int) -> list[int]:
    """Return the numbers of evaluations at which figures are given, the last one included."""
    spaced = np.linspace(1, evaluations, CHECKPOINTS).round().astype(int)
    early = [count for count in EARLY if count < evaluations]
    return np.unique(np.concatenate([spaced, early]).astype(int)).tolist()


def hypervolume_curve(returns: np.ndarray, counts: list[int], reference: np.ndarray) -> list[float]:
    """Return the hypervolume of the first so many evaluations, for ascending ``counts``.

    Args:
        returns: of everything evaluated, in its order, ``(n, k)``.
        counts: how many of them.
        reference: point that hypervolume is measured from, ``(k,)``.
    """
    volumes, front, before = [], returns[:0], 0
    for count in counts:
        front = np.concatenate([front, returns[before:count]])
        front = front[non_dominated(front)]
        volumes.append(hypervolume(front, reference))
        before = count
    return volumes


def utility_curve(returns: np.ndarray, counts: list[int], grid: np.ndarray) -> list[float]:
    """Return the expected utility of the first so many evaluations, for every count.

    It is the mean over the preferences of the grid ``(p, k)`` of the best weighted sum of returns
    (Zintgraf et al. 2015).
    """
    best = np.maximum.accumulate(returns @ grid.T, axis=0)
    return [float(best[count - 1].mean()) for count in counts]


def proposed_utility(proposed: np.ndarray, grid: np.ndarray) -> float:
    """Return the mean utility of what was proposed for every preference; both ``(p, k)``."""
    return float((proposed * grid).sum(axis=1).mean())
