"""Uniform pruning: one action for all groups, swept over its range. What one tries first."""

import gymnasium as gym
import numpy as np

from agents.parts.settings import Settings
from agents.parts.warm_up import spread


def search(env: gym.Env, settings: Settings) -> None:
    """Play ``settings.episodes`` episodes, each with one constant action.

    The actions are evenly spaced from -1 to 1, ends included, and come in an order that spreads
    them early (every half of the rest in turn), so that a short run covers the range too.
    """
    low, high = _range(env)
    for episode, share in enumerate(spread(settings.episodes)):
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
