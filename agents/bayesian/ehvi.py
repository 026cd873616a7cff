"""Bayesian optimisation: a Gaussian process and expected hypervolume improvement, no policy.

What the main agent's choice of strategies does without the proposals of its actor.
"""

import gymnasium as gym
import numpy as np

from prune_gym.agents.bayesian.acquisition import Imagination
from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings
from prune_gym.agents.common.initial_design import warm_up
from prune_gym.agents.common.rollout import play


def search(env: gym.Env, settings: Settings) -> None:
    """Evaluate the initial design, then always the strategy that promises most hypervolume."""
    require_actions(env, gym.spaces.Box, "ehvi")
    core = env.unwrapped
    imagination, played = Imagination(core, settings.seed), 0
    actions = warm_up(settings.episodes, len(core.decisions), settings.seed)
    while played < settings.episodes:
        infos = [play(env, row, None if played else settings.seed)[1] for row in actions]
        played += len(infos)
        values = np.array([core.values_of(info["strategy"]) for info in infos])
        imagination.learn(values, np.array([info["accuracy"] for info in infos]))
        if played < settings.episodes:
            chosen = imagination.choose(np.empty((0, len(core.decisions))))
            actions = core.plan.encode(chosen)[None]
