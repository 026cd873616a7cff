"""Random overall ratios: each episode prunes around one random ratio, with noise per group.

Independent uniform actions (``random``) all give strategies of about the same size. This baseline
covers every size, as the warm-up of the envelope DDPG does, so that what the agent learns can be
told from what its warm-up finds.
"""

import gymnasium as gym
import numpy as np

from agents.settings import Settings
from agents.spaces import require_actions

NOISE = 0.3  # standard deviation, in units of actions in [-1, 1]


def search(env: gym.Env, settings: Settings) -> None:
    """Play ``settings.episodes`` episodes on an environment with continuous actions."""
    require_actions(env, gym.spaces.Box, "random-ratio")
    rng = np.random.default_rng(settings.seed)
    for episode in range(settings.episodes):
        env.reset(seed=settings.seed if episode == 0 else None)
        ratio, terminated = rng.uniform(-1.0, 1.0), False
        while not terminated:
            action = np.clip(ratio + rng.normal(0.0, NOISE, size=1), -1.0, 1.0)
            _, _, terminated, _, _ = env.step(action.astype(np.float32))
