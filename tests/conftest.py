import os

import gymnasium as gym
import pytest
import torch
from four_classes import TINY_OBJECTIVES, four_classes, trained_on
from places import HELPERS, ROOT
from real_data import why_no_cifar

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym.envs.make import compression_env

# On a busy machine two threads that wait for each other are many times slower than one.
torch.set_num_threads(1)

DIGITS = "ChannelPrune-VGG16-v0"


@pytest.fixture(scope="session")
def env():
    return gym.make(DIGITS)


@pytest.fixture(scope="session")
def tiny_data():
    return four_classes("tiny")


@pytest.fixture(scope="session")
def tiny_net(tiny_data):
    """A trained net of three convolutions; tests must not change it."""
    return trained_on(tiny_data)


@pytest.fixture(scope="session")
def tiny_task(tiny_net, tiny_data):
    """The arguments of a small environment of one's own network and data."""
    return {
        "network": tiny_net,
        "data": tiny_data,
        "latency": None,
        "objectives": TINY_OBJECTIVES,
        "round_to": 1,
    }


@pytest.fixture
def tiny(tiny_task):
    return compression_env(**tiny_task)


@pytest.fixture(scope="session")
def cifar():
    reason = why_no_cifar()
    if reason:
        pytest.skip(reason)
    from prune_gym import datasets

    return datasets.load("cifar10")


@pytest.fixture
def subprocess_env():
    """Variables for a child process that computes as this one does."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}"}
