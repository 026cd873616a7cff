"""Preferences: how much each objective counts."""

from collections.abc import Mapping, Sequence

import numpy as np

from prune_gym.objectives.objective import weights_array


def balanced(names: Sequence[str]) -> dict[str, float]:
    """Return default weights: accuracy as much as all costs together."""
    costs = max(len(names) - 1, 1)
    return {name: float(costs) if name == "accuracy" else 1.0 for name in names}


def concentration(names: Sequence[str], priorities: Mapping[str, float] | None) -> np.ndarray:
    """Return the Dirichlet parameters ``(k,)`` whose mean preference are the priorities.

    They sum to ``2 (k - 1)``, so that with the default priorities each cost's parameter is 1 (flat)
    and accuracy's is ``k - 1``. An objective of priority 0 still gets a sliver of weight.

    Raises:
        UserError: an unknown objective, a negative priority, or all zero.
    """
    mean = weights_array(priorities or balanced(names), names)
    return np.maximum(mean * max(2 * (len(names) - 1), 1), 0.05)
