"""What every agent is told, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from stable_baselines3.common.logger import Logger

from prune_gym.evaluation.problem import CompressionProblem


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        episodes: strategies to evaluate.
        seed: of all randomness.
        priorities: mean weight by objective, or None for the balanced ones.
        logger: where an agent's own figures (losses) go.
    """

    episodes: int
    seed: int
    priorities: Mapping[str, float] | None
    logger: Logger


def problem_of(env: gym.Env) -> CompressionProblem:
    """Return the compression problem of an environment, wrapped or not."""
    return env.get_wrapper_attr("problem")


@runtime_checkable
class Trained(Protocol):
    """An agent that has learned something worth saving."""

    def save(self, path: Path) -> None:
        """Write the agent to ``path``."""
        ...


@runtime_checkable
class Conditioned(Trained, Protocol):
    """A trained agent that answers for any preference; the benchmark asks it for a grid of them.

    Attributes:
        names: the objectives that a preference weighs, in order. SB3's own models lack it: theirs
            is another ``predict``, whose second argument is a state.
    """

    names: list[str]

    def predict(self, observation: np.ndarray, preference: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the action for an observation and weights over the objectives ``(k,)``."""
        ...
