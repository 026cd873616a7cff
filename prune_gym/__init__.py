"""Neural-network compression as Gymnasium environments with a vector reward.

Importing the package registers the environments:

    >>> import gymnasium as gym, prune_gym
    >>> env = gym.make("ChannelPrune-VGG16-v0")
"""

from envs_registry import env_ids, register_envs

__all__ = ["__version__", "env_ids", "register_envs"]
__version__ = "0.1.0"

register_envs()
