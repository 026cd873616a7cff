"""Any Stable-Baselines3 class, conditioned on the preference: the plain way to a whole front.

``sb3-conditioned:<class>`` sees the preference beside the state and is rewarded by it; each
episode draws another one. It is what envelope DDPG is without its vector critic, envelope,
relabelling and homotopy.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from prune_gym.agents.common.api import Settings
from prune_gym.agents.sb3 import check_class, learned, require_class_actions
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.objectives.objective import weights_array


class ConditionedModel:
    """A trained SB3 model that answers for any preference."""

    def __init__(self, model: BaseAlgorithm, names: Sequence[str]) -> None:
        """Take the model and the names of the objectives, in order."""
        self.model, self.names = model, list(names)

    def predict(
        self, observation: np.ndarray, preference: Mapping[str, float] | np.ndarray
    ) -> tuple[np.ndarray, Any]:
        """Return the action for an observation of the vector environment and a preference.

        Raises:
            UserError: an unknown objective or a negative weight.
        """
        given = preference if isinstance(preference, Mapping) else list(preference)
        weights = weights_array(given, self.names)
        seen = np.append(observation, weights).astype(np.float32)
        return self.model.predict(seen, deterministic=True)

    def save(self, path: Path) -> None:
        """Write the model to ``path``; its SB3 class loads it."""
        self.model.save(path)


def search_with(name: str) -> Callable[[gym.Env, Settings], ConditionedModel]:
    """Return the search function of an SB3 class by its name.

    Raises:
        UserError: no such class.
    """
    check_class(name)

    def search(env: gym.Env, settings: Settings) -> ConditionedModel:
        require_class_actions(env, name, "sb3-conditioned")
        conditioned = PreferenceConditioned(env, settings.priorities)
        return ConditionedModel(learned(name, conditioned, settings), conditioned.names)

    return search
