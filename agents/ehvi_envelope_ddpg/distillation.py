"""Distillation: a policy learns to propose the best strategies that its search has found.

Reinforcement learning leaves an actor that lags behind the strategies that its own search found.
For every preference, and within any budgets, the best evaluated strategy is known, and its
decisions are the right answers in every state that the actor reaches when it is asked for them. So
the actor is rolled out without evaluation and learns them there: DAgger (Ross, Gordon & Bagnell,
AISTATS 2011). An observation shows what the budgets leave open, so the actor can learn to plan for
budgets that the search did not have.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3 import TD3
from torch.nn import functional as F

from prune_gym.agents.common.sb3_training import descend
from prune_gym.envs.rollouts import rollout
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.pareto import non_dominated
from prune_gym.objectives.selection import Scalarization, best_for

ROUNDS = 20  # at most: one for every evaluated strategy
FREE, BUDGETED = 8, 24  # episodes in a round: without more budgets, and each within its own
SLACK = (1.01, 1.5)  # of a drawn budget, as a multiple of what an evaluated strategy costs
BATCH = 256  # of what the actor met in all rounds so far


class Archive(NamedTuple):
    """What a search has evaluated.

    Attributes:
        values: of the strategies' decisions, ``(n, decisions)``.
        returns: ``(n, k)``.
    """

    values: np.ndarray
    returns: np.ndarray


def imitate(
    agent: TD3,
    problem: CompressionProblem,
    archive: Archive,
    draw: Callable[[int], torch.Tensor],
    updates: int,
    scalarization: Scalarization = "linear",
) -> None:
    """Teach an actor to play the best strategy of an archive for any preference and budgets.

    Args:
        agent: its actor reads an observation with the preference at its end.
        problem: what the strategies are of.
        archive: what was evaluated.
        draw: returns so many preferences, ``(m, k)``.
        updates: of the actor, shared by the rounds.
        scalarization: what the best for a preference is.
    """
    met, answers = [], []
    rounds = min(ROUNDS, len(archive.values))
    front = Archive(*(part[non_dominated(archive.returns)] for part in archive))
    for _ in range(rounds):
        asked = [(problem, draw(FREE).cpu().numpy())]
        preferences = draw(BUDGETED).cpu().numpy()
        preferences[::2] = _most_accurate(problem, preferences[::2])
        for preference in preferences:
            asked.append((_within_budgets(problem, front), preference[None]))
        for within, preferences in asked:
            states, right = _play(agent, within, archive, preferences, scalarization)
            met.append(states)
            answers.append(right)
        states, right = torch.cat(met), torch.cat(answers)
        for _ in range(math.ceil(updates / rounds)):
            batch = torch.randint(len(states), (BATCH,))
            descend(agent.actor.optimizer, F.mse_loss(agent.actor(states[batch]), right[batch]))
    agent.actor_target.load_state_dict(agent.actor.state_dict())


def _most_accurate(problem: CompressionProblem, preferences: np.ndarray) -> np.ndarray:
    """Return preferences for accuracy alone, what people want within budgets, or those given."""
    names = [objective.name for objective in problem.objectives]
    accuracy = np.array([name == "accuracy" for name in names], preferences.dtype)
    return np.broadcast_to(accuracy, preferences.shape) if accuracy.any() else preferences


def _within_budgets(problem: CompressionProblem, front: Archive) -> CompressionProblem:
    """Return a problem within drawn budgets that a strategy of the front meets.

    They are what that strategy costs, and a little more, in one cost and perhaps others; a cost of
    which nothing is saved gets none. The strategy is drawn so that tight and wide budgets on the
    first cost are equally frequent.
    """
    names = [objective.name for objective in problem.objectives]
    costs = [column for column, name in enumerate(names) if name != "accuracy"]
    if not costs:
        return problem
    limits = dict(problem.budgets.limits)
    first = np.random.choice(costs)
    savings = front.returns[:, first]
    wanted = np.random.uniform(savings.min(), savings.max())
    chosen = np.abs(savings - wanted).argmin()
    for column in costs:
        if column == first or np.random.random() < 0.5:
            share = (1 - front.returns[chosen, column]) * np.random.uniform(*SLACK)
            if share < limits.get(names[column], 1.0):
                limits[names[column]] = share
    return problem.with_budgets(limits, front.values[chosen])


def _play(
    agent: TD3,
    problem: CompressionProblem,
    archive: Archive,
    preferences: np.ndarray,
    scalarization: Scalarization,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the actor sees in an episode for each preference, and the right answers."""

    def seen(observations: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        return np.concatenate([observations, preferences[episodes]], axis=1).astype(np.float32)

    played = rollout(
        problem, lambda o, episodes: agent.predict(seen(o, episodes))[0], len(preferences)
    )
    kept = problem.feasible(archive.values)
    values, returns = archive.values[kept], archive.returns[kept]
    best = values[[best_for(returns, each, scalarization) for each in preferences]]
    asked = zip(played.decision, best[played.episode, played.decision], strict=True)
    right = np.array([problem.decisions[at].encode(value) for at, value in asked], np.float32)
    states = seen(played.observations, played.episode)
    device = agent.device
    return torch.as_tensor(states, device=device), torch.as_tensor(right[:, None], device=device)
