"""Rollouts of a policy without evaluation: decisions, budgets and costs are exact."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prune_gym.envs.episodes import EpisodeBatch
from prune_gym.evaluation.problem import CompressionProblem


class Rollouts(NamedTuple):
    """Finished episodes and their m transitions, those of a step together.

    Attributes:
        values: of the episodes' decisions, ``float64 (episodes, decisions)``.
        episode: which episode a transition is of, ``(m,)``.
        decision: which decision it makes, ``(m,)``.
        observations: ``float32 (m, observation)``.
        actions: ``float32 (m, 1)``.
        rewards: with 0 for accuracy, ``float32 (m, reward_dim)``.
        next_observations: ``float32 (m, observation)``.
        ended: ``bool (m,)``.
    """

    values: np.ndarray
    episode: np.ndarray
    decision: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    ended: np.ndarray


def rollout(
    problem: CompressionProblem,
    act: Callable[[np.ndarray, np.ndarray], np.ndarray],
    episodes: int,
    reward: str = "incremental",
) -> Rollouts:
    """Roll out several episodes as one batch.

    Args:
        problem: what is decided.
        act: (observations ``(n, observation)``, which episodes they are of ``(n,)``) -> actions
            ``(n, 1)``.
        episodes: how many.
        reward: as `CompressionEnv` takes it.
    """
    batch = EpisodeBatch(problem, episodes, reward)
    observations = batch.observations
    values, going_on = np.empty((episodes, len(problem.space))), np.arange(episodes)
    steps: list[tuple[np.ndarray, ...]] = []
    while len(going_on):
        actions, made = act(observations, going_on).astype(np.float32), batch.index
        following, rewards = batch.step(actions[:, 0])
        ended = batch.ended
        steps.append((going_on, made, observations, actions, rewards, following, ended))
        values[going_on[ended]] = batch.values[ended]
        batch.keep(~ended)
        observations, going_on = following[~ended], going_on[~ended]
    return Rollouts(values, *(np.concatenate(part) for part in zip(*steps, strict=True)))


def decode_within_budgets(problem: CompressionProblem, actions: np.ndarray) -> np.ndarray:
    """Return what whole strategies of actions become in an episode, ``(n, decisions)``.

    Args:
        problem: what is decided; its budgets may move values.
        actions: in [-1, 1], ``(n, decisions)``.
    """
    batch, rows = EpisodeBatch(problem, len(actions)), np.arange(len(actions))
    values = np.empty((len(actions), len(problem.space)))
    while len(rows):
        batch.step(actions[rows, batch.index])
        values[rows[batch.ended]] = batch.values[batch.ended]
        rows = rows[~batch.ended]
        batch.keep(~batch.ended)
    return values
