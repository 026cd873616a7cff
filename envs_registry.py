"""The one table of environment ids. Plain data only: importing it does not import torch."""

from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

Kwargs = dict[str, Any]

_CHANNELS: dict[str, Kwargs] = {
    "ChannelPrune-VGG16": {"network": "vgg16", "data": "digits"},
    "ChannelPrune-VGG16-CIFAR10": {"network": "vgg16", "data": "cifar10"},
    "ChannelPrune-ResNet20": {"network": "resnet20", "data": "digits"},
    "ChannelPrune-ResNet20-CIFAR10": {"network": "resnet20", "data": "cifar10"},
    "ChannelPrune-ResNet56": {"network": "resnet56", "data": "digits"},
    "ChannelPrune-ResNet56-CIFAR10": {"network": "resnet56", "data": "cifar10"},
    "ChannelPrune-MobileNetV1": {"network": "mobilenet_v1", "data": "digits"},
    "ChannelPrune-MobileNetV2-CIFAR10": {"network": "mobilenet_v2", "data": "cifar10"},
    # No latency table ships for layers of 224x224 images, nor for what is given by the caller.
    "ChannelPrune-ResNet50-ImageNet": {
        "network": "resnet50",
        "data": "imagenet",
        "latency": None,
    },
    "ChannelPrune-MobileNetV1-ImageNet": {
        "network": "mobilenet_v1_imagenet",
        "data": "imagenet",
        "latency": None,
    },
    "ChannelPrune-MobileNetV2-ImageNet": {
        "network": "mobilenet_v2_imagenet",
        "data": "imagenet",
        "latency": None,
    },
    "ChannelPrune": {"latency": None},
}
# Small enough that every strategy was evaluated once: accuracies are looked up.
_TABULATED: dict[str, Kwargs] = {
    "ChannelPrune-Table": {
        "network": "vgg6",
        "data": "digits",
        "table": "vgg6-digits",
        "round_to": 4,
        "latency": None,
    },
}
# Networks in the other search spaces, on the embedded data and on CIFAR-10.
_NETWORKS = {
    "VGG16": "vgg16",
    "ResNet20": "resnet20",
    "ResNet56": "resnet56",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
}
_DATA = {"": "digits", "-CIFAR10": "cifar10"}
_BLOCKS: Kwargs = {"decide": ("block", "channels")}
# No latency table ships for the layers of detectors.
_DETECTOR: Kwargs = {**_BLOCKS, "latency": None, "objectives": ("accuracy", "flops", "memory")}
_DETECTORS: dict[str, Kwargs] = {
    "BlockPrune-YOLOv3": {"network": "yolov3_eighth", "data": "digit-scenes", **_DETECTOR},
    "BlockPrune-YOLOFastest-COCO": {"network": "yolo_fastest", "data": "coco-yolo", **_DETECTOR},
}
# Search space -> the networks it is registered for, and what is decided and wanted.
_SPACES: dict[str, tuple[tuple[str, ...], Kwargs]] = {
    "BlockPrune": (("ResNet56",), _BLOCKS),  # ABCP
    "JointPrune": (  # JCW
        tuple(_NETWORKS),
        {
            "decide": ("channels", "density"),
            "objectives": ("accuracy", "flops", "latency", "size"),
        },
    ),
    "Quantize": (  # HAQ, the second stage of two-stage
        tuple(_NETWORKS),
        {
            "decide": ("weight_bits", "activation_bits"),
            "granularity": 1,  # of what the first stage pruned
            "latency": None,  # float32 code gains nothing from bits
            "objectives": ("accuracy", "memory", "energy", "size"),
        },
    ),
    "PruneQuantize": (  # EMOMC
        tuple(_NETWORKS),
        {
            "decide": ("global_density", "weight_bits"),
            "granularity": 1,
            "objectives": ("accuracy", "energy", "size"),
        },
    ),
    "TwoStagePrune": (  # the first stage of two-stage
        ("VGG16",),
        {
            "decide": ("channels", "variational"),
            "granularity": 1,
            "objectives": ("accuracy", "flops", "size"),
        },
    ),
}
_OTHERS: dict[str, Kwargs] = {
    f"{space}-{network}{suffix}": {"network": _NETWORKS[network], "data": data, **kwargs}
    for space, (networks, kwargs) in _SPACES.items()
    for network in networks
    for suffix, data in _DATA.items()
    if f"ChannelPrune-{network}{suffix}" in _CHANNELS  # there are weights
}
ENVS: dict[str, Kwargs] = _CHANNELS | _TABULATED | _OTHERS | _DETECTORS
VERSION = "v0"
DISCRETE_ACTIONS = 8

# Entry points of one environment and of several.
_CLASSES = ("prune_gym.env:CompressionEnv", "prune_gym.vector:CompressionVectorEnv")
_TABULATED_CLASSES = ("prune_gym.tabulated:TabulatedEnv", "prune_gym.tabulated:TabulatedVectorEnv")
_SCALAR = WrapperSpec("ScalarReward", "prune_gym.wrappers:ScalarReward", {"weights": None})


def env_ids() -> list[str]:
    """Return all registered ids."""
    return [f"{name}{variant}-{VERSION}" for name in ENVS for variant in VARIANTS]


VARIANTS: dict[str, tuple[Kwargs, tuple[WrapperSpec, ...]]] = {
    "": ({}, ()),
    "-Discrete": ({"discrete": DISCRETE_ACTIONS}, ()),
    "-Scalar": ({}, (_SCALAR,)),
    "-Discrete-Scalar": ({"discrete": DISCRETE_ACTIONS}, (_SCALAR,)),
}


def register_envs() -> None:
    """Register every id with Gymnasium; calling it again changes nothing."""
    for name, kwargs in ENVS.items():
        single, vector = _TABULATED_CLASSES if name in _TABULATED else _CLASSES
        for variant, (extra, wrappers) in VARIANTS.items():
            env_id = f"{name}{variant}-{VERSION}"
            if env_id in gym.registry:
                continue
            gym.register(
                env_id,
                entry_point=single,
                # Vector rewards are not what the passive checker expects; tests run the checkers.
                disable_env_checker=True,
                kwargs={**kwargs, **extra},
                additional_wrappers=wrappers,
                vector_entry_point=None if wrappers else vector,
            )
