"""Build networks by name, and find the weights for them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from prune_gym._utils.paths import data_home
from prune_gym.datasets import AnyData
from prune_gym.errors import MissingFileError, UserError, unknown
from prune_gym.models import (
    deit,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    resnet_imagenet,
    vgg,
    vit,
    yolo_fastest,
    yolov3,
)
from prune_gym.models.darknet import weights as darknet_weights
from prune_gym.models.darknet.network import Darknet
from prune_gym.models.public_weights import PUBLIC, PublicWeights, load_public, on_disk
from prune_gym.models.weights_file import load_weights

__all__ = [
    "NETWORKS",
    "Architecture",
    "build",
    "normalized_for",
    "pretrained",
    "weights_on_disk",
    "weights_path",
]

SMALL, LARGE = (3, 32, 32), (3, 224, 224)
SCENES, COCO = (3, 128, 128), (3, 320, 320)
YOLO_FASTEST = ("yolo_fastest", "coco-yolo")


class Architecture(NamedTuple):
    """How a network is built and trained.

    Attributes:
        build: makes it for a number of classes.
        input_shape: of its images (C, H, W).
        recipe: the shipped one that `prune-gym pretrain` trains it with.
    """

    build: Callable[[int], nn.Module]
    input_shape: tuple[int, ...] = SMALL
    recipe: str = "scratch"


NETWORKS: dict[str, Architecture] = {
    "vgg16": Architecture(vgg.vgg16),
    "vgg16_half": Architecture(vgg.vgg16_half),
    "vgg6": Architecture(vgg.vgg6),
    "vgg19": Architecture(vgg.vgg19),
    "resnet20": Architecture(resnet.resnet20),
    "resnet20_public": Architecture(resnet.resnet20),
    "resnet32": Architecture(resnet.resnet32),
    "resnet56": Architecture(resnet.resnet56),
    "resnet110": Architecture(resnet.resnet110),
    "resnet18": Architecture(resnet_imagenet.resnet18, LARGE),
    "resnet50": Architecture(resnet_imagenet.resnet50, LARGE),
    "mobilenet_v1": Architecture(mobilenet_v1.mobilenet_v1),
    "mobilenet_v1_imagenet": Architecture(mobilenet_v1.mobilenet_v1_imagenet, LARGE),
    "mobilenet_v2": Architecture(mobilenet_v2.mobilenet_v2),
    "mobilenet_v2_imagenet": Architecture(mobilenet_v2.mobilenet_v2_imagenet, LARGE),
    "vit_tiny": Architecture(vit.vit_tiny, recipe="transformer"),
    "deit_tiny": Architecture(deit.deit_tiny, LARGE, recipe="transformer"),
    "yolov3_eighth": Architecture(yolov3.yolov3_eighth, SCENES),
    "yolo_fastest": Architecture(yolo_fastest.yolo_fastest, COCO),
}


def build(name: str, num_classes: int) -> nn.Module:
    """Return the named network with fresh weights.

    Raises:
        UserError: no such network.
    """
    if name not in NETWORKS:
        raise UserError(unknown("network", name, NETWORKS))
    with torch.random.fork_rng(devices=[]):  # fresh weights leave the caller's random state alone
        return NETWORKS[name].build(num_classes)


def weights_path(name: str, data: str) -> Path:
    """Return where the shipped weights of a network trained on a data set are."""
    return Path(__file__).parent / "weights" / f"{name}-{data}.safetensors"


def weights_on_disk(name: str, data: str) -> Path | None:
    """Return the file that `pretrained` loads, or None where it would have to download it.

    The first of: the shipped weights, the user's own in the data home, public ones.
    """
    files = [weights_path(name, data), _own_path(name, data)]
    if (name, data) == YOLO_FASTEST:
        files.append(yolo_fastest.weights_file())
    found = next((file for file in files if file.is_file()), None)
    public = _public_weights(name, data)
    return on_disk(public) if public is not None else found


def _own_path(name: str, data: str) -> Path:
    return data_home() / "weights" / f"{name}-{data}.safetensors"


def _public_weights(name: str, data: str) -> PublicWeights | None:
    """Return the public weights of a pair, None where there are others that go first."""
    if weights_path(name, data).is_file() or _own_path(name, data).is_file():
        return None
    return PUBLIC.get((name, data))


def pretrained(name: str, data: str, num_classes: int) -> nn.Module:
    """Return the named network in eval mode with the weights for this data set.

    Raises:
        UserError: no such network, or its weights are damaged.
        MissingFileError: there are no weights for this pair, or no way to download them.
    """
    network = build(name, num_classes)
    path, public = weights_on_disk(name, data), _public_weights(name, data)
    if public is not None:
        load_public(network, public)
    elif path is not None and path.suffix == ".safetensors":
        load_weights(network, path)
    elif path is not None and isinstance(network, Darknet):
        darknet_weights.load_weights(network, path)
    else:
        raise MissingFileError(
            f"no weights ship for {name} on {data} ({weights_path(name, data)} is missing) and "
            f"none are public; train them with `prune-gym pretrain --network {name} --data {data} "
            f"--out {_own_path(name, data)}`"
        )
    return network.eval()


def leakage_warning(name: str, data: str) -> str:
    """Return the warning that the weights were trained on the search split, "" where they were not.

    The public CIFAR-10 networks saw all 50,000 training images: their accuracy on the search split
    says nothing about new images, and only differences between candidates count.
    """
    if data != "cifar10" or _public_weights(name, data) is None:
        return ""
    return (
        "The original's public weights were trained on the images that candidates are scored on: "
        "compare candidates with each other; `prune-gym apply` has the test split"
    )


def normalized_for(name: str, data: AnyData) -> AnyData:
    """Return ``data`` with the mean and deviation that the network's weights were trained with."""
    weights = _public_weights(name, data.name)
    if weights is None:
        return data
    return replace(data, mean=weights.mean, std=weights.std)
