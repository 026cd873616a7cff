"""The one table of environment ids. Plain data only: importing it does not import torch."""

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

ENVS: dict[str, dict[str, str]] = {
    "ChannelPrune-VGG16": {"network": "vgg16", "data": "digits"},
    "ChannelPrune-VGG16-CIFAR10": {"network": "vgg16", "data": "cifar10"},
}
VERSION = "v0"
DISCRETE_ACTIONS = 8

_SCALAR = WrapperSpec("ScalarReward", "prune_gym.wrappers:ScalarReward", {"weights": None})


def env_ids() -> list[str]:
    """Return all registered ids."""
    return [f"{name}{variant}-{VERSION}" for name in ENVS for variant in _VARIANTS]


_VARIANTS: dict[str, tuple[dict[str, int], tuple[WrapperSpec, ...]]] = {
    "": ({}, ()),
    "-Discrete": ({"discrete": DISCRETE_ACTIONS}, ()),
    "-Scalar": ({}, (_SCALAR,)),
    "-Discrete-Scalar": ({"discrete": DISCRETE_ACTIONS}, (_SCALAR,)),
}


def register_envs() -> None:
    """Register every id with Gymnasium; calling it again changes nothing."""
    for name, kwargs in ENVS.items():
        for variant, (extra, wrappers) in _VARIANTS.items():
            env_id = f"{name}{variant}-{VERSION}"
            if env_id in gym.registry:
                continue
            gym.register(
                env_id,
                entry_point="prune_gym.env:CompressionEnv",
                # Vector rewards are not what the passive checker expects; tests run the checkers.
                disable_env_checker=True,
                kwargs={**kwargs, **extra},
                additional_wrappers=wrappers,
                vector_entry_point=None if wrappers else "prune_gym.vector:CompressionVectorEnv",
            )
