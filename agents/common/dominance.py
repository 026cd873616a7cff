"""Which samples of a box strategies would dominate: hypervolume is estimated by their number."""

import numpy as np

from prune_gym.objectives.pareto import non_dominated


def exceeds(returns: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return which returns (n, k) exceed which samples (m, k) in all entries, ``bool (n, m)``."""
    found = np.ones((len(returns), len(samples)), dtype=bool)
    for returned, sampled in zip(returns.T, np.ascontiguousarray(samples.T), strict=True):
        found &= sampled < returned[:, None]
    return found


def reachable(samples: np.ndarray, returns: np.ndarray, count: int) -> np.ndarray:
    """Return the first samples (m, k) that some of the returns (n, k) exceed, at most ``count``."""
    returns, found = returns[non_dominated(returns)], samples[:0]
    for start in range(0, len(samples), count):
        some = samples[start : start + count]
        found = np.concatenate([found, some[exceeds(returns, some).any(axis=0)]])
        if len(found) >= count:
            break
    return found[:count]
