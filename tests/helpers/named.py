"""A tiny network and its data by name: ``network="named:trained", data="named:splits"``."""

from functools import cache

import gymnasium as gym
from four_classes import four_classes, trained_on
from playing import constant, play

from prune_gym.search_space.strategy import strategy_from_dict

TASK = {"network": "named:trained", "data": "named:splits", "round_to": 1}

# A strategy names these functions, and a function that a file names is not called.
GIVEN = {"network": TASK["network"], "data": TASK["data"]}
OPTIONS = ["--network", TASK["network"], "--data", TASK["data"]]


@cache
def splits():
    return four_classes("named", seed=1, mean=(0.5, 0.4, 0.5), std=(0.25, 0.3, 0.25))


def trained():
    return trained_on(splits())


def save_strategy(file, action=-0.5, **kwargs):
    """Write a strategy of constant actions; ``kwargs`` go to the environment."""
    env = gym.make("ChannelPrune-v0", **TASK, **kwargs)
    _, _, infos = play(env, constant(action))
    strategy_from_dict(infos[-1]["strategy"]).save(file)
    return file
