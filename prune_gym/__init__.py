"""Neural-network compression as Gymnasium environments with a vector reward.

Importing the package registers the environments:

    >>> import gymnasium as gym, prune_gym
    >>> env = gym.make("ChannelPrune-VGG16-v0")

``prune_gym.compress(network, data)`` compresses a network of one's own in one call.
"""

from typing import Any

from envs_registry import env_ids, register_envs

__all__ = ["__version__", "compress", "env_ids", "register_envs"]
__version__ = "0.1.0"

register_envs()


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first asked for."""
    if name == "compress":
        from prune_gym.compress_network import compress

        return compress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
