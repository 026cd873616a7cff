"""Define preferences: how much each objective counts."""

from collections.abc import Mapping, Sequence

import numpy as np

from prune_gym.objectives.objective import weights_array


def balanced(names: Sequence[str]) -> dict[str, float]:
    """Return the default weights: accuracy counts as much as all costs together."""
    costs = max(len(names) - 1, 1)
    return {name: float(costs) if name == "accuracy" else 1.0 for name in names}


def concentration(names: Sequence[str], priorities: Mapping[str, float] | None) -> np.ndarray:
    """Return the Dirichlet parameters ``(k,)`` whose mean preference are the priorities.

    They sum to ``2 (k - 1)``. With the default priorities the parameter of every cost is 1 (flat)
    and that of accuracy is ``k - 1``. An objective of priority 0 still gets a small weight.

    Raises:
        UserError: an unknown objective, a negative priority, or all zero.
    """
    mean = weights_array(priorities or balanced(names), names)
    return np.maximum(mean * max(2 * (len(names) - 1), 1), 0.05)
