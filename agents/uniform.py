"""Uniform pruning: one action for all groups, swept over its range. What one tries first."""

import gymnasium as gym
import numpy as np

from agents.settings import Settings


def search(env: gym.Env, settings: Settings) -> None:
    """Play ``settings.episodes`` episodes, each with one constant action.

    The actions are evenly spaced from -1 to 1, ends included, and come in an order that spreads
    them early (every half of the rest in turn), so that a short run covers the range too.
    """
    low, high = _range(env)
    for episode, share in enumerate(_spread(settings.episodes)):
        env.reset(seed=settings.seed if episode == 0 else None)
        terminated = False
        while not terminated:
            action = low + share * (high - low)
            choice = int(round(action)) if low == 0 else np.array([action], dtype=np.float32)
            _, _, terminated, _, _ = env.step(choice)


def _range(env: gym.Env) -> tuple[float, float]:
    if isinstance(env.action_space, gym.spaces.Discrete):
        return 0, int(env.action_space.n) - 1
    return -1.0, 1.0


def _spread(count: int) -> np.ndarray:
    """Return ``count`` evenly spaced numbers from 0 to 1 in van der Corput's order."""
    bits = max(count - 1, 1).bit_length()
    reversed_bits = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits)]
    order = [i for i in reversed_bits if i < count]
    return np.linspace(0.0, 1.0, count)[order]
