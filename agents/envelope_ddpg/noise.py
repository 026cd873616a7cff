"""Exploration that changes a strategy's overall size and not only its layers."""

import numpy as np
from stable_baselines3.common.noise import ActionNoise

from prune_gym.agents.common.initial_design import NOISE


class EpisodeNoise(ActionNoise):
    """Exploration: one offset per episode plus noise per step; ``shape`` is the action's."""

    def __init__(self, shape: tuple[int, ...], per_episode: float, per_step: float) -> None:
        """Give the standard deviations, in units of actions in [-1, 1]."""
        super().__init__()
        self._shape, self.per_episode, self.per_step = shape, per_episode, per_step
        self.reset()

    def reset(self) -> None:
        """Draw the offset and the random ratio of the next episode."""
        self._offset = np.random.normal(0.0, self.per_episode, self._shape)
        self._ratio = np.random.uniform(-1.0, 1.0, self._shape)

    def __call__(self) -> np.ndarray:
        """Return the noise of one step."""
        return self._offset + np.random.normal(0.0, self.per_step, self._shape)

    def random_action(self) -> np.ndarray:
        """Return an action around the episode's random ratio, in [-1, 1]."""
        return np.clip(self._ratio + np.random.normal(0.0, NOISE, self._shape), -1.0, 1.0)
