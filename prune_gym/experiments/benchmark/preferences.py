"""The fixed grid of preferences, and what an agent proposes for each of them."""

from itertools import product
from typing import Any

import numpy as np

from prune_gym.agents.common.api import Conditioned, Trained
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.objectives.objective import episode_return
from prune_gym.objectives.selection import best_for

DIVISIONS = 4  # 35 preferences over four objectives, 15 over three


def preference_grid(objectives: int, divisions: int = DIVISIONS) -> np.ndarray:
    """Return the evenly spaced weights over objectives, ``(n, objectives)``; each row sums to 1.

    It is the simplex lattice of Das & Dennis (1998): all weights that are multiples of
    ``1 / divisions``.
    """
    parts = product(range(divisions + 1), repeat=objectives)
    return np.array([row for row in parts if sum(row) == divisions]) / divisions


def proposals(
    env: CompressionEnv, trained: Trained | None, returns: np.ndarray, grid: np.ndarray
) -> tuple[str, np.ndarray]:
    """Return where the answers for a grid of preferences come from, and their returns ``(n, k)``.

    A learned policy plays an episode for each preference: "policy". These evaluations come after
    the search and are not charged. An agent without one answers from its archive, with the best
    weighted sum of what it has evaluated: "archive".

    Args:
        env: the environment that was searched.
        trained: what the agent has returned.
        returns: of everything evaluated, ``(m, k)``.
        grid: preferences, ``(n, k)``.
    """
    if isinstance(trained, Conditioned):
        return "policy", np.array([_played(env, trained, preference) for preference in grid])
    return "archive", returns[[best_for(returns, preference) for preference in grid]]


def _played(env: CompressionEnv, policy: Conditioned, preference: np.ndarray) -> np.ndarray:
    observation, _ = env.reset()
    terminated, info = False, dict[str, Any]()
    while not terminated:
        action, _ = policy.predict(observation, preference)
        observation, _, terminated, _, info = env.step(action)
    return episode_return(info, env.problem.original, env.objectives)
