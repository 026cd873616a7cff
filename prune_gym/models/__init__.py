"""Networks by name and the weights that ship with the package."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from prune_gym.errors import unknown
from prune_gym.models.vgg import vgg16
from prune_gym.models.weights_file import load_weights

__all__ = ["NETWORKS", "build", "pretrained", "weights_path"]

NETWORKS: dict[str, Callable[[int], nn.Module]] = {"vgg16": vgg16}


def build(name: str, num_classes: int) -> nn.Module:
    """Return the named network with fresh weights.

    Raises:
        ValueError: no such network.
    """
    if name not in NETWORKS:
        raise ValueError(unknown("network", name, NETWORKS))
    with torch.random.fork_rng(devices=[]):  # fresh weights leave the caller's random state alone
        return NETWORKS[name](num_classes)


def weights_path(name: str, data: str) -> Path:
    """Return where the shipped weights of a network trained on a data set are."""
    return Path(__file__).parent / "weights" / f"{name}-{data}.safetensors"


def pretrained(name: str, data: str, num_classes: int) -> nn.Module:
    """Return the named network in eval mode with the weights that ship for this data set.

    Raises:
        ValueError: no such network, or its weights are damaged.
        FileNotFoundError: no weights ship for this pair.
    """
    network = build(name, num_classes)
    path = weights_path(name, data)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights ship for {name} on {data} ({path} is missing); train them with "
            f"`prune-gym pretrain --network {name} --data {data}`"
        )
    load_weights(network, path)
    return network.eval()
