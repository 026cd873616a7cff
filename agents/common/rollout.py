"""Playing whole strategies: what population-based agents do instead of deciding step by step."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs

from prune_gym._utils.parallel import limit_threads
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.rollouts import imagined
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.configuration import Configuration


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

    Inside :func:`prune_gym._utils.parallel.workers` its accuracies are evaluated side by side
    before.

    Args:
        env: the environment, wrapped or not.
        actions: of every episode, as :func:`play` takes them, ``(n, decisions)``.
        seed: for the first ``reset``.

    Returns:
        The episodes' returns ``float64 (n, reward_dim)`` and terminal infos.
    """
    if (jobs := effective_n_jobs(None)) > 1:
        _evaluate_ahead(env.unwrapped, actions, jobs)  # type: ignore[arg-type]
    played = [play(env, row, None if index else seed) for index, row in enumerate(actions)]
    return np.array([total for total, _ in played]), [info for _, info in played]


def _evaluate_ahead(env: CompressionEnv, actions: np.ndarray, jobs: int) -> None:
    """Put the accuracies of what actions ``(n, decisions)`` come to into the evaluator's memo."""
    evaluator = env.evaluator
    infos = (play(imagined(env), row)[1] for row in actions)
    found = {r.key(): r for r in (env.configure(info["strategy"]) for info in infos)}
    unknown = [key for key in found if key not in evaluator.memo]
    # A worker is sent the evaluator (its name, or one's own network and data) once.
    shares = [share for worker in range(jobs) if (share := unknown[worker::jobs])]
    accuracies = Parallel(batch_size=1)(
        delayed(_accuracies)(evaluator, [found[key] for key in share], torch.get_num_threads())
        for share in shares
    )
    for share, scored in zip(shares, accuracies, strict=True):
        for key, accuracy in zip(share, scored, strict=True):
            evaluator.memo[key] = accuracy


def _accuracies(
    evaluator: Evaluator, strategies: Sequence[Configuration], threads: int
) -> list[float]:
    """Evaluate in a worker, with the threads of the process that asks: the numbers are the same."""
    with limit_threads(threads):
        return [evaluator.accuracy(strategy) for strategy in strategies]
