"""Playing whole strategies: what population-based agents do instead of deciding step by step."""

from typing import Any

import gymnasium as gym
import numpy as np
from joblib import effective_n_jobs

from prune_gym.agents.common.api import problem_of
from prune_gym.envs.rollouts import decode_within_budgets


def play(
    env: gym.Env, actions: np.ndarray, seed: int | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Play one episode on a vector environment with continuous actions.

    Args:
        env: the environment, wrapped or not.
        actions: one per decision, in [-1, 1], ``(decisions,)``; those of decisions that are not
            made (in a skipped block) are not played.
        seed: for ``reset``.

    Returns:
        The episode's return ``float64 (reward_dim,)`` and the terminal info.
    """
    core: Any = env.unwrapped
    env.reset(seed=seed)
    total, terminated = np.zeros(core.reward_dim), False
    info: dict[str, Any] = {}
    while not terminated:
        action = np.array([actions[core.next_decision]], dtype=np.float32)
        _, reward, terminated, _, info = env.step(action)
        total += reward
    return total, info


def play_all(
    env: gym.Env, actions: np.ndarray, seed: int | None = None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Play a generation, one episode after the other.

    Inside `prune_gym._utils.parallel.workers` its accuracies are evaluated side by side
    before.

    Args:
        env: the environment, wrapped or not.
        actions: of every episode, as `play` takes them, ``(n, decisions)``.
        seed: for the first ``reset``.

    Returns:
        The episodes' returns ``float64 (n, reward_dim)`` and terminal infos.
    """
    if effective_n_jobs(None) > 1:
        problem = problem_of(env)
        problem.accuracies(decode_within_budgets(problem, actions))
    played = [play(env, row, None if index else seed) for index, row in enumerate(actions)]
    return np.array([total for total, _ in played]), [info for _, info in played]
