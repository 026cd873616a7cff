"""Choose one of many strategies: the knee of the front, or the best for a preference."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from prune_gym.errors import UserError
from prune_gym.objectives.objective import weights_array
from prune_gym.objectives.pareto import non_dominated
from prune_gym.objectives.preferences import balanced

Scalarization = Literal["linear", "tchebycheff"]
AUGMENTATION = 0.05  # so that objectives of weight 0 decide between equals


def knee_point(returns: np.ndarray, names: Sequence[str]) -> int:
    """Return the index of the knee, where more of one objective starts to cost much of the others.

    The knee is the non-dominated point farthest from the plane through the ends of the front, with
    each objective scaled to [0, 1] over the front (Das 1999, "On characterizing the knee of the
    Pareto curve"). Costs rise and fall together and would outvote accuracy, so accuracy counts as
    much as all costs (`prune_gym.objectives.preferences.balanced`). Of equally far points the
    first is returned.

    Args:
        returns: episode returns, higher is better in every entry, ``(n, k)``.
        names: names of the k objectives.

    Raises:
        UserError: ``returns`` is empty.
    """
    returns = np.asarray(returns, dtype=np.float64)
    if len(returns) == 0:
        raise UserError("knee_point: expected at least one strategy, got none")
    candidates = np.flatnonzero(non_dominated(returns))
    front = returns[candidates]
    span = np.ptp(front, axis=0)
    scaled = (front - front.min(axis=0)) / np.where(span > 0, span, 1.0)
    return int(candidates[best_for(scaled, weights_array(balanced(names), names))])


def best_for(
    returns: np.ndarray, weights: np.ndarray, scalarization: Scalarization = "linear"
) -> int:
    """Return the index of the best of several returns for a preference.

    - ``linear``: the largest weighted sum. It is never in a hollow of the front.
    - ``tchebycheff``: the smallest ``max_i w_i d_i + 0.05 sum_i d_i``, where d is how far an
      objective is below the best of all returns (augmented Tchebycheff, Steuer & Choo 1983). Every
      point of the front, in a hollow or not, is the best for some preference.

    Args:
        returns: higher is better in every entry, ``(n, k)``.
        weights: of the objectives, ``(k,)``.
        scalarization: how a preference is read.

    Raises:
        UserError: ``returns`` is empty.
    """
    returns = np.asarray(returns, dtype=np.float64)
    if len(returns) == 0:
        raise UserError("best_for: expected at least one strategy, got none")
    if scalarization == "linear":
        return int((returns @ weights).argmax())
    below = returns.max(axis=0) - returns
    return int(((below * weights).max(axis=1) + AUGMENTATION * below.sum(axis=1)).argmin())
