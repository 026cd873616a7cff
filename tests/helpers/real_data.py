"""Why real data or weights are not at hand: the reason of a skip."""

import gymnasium as gym
import pytest

from prune_gym import models
from prune_gym._utils.paths import cache_home, data_home
from prune_gym.datasets import cifar10, imagenet


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
