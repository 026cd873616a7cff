"""The part of an environment that is made once and shared: network, data and evaluator by name."""

import dataclasses
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn

from prune_gym import datasets, models
from prune_gym._utils.array_cache import read_arrays, write_arrays
from prune_gym._utils.device import find_device, on_device, outside_contexts
from prune_gym._utils.paths import file_version
from prune_gym._utils.plugins import call_named
from prune_gym.compression import calibration as calibrating
from prune_gym.compression.calibration import IMAGES, Calibration
from prune_gym.compression.fingerprint import fingerprint
from prune_gym.compression.finite import check_finite
from prune_gym.compression.information_dropout import importance, learn_information, noisy_layers
from prune_gym.compression.network_file import (
    is_network_file,
    load_network,
    network_path,
    read_network_spec,
)
from prune_gym.compression.unstructured import zeros_fill_masks
from prune_gym.compression.verify import check_cut, count_classes
from prune_gym.datasets import AnyData, Data, DetectionData
from prune_gym.datasets.normalize import normalize
from prune_gym.detection.boxes import check_heads
from prune_gym.errors import UserError, UserTypeError
from prune_gym.evaluation.copy_network import copy_network
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.inputs import Arrays, Tensors, feed, shape_of
from prune_gym.graph.layer_table import BLOCK_SIZE, LayerTable
from prune_gym.graph.residual_blocks import for_inference
from prune_gym.graph.trace import trace

INFORMATION_IMAGES = 4_096


def find_evaluator(
    network: str | os.PathLike[str] | nn.Module | None,
    data: str | AnyData | None,
    repair: str,
    block_size: int = BLOCK_SIZE,
    by_information: bool = False,
    device: str = "auto",
    calibrated_on: int = IMAGES,
) -> Evaluator:
    """Return the evaluator of a named network on a named data set, or of the user's own.

    A network's name may be a file that ``prune-gym apply`` wrote. A name
    ``package.module:function`` is a function that returns the user's own trained ``nn.Module`` or
    `Data`; ``package.module:function@FILE`` is the file of a pruned network whose
    original that function returns. ``block_size`` output channels share a mask where weights are
    pruned one by one, by magnitude or ``by_information`` that they carry. Candidates are made and
    scored on ``device``, "auto", "cpu", "cuda" or "mps"; calibration and repair see
    ``calibrated_on`` training images.

    Raises:
        UserTypeError: a named network with own data, or a function that returns something else.
        UserError: no network or no data, an unknown name, or a network that cannot be traced.
        MissingFileError: the data are neither on disk nor to be downloaded.
    """
    if network is None or data is None:
        raise UserError(
            f"expected a network and data, got network={network!r} and data={data!r}: give both "
            "(on the command line --network and --data), or take an id that has them; "
            "`prune-gym envs` lists the ids"
        )
    if isinstance(network, os.PathLike):
        network = os.fspath(network)
    if isinstance(network, str) and isinstance(data, str):
        options = repair, block_size, by_information, device, calibrated_on
        return load_evaluator(network, data, *options)
    if isinstance(network, nn.Module):
        own = datasets.load(data) if isinstance(data, str) else data
        options = repair, block_size, by_information, device, calibrated_on
        return make_evaluator(network, own, *options)
    raise UserTypeError(
        f"network={network!r} names weights trained on a named data set; with your own data give "
        "your own trained nn.Module too"
    )


def load_evaluator(
    network: str,
    data: str,
    repair: str,
    block_size: int = BLOCK_SIZE,
    by_information: bool = False,
    device: str = "auto",
    calibrated_on: int = IMAGES,
) -> Evaluator:
    """Return the evaluator of a named network on a named data set; every caller shares it.

    Raises:
        UserTypeError: a function that is named returns something else.
        UserError: an unknown name, or damaged weights.
        MissingFileError: the data are neither on disk nor to be downloaded.
    """
    version = file_version(network_path(network)) if is_network_file(network) else None
    options = repair, block_size, by_information, device, calibrated_on
    return _loaded(network, data, *options, version)


def forget_evaluators() -> None:
    """Drop the evaluators that were made by name: what they share is made again."""
    _loaded.cache_clear()


@lru_cache(maxsize=8)
def _loaded(
    network: str,
    data: str,
    repair: str,
    block_size: int,
    by_information: bool,
    device: str,
    calibrated_on: int,
    version: tuple[int, int] | None,
) -> Evaluator:
    """Load; ``version`` is that of the network's file, for one that is written again."""
    loaded = datasets.load(data)
    if is_network_file(network):
        net, spec = load_network(network), read_network_spec(network)
        if spec.data not in ("", data):
            raise UserError(
                f"{network} was pruned on {spec.data!r}, and the environment's data are "
                f"{data!r}: take an id of {spec.data}, or prune on {data}"
            )
        loaded = models.normalized_for(spec.network, loaded)
    elif ":" in network:
        net = call_named(network, (nn.Module,), "network")
    else:
        net = models.pretrained(network, loaded.name, loaded.num_classes)
        loaded = models.normalized_for(network, loaded)
    options = repair, block_size, by_information, device, calibrated_on
    rebuild = (load_evaluator, (network, data, *options))
    shipped = models.weights_path(network, f"{loaded.name}-information")
    return make_evaluator(net, loaded, *options, rebuild, shipped)


@outside_contexts
def make_evaluator(
    network: nn.Module,
    data: AnyData,
    repair: str,
    block_size: int = BLOCK_SIZE,
    by_information: bool = False,
    device: str = "auto",
    calibrated_on: int = IMAGES,
    rebuild: tuple | None = None,
    shipped: Path | None = None,
) -> Evaluator:
    """Trace and calibrate a copy of a network; the calibration is kept in the user's cache folder.

    So is the information that its channels carry, unless the file ``shipped`` has it already.

    Raises:
        UserError: the network does not take the images, its forward cannot be traced, or a
            parameter or buffer holds NaN or infinite values; the message names it.
    """
    where, shape = find_device(device), shape_of(data.train.images)
    # Zeros that stand for a skipped block would stay as wide when the network is cut again.
    network = for_inference(copy_network(network), shape)
    if isinstance(data, DetectionData):
        check_heads(network, data)
    table = trace(network, shape)
    table = dataclasses.replace(table, block_size=block_size)
    if not zeros_fill_masks(network, table):  # it was pruned weight by weight
        table = dataclasses.replace(table, block_size=1)
    pixels = calibration_images(data, calibrated_on)
    check_finite(network, normalize(pixels[:1], data))
    calibration = _cached_calibration(network, table, pixels, data, where)
    factors = None
    if by_information:
        factors = importance(_information(network, table, data, shipped, where), calibration)
    parts = (network, table, data, calibration, pixels, repair, rebuild, factors)
    return Evaluator(*parts, device=where)


def _information(
    network: nn.Module,
    table: LayerTable,
    data: AnyData,
    shipped: Path | None,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Return the information that channels carry: shipped, cached, or learned now."""
    if shipped is not None and shipped.is_file():
        return load_file(shipped)
    if not isinstance(data, Data):
        raise UserError("decide: 'variational' needs images with classes; take 'density'")
    pixels = calibration_images(data)
    file = f"information-{_calibrated_on(network, pixels, data, device)}.npz"
    found = read_arrays(file, noisy_layers(table))
    if found is None:
        chosen = slice(None, None, max(len(data.train) // INFORMATION_IMAGES, 1))
        images = normalize(data.train.images[chosen], data, device)
        labels = torch.tensor(data.train.labels[chosen], device=device)
        found = learn_information(on_device(network, device), table, images, labels)
        write_arrays(file, found)
    return found


def calibration_images(data: AnyData, count: int = IMAGES) -> Arrays:
    """Return training images, evenly spaced; all where there are no more than ``count``."""
    step = max(len(data.train) // count, 1)
    return data.train.images[::step][:count]


@torch.inference_mode()
def _check_classifier(network: nn.Module, images: Tensors, data: Data) -> None:
    if (classes := count_classes(feed(network, images[:1]))) < data.num_classes:
        raise UserError(
            f"{type(network).__name__} has {classes} outputs, and {data.name} has "
            f"{data.num_classes} classes"
        )


def _cached_calibration(
    network: nn.Module,
    table: LayerTable,
    pixels: Arrays,
    data: AnyData,
    device: torch.device,
) -> Calibration:
    pixels = pixels[:: calibrating.every(table, len(pixels))]
    file = f"calibration-{_calibrated_on(network, pixels, data, device)}.npz"
    groups = range(len(table.groups))
    keys = [
        *(f"moment {name}" for name in table.consumers),
        *(f"order {g}" for g in groups),
        *(f"error {g}" for g in groups),
    ]
    arrays = read_arrays(file, keys)
    if arrays is not None:
        return Calibration(
            {name: arrays[f"moment {name}"] for name in table.consumers},
            tuple(arrays[f"order {g}"] for g in groups),
            tuple(arrays[f"error {g}"] for g in groups),
        )
    # Seen for the first time: afterwards the file above says that it was understood.
    images = normalize(pixels, data)
    if isinstance(data, Data):
        _check_classifier(network, images, data)
    check_cut(network, table, images)
    found = calibrating.calibrate(on_device(network, device), table, images.to(device))
    parts = (found.moments[name] for name in table.consumers)
    made = [*parts, *found.orders, *found.errors]
    write_arrays(file, dict(zip(keys, made, strict=True)))
    return found


def _calibrated_on(network: nn.Module, pixels: Arrays, data: AnyData, device: torch.device) -> str:
    purpose = f"calibration-{calibrating.VERSION} {data.mean} {data.std}"
    return fingerprint(purpose, network, [pixels], device)
