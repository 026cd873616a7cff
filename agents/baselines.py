"""Baselines that learn nothing: what every agent must beat."""

import gymnasium as gym
import numpy as np

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import random_ratio as sample_ratios
from prune_gym.agents.common.initial_design import van_der_corput
from prune_gym.agents.common.rollout import play


def random(env: gym.Env, settings: Settings) -> None:
    """Play episodes of independent actions, uniform over the action space."""
    env.action_space.seed(settings.seed)
    for episode in range(settings.episodes):
        env.reset(seed=settings.seed if episode == 0 else None)
        terminated = False
        while not terminated:
            _, _, terminated, _, _ = env.step(env.action_space.sample())


def random_ratio(env: gym.Env, settings: Settings) -> None:
    """Play episodes that prune around one random ratio each, with noise per decision.

    Independent actions (``random``) all give strategies of about the same size. These cover every
    size, as the initial design of the learning agents does: what those learn can be told from what
    their initial design finds.
    """
    require_actions(env, gym.spaces.Box, "random-ratio")
    rng = np.random.default_rng(settings.seed)
    decisions = len(problem_of(env).space)
    for episode in range(settings.episodes):
        play(env, sample_ratios(rng, decisions), settings.seed if episode == 0 else None)


def uniform(env: gym.Env, settings: Settings) -> None:
    """Play episodes of one constant action each, evenly spaced from -1 to 1, ends included.

    Their order spreads them early (every half of the rest in turn), so that a short run covers the
    range too.
    """
    low, high = _range(env)
    for episode, share in enumerate(van_der_corput(settings.episodes)):
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
