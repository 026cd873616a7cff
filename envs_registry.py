"""The one table of environment ids. Plain data only: importing it does not import torch."""

from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec

Kwargs = dict[str, Any]

# Every search space is registered for these networks on these data, or for some of them.
_NETWORKS = {
    "VGG16": "vgg16",
    "ResNet20": "resnet20",
    "ResNet56": "resnet56",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
}
_DATA = {"": "digits", "-CIFAR10": "cifar10"}
# No latency table ships for layers of 224x224 images, nor for what is given by the caller.
_UNTIMED: Kwargs = {"latency": None}
_IMAGENET: dict[str, Kwargs] = {
    f"ChannelPrune-{name}-ImageNet": {"network": network, "data": "imagenet", **_UNTIMED}
    for name, network in (
        ("ResNet50", "resnet50"),
        ("MobileNetV1", "mobilenet_v1_imagenet"),
        ("MobileNetV2", "mobilenet_v2_imagenet"),
        ("DeiTTiny", "deit_tiny"),
    )
}
# Attention takes time that no latency table has.
_TRANSFORMERS: dict[str, Kwargs] = {
    "ChannelPrune-ViTTiny": {"network": "vit_tiny", "data": "digits", **_UNTIMED},
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
_BLOCKS: Kwargs = {"decide": ("block", "channels")}
# No latency table ships for the layers of detectors.
_DETECTOR: Kwargs = {**_BLOCKS, "latency": None, "objectives": ("accuracy", "flops", "memory")}
_DETECTORS: dict[str, Kwargs] = {
    "BlockPrune-YOLOv3": {"network": "yolov3_eighth", "data": "digit-scenes", **_DETECTOR},
    "BlockPrune-YOLOFastest-COCO": {"network": "yolo_fastest", "data": "coco-yolo", **_DETECTOR},
}
# Search space -> the networks it is registered for, and what is decided and wanted.
_SPACES: dict[str, tuple[tuple[str, ...], Kwargs]] = {
    "ChannelPrune": (tuple(_NETWORKS), {}),  # MCMC, AMC
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
            "energy": "emomc",
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
_CLASSIFIERS: dict[str, Kwargs] = {
    f"{space}-{network}{suffix}": {"network": _NETWORKS[network], "data": data, **kwargs}
    for space, (networks, kwargs) in _SPACES.items()
    for network in networks
    for suffix, data in _DATA.items()
}
# On pairs of digits capacity matters. VGG16 is half as wide, so that every channel counts.
_PAIRS: dict[str, Kwargs] = {
    f"{space}-{name}-DigitPairs": {"network": network, "data": "digit-pairs", **_SPACES[space][1]}
    for space in ("ChannelPrune", "JointPrune", "Quantize", "PruneQuantize")
    for name, network in (("VGG16Half", "vgg16_half"), ("ResNet20", "resnet20"))
}
# The caller gives network and data; None is refused.
_OWN: dict[str, Kwargs] = {"ChannelPrune": {"network": None, "data": None, **_UNTIMED}}
ENVS: dict[str, Kwargs] = {
    **_CLASSIFIERS,
    **_PAIRS,
    **_TRANSFORMERS,
    **_IMAGENET,
    **_OWN,
    **_TABULATED,
    **_DETECTORS,
}
VERSION = "v0"
GENERIC_ID = f"ChannelPrune-{VERSION}"  # whose network and data are given by the caller
DISCRETE_ACTIONS = 8

# Entry points of one environment and of several.
ENTRY_POINT = "prune_gym.envs.make:compression_env"
_ENTRY_POINTS = (ENTRY_POINT, "prune_gym.envs.vector:CompressionVectorEnv")
_TABULATED_ENTRY_POINTS = (
    "prune_gym.envs.tabulated:tabulated_env",
    "prune_gym.envs.tabulated:TabulatedVectorEnv",
)
_SCALAR = WrapperSpec("ScalarReward", "prune_gym.envs.wrappers:ScalarReward", {"weights": None})


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
        single, vector = _TABULATED_ENTRY_POINTS if name in _TABULATED else _ENTRY_POINTS
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
