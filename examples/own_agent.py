"""An agent of your own that plans whole strategies with what is known without evaluation.

    PYTHONPATH=examples prune-gym train --env ChannelPrune-Table-v0 --agent own_agent:search

Costs are exact and take microseconds, and every decision says how much output energy it is
expected to lose. So this agent draws many strategies, and evaluates one that loses little for
what it saves.
"""

import gymnasium as gym
import numpy as np

from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.rollout import play

DRAWN = 500  # strategies for each evaluation


def search(env: gym.Env, settings: Settings) -> None:
    """Evaluate ``settings.episodes`` strategies, each the most promising one at its own size."""
    problem, rng = problem_of(env), np.random.default_rng(settings.seed)
    decisions = problem.decisions
    for target in rng.permutation(np.linspace(0.05, 0.95, settings.episodes)):
        actions = rng.uniform(-1, 1, (DRAWN, len(decisions)))
        values = problem.space.canonicalise(problem.space.decode(actions))
        saved = problem.savings(values).sum(axis=1) / (len(problem.objectives) - 1)
        lost = sum(
            np.interp(values[:, index], decision.options, decision.sensitivity)
            for index, decision in enumerate(decisions)
        )
        worth = lost + 5 * np.abs(saved - target) + 1e3 * ~problem.feasible(values)
        play(env, problem.space.encode(values[worth.argmin()]))
