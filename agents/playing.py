"""Playing a whole strategy: what population-based agents do instead of deciding step by step."""

from typing import Any

import gymnasium as gym
import numpy as np


def play(
    env: gym.Env, actions: np.ndarray, seed: int | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Play one episode on a vector environment with continuous actions.

    Args:
        env: the environment, wrapped or not.
        actions: one per decision, in [-1, 1], ``(decisions,)``; those of decisions that are not
            made (in a skipped block) are not played.
        seed: for ``reset``.

    Returns:
        The episode's return ``float64 (reward_dim,)`` and the terminal info.
    """
    core: Any = env.unwrapped
    env.reset(seed=seed)
    total, terminated = np.zeros(core.reward_dim), False
    info: dict[str, Any] = {}
    while not terminated:
        action = np.array([actions[core.next_decision]], dtype=np.float32)
        _, reward, terminated, _, info = env.step(action)
        total += reward
    return total, info
