"""Compute Pareto fronts and the hypervolume."""

import moocore
import numpy as np


def non_dominated(returns: np.ndarray) -> np.ndarray:
    """Return which of the episode returns (n, k) are not dominated, ``bool (n,)``.

    Higher is better in every entry; of equal rows the first is kept.
    """
    if len(returns) == 0:
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(returns, maximise=True, keep_weakly=False)


def hypervolume(returns: np.ndarray, reference: np.ndarray) -> float:
    """Return the normalized hypervolume of episode returns (n, k), in [0, 1].

    The reference point ``reference`` (k,) is the chance accuracy, and 0 for every saving. The
    volume is divided by the volume between ``reference`` and the ideal point (1, ..., 1). Returns
    below the reference point add nothing.
    """
    reference = np.asarray(reference, dtype=np.float64)
    points = np.asarray(returns, dtype=np.float64).reshape(-1, len(reference))
    points = points[(points > reference).all(axis=1)]
    if len(points) == 0:
        return 0.0
    volume = moocore.hypervolume(points, ref=reference, maximise=True)
    return float(volume / np.prod(1.0 - reference))
