"""Fronts and the hypervolume, everywhere the same."""

import moocore
import numpy as np


def non_dominated(returns: np.ndarray) -> np.ndarray:
    """Return which of the episode returns (n, k) no other dominates, ``bool (n,)``.

    Higher is better in every entry; of equal rows the first is kept.
    """
    if len(returns) == 0:
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(returns, maximise=True, keep_weakly=False)


def hypervolume(returns: np.ndarray, reference: np.ndarray) -> float:
    """Return the hypervolume of episode returns (n, k) as a share of the whole, in [0, 1].

    It is measured from ``reference`` (k,) (chance accuracy, and 0 for every saving) and divided by
    the volume to the ideal point (1, ..., 1). Returns below the reference add nothing.
    """
    reference = np.asarray(reference, dtype=np.float64)
    points = np.asarray(returns, dtype=np.float64).reshape(-1, len(reference))
    points = points[(points > reference).all(axis=1)]
    if len(points) == 0:
        return 0.0
    volume = moocore.hypervolume(points, ref=reference, maximise=True)
    return float(volume / np.prod(1.0 - reference))
