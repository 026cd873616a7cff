"""Replay of transitions whose reward is a vector."""

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples


class VectorReplayBuffer(ReplayBuffer):
    """A replay buffer whose rewards are the vectors in ``info["vector_reward"]``.

    Attributes:
        finished: the terminal infos of the strategies whose transitions it was given.
    """

    def __init__(self, *args: Any, reward_dim: int, **kwargs: Any) -> None:
        """Take ``reward_dim`` beside SB3's arguments."""
        super().__init__(*args, **kwargs)
        self.vectors = np.zeros((self.buffer_size, self.n_envs, reward_dim), dtype=np.float32)
        self.finished: list[dict[str, Any]] = []

    def add(self, obs, next_obs, action, reward, done, infos) -> None:
        """Store a transition of every environment."""
        self.finished += [info for info in infos if "strategy" in info]
        self.vectors[self.pos] = [info["vector_reward"] for info in infos]
        super().add(obs, next_obs, action, reward, done, infos)

    def extend(
        self,
        observations: np.ndarray,
        next_observations: np.ndarray,
        actions: np.ndarray,
        vectors: np.ndarray,
        dones: np.ndarray,
    ) -> None:
        """Store m transitions of a single environment, ``(m, ...)`` each."""
        count = len(observations)
        at = (self.pos + np.arange(count)) % self.buffer_size
        self.observations[at, 0], self.next_observations[at, 0] = observations, next_observations
        self.actions[at, 0], self.vectors[at, 0], self.dones[at, 0] = actions, vectors, dones
        self.full = self.full or self.pos + count >= self.buffer_size
        self.pos = (self.pos + count) % self.buffer_size

    def _get_samples(self, batch_inds: np.ndarray, env=None) -> ReplayBufferSamples:
        # The same draw of environments serves the vectors and the rest of the transition.
        envs = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))
        ended = self.dones[batch_inds, envs] * (1 - self.timeouts[batch_inds, envs])
        parts = (
            self._normalize_obs(self.observations[batch_inds, envs], env),
            self.actions[batch_inds, envs],
            self._normalize_obs(self.next_observations[batch_inds, envs], env),
            ended.reshape(-1, 1),
            self.vectors[batch_inds, envs],
        )
        return ReplayBufferSamples(*map(self.to_torch, parts))
