"""A small environment by name, for tests whose searches run in processes of their own."""

import gymnasium as gym
from four_classes import four_classes, trained_on

from envs_registry import ENVS

TINY = "tiny_envs:Tiny-v0"


def data():
    return four_classes("tiny")


def network():
    return trained_on(data())


gym.register(
    "TableOfOthers-v0",
    entry_point="prune_gym.envs.tabulated:tabulated_env",
    disable_env_checker=True,
    kwargs=ENVS["ChannelPrune-Table"] | {"repair": "none"},
)
gym.register(
    "Tiny-v0",
    entry_point="prune_gym.envs.make:compression_env",
    disable_env_checker=True,
    kwargs={
        "network": "tiny_envs:network",
        "data": "tiny_envs:data",
        "latency": None,
        "objectives": ("accuracy", "flops", "memory"),
        "round_to": 1,
        "repair": "none",
    },
)
