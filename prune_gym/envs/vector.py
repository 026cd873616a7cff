"""Several environments with vector rewards at once, for ``gym.make_vec``."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError

OF_MAKE_VEC = ("num_envs", "vectorization_mode")


class CompressionVectorEnv(SyncVectorEnv):
    """Environments of one task, stepped in turn; rewards are ``float32 (num_envs, reward_dim)``.

    They share the network, the data and the accuracies that are known. An environment whose
    episode ended is reset by its next step, as Gymnasium's SyncVectorEnv does by default. Finished
    strategies stand whole in ``infos["strategy"]``, an object array (num_envs,).
    """

    make: Callable[..., CompressionEnv] = staticmethod(compression_env)

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        """Make ``num_envs`` equal environments; the arguments are those of one of them."""
        if num_envs < 1:
            raise UserError(f"num_envs: expected at least 1, got {num_envs!r}")
        make = self.make
        super().__init__([lambda: make(**kwargs)] * num_envs)
        first = self.envs[0].unwrapped
        assert isinstance(first, CompressionEnv)
        self.reward_space, self.reward_dim = first.reward_space, first.reward_dim
        # The base class keeps scalar rewards; its buffer is all that says so.
        self._rewards = np.zeros((num_envs, self.reward_dim), dtype=np.float32)

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """How the environments were made; ``gym.make_vec`` sets it."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = spec
        single = copy.deepcopy(spec)
        if single is not None:  # what a strategy found here is replayed with
            single.kwargs = {k: v for k, v in single.kwargs.items() if k not in OF_MAKE_VEC}
        for env in getattr(self, "envs", ()):
            env.unwrapped.spec = single

    def _add_info(
        self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int
    ) -> dict[str, Any]:
        """Keep a strategy whole instead of making an array of each of its entries."""
        rest = {key: value for key, value in env_info.items() if key != "strategy"}
        infos = super()._add_info(vector_infos, rest, env_num)
        if "strategy" in env_info:
            infos.setdefault("strategy", np.full(self.num_envs, None, dtype=object))
            infos.setdefault("_strategy", np.zeros(self.num_envs, dtype=bool))
            infos["strategy"][env_num], infos["_strategy"][env_num] = env_info["strategy"], True
        return infos
