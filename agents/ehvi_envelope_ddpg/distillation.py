"""Distillation: a policy learns to propose the best strategies that its search has found.

Reinforcement learning leaves an actor that lags behind the strategies that its own search found.
For every preference the best evaluated strategy is known, and its decisions are the right answers
in every state that the actor reaches when it is asked for that preference. So the actor is rolled
out without evaluation and learns them there: DAgger (Ross, Gordon & Bagnell, AISTATS 2011).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from stable_baselines3 import TD3
from torch.nn import functional as F

from prune_gym.agents.common.sb3_training import descend
from prune_gym.envs.rollouts import rollout
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.objectives.selection import best_for

ROUNDS = 20  # at most: one for every evaluated strategy
EPISODES = 32  # rolled out in a round, each for another preference
BATCH = 256  # of what the actor met in all rounds so far


def imitate(
    agent: TD3,
    problem: CompressionProblem,
    values: np.ndarray,
    returns: np.ndarray,
    draw: Callable[[int], torch.Tensor],
    updates: int,
) -> None:
    """Teach an actor to play, for any preference, the best strategy that was evaluated.

    Args:
        agent: its actor reads an observation with the preference at its end.
        problem: what the strategies are of.
        values: of evaluated strategies' decisions, ``(n, decisions)``.
        returns: their returns, ``(n, k)``.
        draw: returns so many preferences, ``(m, k)``.
        updates: of the actor, shared by the rounds.
    """
    met, answers = [], []
    rounds = min(ROUNDS, len(values))
    for _ in range(rounds):
        preferences = draw(EPISODES).cpu().numpy()
        states, right = _play(agent, problem, values, returns, preferences)
        met.append(states)
        answers.append(right)
        states, right = torch.cat(met), torch.cat(answers)
        for _ in range(math.ceil(updates / rounds)):
            batch = torch.randint(len(states), (BATCH,))
            descend(agent.actor.optimizer, F.mse_loss(agent.actor(states[batch]), right[batch]))
    agent.actor_target.load_state_dict(agent.actor.state_dict())


def _play(
    agent: TD3,
    problem: CompressionProblem,
    values: np.ndarray,
    returns: np.ndarray,
    preferences: np.ndarray,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the actor sees in an episode for each preference, and the right answers."""

    def seen(observations: np.ndarray, episodes: np.ndarray) -> np.ndarray:
        return np.concatenate([observations, preferences[episodes]], axis=1).astype(np.float32)

    played = rollout(
        problem, lambda o, episodes: agent.predict(seen(o, episodes))[0], len(preferences)
    )
    best = values[[best_for(returns, preference) for preference in preferences]]
    asked = zip(played.decision, best[played.episode, played.decision], strict=True)
    right = np.array([problem.decisions[at].encode(value) for at, value in asked], np.float32)
    states = seen(played.observations, played.episode)
    device = agent.device
    return torch.as_tensor(states, device=device), torch.as_tensor(right[:, None], device=device)
