import contextlib
import os
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from four_classes import four_classes, trained_on

import prune_gym  # noqa: F401  (registers the ids)
from prune_gym import models
from prune_gym._utils.paths import cache_home, data_home
from prune_gym.datasets import cifar10, imagenet
from prune_gym.envs.make import compression_env

# On a busy machine two threads that wait for each other are many times slower than one.
torch.set_num_threads(1)

DIGITS = "ChannelPrune-VGG16-v0"
TINY_OBJECTIVES = ("accuracy", "flops", "params", "memory")


def why_no_cifar():
    folders = [base / cifar10.FOLDER for base in (data_home(), cache_home())]
    if not any((folder / cifar10.TEST_FILE).is_file() for folder in folders):
        return f"CIFAR-10 is not in {folders[0]}: set PRUNE_GYM_HOME"
    return ""


def why_no_env(env_id):
    kwargs = gym.spec(env_id).kwargs
    network, data = kwargs.get("network", "vgg16"), kwargs.get("data", "digits")
    if network in models.NETWORKS and models.weights_on_disk(network, data) is None:
        return f"the weights of {network} on {data} are not in {data_home()}: set PRUNE_GYM_HOME"
    return {"cifar10": why_no_cifar, "imagenet": why_no_imagenet}.get(data, str)()


def why_no_imagenet():
    folder = data_home() / imagenet.FOLDER
    return "" if folder.is_dir() else f"ImageNet is not in {folder}: set PRUNE_GYM_HOME"


def public_file(name):
    path = data_home() / "weights" / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {path.parent}: set PRUNE_GYM_HOME")
    return path


def play(env, action=None, seed=0):
    """Play one episode; ``action`` is a function of the step's number, or None for random."""
    env.action_space.seed(seed)
    observations, rewards, infos = [env.reset(seed=seed)[0]], [], []
    terminated, step = False, 0
    while not terminated:
        chosen = env.action_space.sample() if action is None else action(step)
        observation, reward, terminated, truncated, info = env.step(chosen)
        assert terminated in (True, False) and truncated is False
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
        step += 1
    return np.array(observations), np.array(rewards), infos


@contextlib.contextmanager
def strict_checks():
    """Make errors of the checkers' warnings, but for two that do not apply."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The checker knows no vector rewards, and a scalar id is a wrapped environment.
        warnings.filterwarnings("ignore", message=r".*The reward returned by `step\(\)`.*")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        yield


def constant(value):
    return lambda step: np.array([value], dtype=np.float32)


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
    root = Path(__file__).parents[1]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
