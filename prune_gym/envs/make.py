"""Environments by their ids: those that ship, and ``module:ID`` of somebody's own."""

from typing import Any

import gymnasium as gym

from envs_registry import env_ids
from prune_gym._utils.plugins import import_for
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.errors import UserError, unknown


def require_env(env_id: str) -> None:
    """Refuse an id that no agent searches; the module of ``module:ID`` is imported.

    Raises:
        UserError: the module cannot be imported, the id is not registered, or its reward is one
            number.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_for(module, env_id)
    if name not in (gym.registry if module else env_ids()):
        specs = gym.registry.values()
        ours = [s.id for s in specs if not str(s.entry_point).startswith("gymnasium.")]
        raise UserError(unknown("environment", name, ours if module else env_ids()))
    if gym.spec(name).additional_wrappers:
        raise UserError(f"{env_id} has a scalar reward; search its id without -Scalar")


def make_env(env_id: str, **kwargs: Any) -> gym.Env:
    """Return ``gym.make(env_id, **kwargs)``, which must be an environment of this package.

    Raises:
        UserError: it is another one.
    """
    env = gym.make(env_id, **kwargs)
    if not isinstance(env.unwrapped, CompressionEnv):
        made = type(env.unwrapped).__name__
        raise UserError(
            f"{env_id} is a {made}, not a prune_gym.envs.compression_env.CompressionEnv"
        )
    return env
