"""Several environments with vector rewards at once, for ``gym.make_vec``."""

from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv

from prune_gym.env import CompressionEnv


class CompressionVectorEnv(SyncVectorEnv):
    """Environments of one task, stepped in turn; rewards are ``float32 (num_envs, reward_dim)``.

    They share the network, the data and the memo of evaluated strategies. An environment whose
    episode ended is reset by its next step, as Gymnasium's SyncVectorEnv does by default.
    """

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Make ``num_envs`` equal environments; the arguments are :class:`CompressionEnv`'s."""
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs!r}")
        super().__init__([lambda: CompressionEnv(**kwargs)] * num_envs)
        first = self.envs[0].unwrapped
        assert isinstance(first, CompressionEnv)
        self.reward_space, self.reward_dim = first.reward_space, first.reward_dim
        # The base class keeps scalar rewards; its buffer is all that says so.
        self._rewards = np.zeros((num_envs, self.reward_dim), dtype=np.float32)
