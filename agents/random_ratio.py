"""Random overall ratios: each episode prunes around one random ratio, with noise per group.

Independent uniform actions (``random``) all give strategies of about the same size. This baseline
covers every size, as the warm-up of the learning agents does, so that what they learn can be told
from what their warm-up finds.
"""

import gymnasium as gym
import numpy as np

from agents.parts.playing import play
from agents.parts.settings import Settings
from agents.parts.spaces import require_actions
from agents.parts.warm_up import random_ratio


def search(env: gym.Env, settings: Settings) -> None:
    """Play ``settings.episodes`` episodes on an environment with continuous actions."""
    require_actions(env, gym.spaces.Box, "random-ratio")
    rng = np.random.default_rng(settings.seed)
    decisions = len(env.unwrapped.decisions)  # type: ignore[attr-defined]
    for episode in range(settings.episodes):
        play(env, random_ratio(rng, decisions), settings.seed if episode == 0 else None)
