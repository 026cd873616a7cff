"""Episodes in imagination: decisions, budgets and costs are real, no candidate is built."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.configuration import Configuration


class _Unscored(Evaluator):
    """An evaluator that shares everything with another one and scores nothing."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.__dict__.update(evaluator.__dict__)

    def accuracy(self, configuration: Configuration) -> float:
        """Return 0: nobody knows before the candidate is built."""
        return 0.0


def imagined(env: CompressionEnv) -> CompressionEnv:
    """Return an environment of the same task that steps in microseconds; its accuracy is 0."""
    twin = copy.copy(env)
    twin._evaluator = _Unscored(env.evaluator)
    # What is measured by the clock and no objective would build and time a candidate.
    wanted = {objective.name for objective in env.objectives}
    twin._costs = {n: cost for n, cost in env.costs.items() if cost.deterministic or n in wanted}
    return twin


class Imagined(NamedTuple):
    """Episodes that were imagined, and their m transitions, those of a step together.

    Attributes:
        values: of the episodes' decisions, ``float64 (episodes, decisions)``.
        episode: which episode a transition is of, ``(m,)``.
        decision: which decision it makes, ``(m,)``.
        observations: ``float32 (m, observation)``.
        actions: ``float32 (m, 1)``.
        rewards: with 0 for accuracy, ``float32 (m, reward_dim)``.
        following: the next observations, ``float32 (m, observation)``.
        ended: ``bool (m,)``.
    """

    values: np.ndarray
    episode: np.ndarray
    decision: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    following: np.ndarray
    ended: np.ndarray


def imagine(
    env: CompressionEnv, act: Callable[[np.ndarray, np.ndarray], np.ndarray], episodes: int
) -> Imagined:
    """Play several episodes in imagination, step by step together.

    Args:
        env: the environment; it is left as it is.
        act: (observations ``(n, observation)``, which episodes they are of ``(n,)``) -> actions
            ``(n, 1)``.
        episodes: how many.
    """
    twins = [imagined(env) for _ in range(episodes)]
    observations = np.array([twin.reset()[0] for twin in twins])
    values = np.empty((episodes, len(env.decisions)))
    going_on, transitions = np.arange(episodes), []
    while len(going_on):
        actions = act(observations[going_on], going_on).astype(np.float32)
        ended = []
        for episode, action in zip(going_on, actions, strict=True):
            twin, before = twins[episode], observations[episode].copy()
            decision = twin.next_decision
            following, reward, terminated, _, info = twin.step(action)
            step = (episode, decision, before, action, reward, following, terminated)
            transitions.append(step)
            observations[episode] = following
            ended.append(terminated)
            if terminated:
                values[episode] = env.values_of(info["strategy"])
        going_on = going_on[~np.array(ended)]
    return Imagined(values, *(np.array(part) for part in zip(*transitions, strict=True)))
