"""Bayesian optimization: a Gaussian process and expected hypervolume improvement, no policy.

It chooses strategies as the main agent does, without the proposals of an actor. In place of a
initial design it begins with a few strategies that are planned from sensitivities.
"""

import gymnasium as gym
import numpy as np

from prune_gym.agents.bayesian.acquisition import Acquisition
from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.rollout import play
from prune_gym.agents.sensitivity.sensitivity import planned

INITIAL = 3  # evaluations that tell how fast accuracy falls with the energy lost


def search(env: gym.Env, settings: Settings, sensitivities: bool = True) -> None:
    """Evaluate a few planned strategies, then always that of most expected improvement.

    Without sensitivities the shared initial design takes the place of the planned strategies.
    """
    require_actions(env, gym.spaces.Box, "ehvi")
    problem, played = problem_of(env), 0
    acquisition = Acquisition(problem, settings.seed, sensitivities=sensitivities)
    if sensitivities:
        initial = planned(problem, min(INITIAL, settings.episodes), settings.seed)
        actions = problem.space.encode(initial)
    else:
        actions = initial_design(settings.episodes, len(problem.space), settings.seed)
    while played < settings.episodes:
        infos = [play(env, row, None if played else settings.seed)[1] for row in actions]
        played += len(infos)
        values = np.array([problem.values_of(info["strategy"]) for info in infos])
        acquisition.observe(values, np.array([info["accuracy"] for info in infos]))
        if played < settings.episodes:
            chosen = acquisition.suggest(np.empty((0, len(problem.space))))
            actions = problem.space.encode(chosen)[None]
