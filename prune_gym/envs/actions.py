"""Actions: what an agent may hand to ``step``."""

from typing import Any

import numpy as np
from gymnasium import spaces

from prune_gym.errors import UserError


def as_number(action: Any, space: spaces.Space) -> float:
    """Check an action and return it as a number in [-1, 1].

    Args:
        action: an array of shape (1,), clipped to [-1, 1]; or a whole number of a discrete space,
            whose actions are spread evenly from -1 to 1.
        space: the environment's.

    Raises:
        UserError: another shape, not finite, or no action of the discrete space.
    """
    if isinstance(space, spaces.Discrete):
        if not space.contains(action):
            raise UserError(f"expected an action in 0..{space.n - 1}, got {action!r}")
        return 2 * int(action) / max(int(space.n) - 1, 1) - 1
    try:
        array = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # text, nothing, ragged rows, 10**400
        array = np.empty(0)
    if array.shape != (1,) or not np.isfinite(array).all():
        raise UserError(
            f"expected an action of shape (1,) with a finite number in [-1, 1], got {action!r}"
        )
    return min(max(float(array[0]), -1.0), 1.0)
