"""Choosing one strategy out of many: the knee, the best for a preference, the best under limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prune_gym.errors import unknown
from prune_gym.pareto import non_dominated


def knee_point(returns: np.ndarray) -> int:
    """Return the index of the knee: beyond it, a little more of one costs much of the others.

    It is the non-dominated point farthest from the plane through the ends of the front, each
    objective scaled to [0, 1] over the front (Das 1999, "On characterizing the knee of the Pareto
    curve"). Of equally far ones it is the first.

    Args:
        returns: episode returns, higher is better in every entry, ``(n, k)``.

    Raises:
        ValueError: there is none to choose from.
    """
    returns = np.asarray(returns, dtype=np.float64)
    if len(returns) == 0:
        raise ValueError("knee_point: expected at least one strategy, got none")
    candidates = np.flatnonzero(non_dominated(returns))
    front = returns[candidates]
    span = np.ptp(front, axis=0)
    scaled = (front - front.min(axis=0)) / np.where(span > 0, span, 1.0)
    return int(candidates[scaled.sum(axis=1).argmax()])


def best_for(returns: np.ndarray, weights: np.ndarray) -> int:
    """Return the index of the largest weighted sum of returns ``(n, k)``; weights ``(k,)``.

    Raises:
        ValueError: there is none to choose from.
    """
    if len(returns) == 0:
        raise ValueError("best_for: expected at least one strategy, got none")
    return int((np.asarray(returns, dtype=np.float64) @ weights).argmax())


def best_under(records: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> int:
    """Return the index of the most accurate record that exceeds none of the limits.

    Args:
        records: metrics of strategies in natural units (``accuracy``, ``latency_ms``, ...).
        limits: metric -> the most that it may be, in the same units.

    Raises:
        ValueError: no such metric, or no record keeps to the limits; the message says how low
            each metric gets.
    """
    for metric in limits:
        if not records or metric not in records[0]:
            known = [name for name in (records[0] if records else {}) if name != "strategy"]
            raise ValueError(unknown("metric", metric, known))
    kept = [i for i, r in enumerate(records) if all(r[m] <= most for m, most in limits.items())]
    if not kept:
        asked = ", ".join(f"{metric} <= {most:g}" for metric, most in limits.items())
        least = ", ".join(f"{metric} {min(r[metric] for r in records):g}" for metric in limits)
        raise ValueError(f"no strategy has {asked}; the least there is, each by itself: {least}")
    return max(kept, key=lambda index: records[index]["accuracy"])
