"""Evaluate what saves much and loses little output energy: a plan that needs no accuracy.

The environment measures how much output energy every option loses, and costs are exact. So good
strategies are known before the first evaluation, and which of them to evaluate first. Accuracies
that are measured change nothing. There is no initial design.
"""

import gymnasium as gym
import numpy as np

from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.candidates import mutate
from prune_gym.agents.common.rollout import play_all
from prune_gym.agents.sensitivity.order import by_expected_hypervolume
from prune_gym.agents.sensitivity.outlook import Outlook
from prune_gym.agents.sensitivity.plans import plan
from prune_gym.evaluation.problem import CompressionProblem

TRIES = 20  # to find as many strategies as there are episodes


def search(env: gym.Env, settings: Settings) -> None:
    """Evaluate the planned strategies, the most useful first.

    Raises:
        UserError: the environment has discrete actions.
    """
    require_actions(env, gym.spaces.Box, "sensitivity")
    problem = problem_of(env)
    values = planned(problem, settings.episodes, settings.seed)
    play_all(env, problem.space.encode(values), settings.seed)


def planned(problem: CompressionProblem, count: int, seed: int | None) -> np.ndarray:
    """Return ``count`` strategies within the budgets, the most useful first, (count, decisions).

    They are distinct as long as there are so many; mutations of the planned ones come last.
    """
    rng, outlook = np.random.default_rng(seed), Outlook(problem)
    values = plan(outlook, rng)
    values = by_expected_hypervolume(outlook, values, min(count, len(values)), rng)
    for _ in range(TRIES):
        if len(values) >= count:
            break
        children = mutate(problem, values, rng)
        both = np.concatenate([values, children[problem.feasible(children)]])
        values = both[np.sort(np.unique(both, axis=0, return_index=True)[1])]
    return np.resize(values, (count, values.shape[1]))
