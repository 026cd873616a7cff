"""Neural-network compression as Gymnasium environments with a vector reward.

Importing the package registers the environments:

    >>> import gymnasium as gym, prune_gym
    >>> env = gym.make("ChannelPrune-VGG16-v0")

``prune_gym.compress(network, data)`` compresses a network of your own in one call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from envs_registry import env_ids, register_envs
from prune_gym._utils.version import __version__

if TYPE_CHECKING:
    from prune_gym.compress_network import compress
    from prune_gym.compression.network_file import load_network
    from prune_gym.datasets import Data, ScoredData, ScoredSplit, Split
    from prune_gym.envs.compression_env import CompressionEnv
    from prune_gym.envs.make import compression_env, compression_problem
    from prune_gym.envs.wrappers import PreferenceConditioned, ScalarReward
    from prune_gym.evaluation.problem import CompressionProblem
    from prune_gym.search_space.kinds import DecisionKind, register_kind
    from prune_gym.search_space.strategy import Strategy, load_strategy

__all__ = [
    "CompressionEnv",
    "CompressionProblem",
    "Data",
    "DecisionKind",
    "PreferenceConditioned",
    "ScalarReward",
    "ScoredData",
    "ScoredSplit",
    "Split",
    "Strategy",
    "__version__",
    "compress",
    "compression_env",
    "compression_problem",
    "env_ids",
    "load_network",
    "load_strategy",
    "register_envs",
    "register_kind",
]

# Imported when they are first asked for: torch takes seconds.
_HOMES = {
    "CompressionEnv": "envs.compression_env",
    "CompressionProblem": "evaluation.problem",
    "Data": "datasets",
    "DecisionKind": "search_space.kinds",
    "PreferenceConditioned": "envs.wrappers",
    "ScalarReward": "envs.wrappers",
    "ScoredData": "datasets",
    "ScoredSplit": "datasets",
    "Split": "datasets",
    "Strategy": "search_space.strategy",
    "compress": "compress_network",
    "compression_env": "envs.make",
    "compression_problem": "envs.make",
    "load_network": "compression.network_file",
    "load_strategy": "search_space.strategy",
    "register_kind": "search_space.kinds",
}

register_envs()


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names, those that are not imported yet too."""
    return sorted(__all__)
