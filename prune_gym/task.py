"""The part of an environment that is made once and shared: network, data and evaluator by name."""

import copy
import dataclasses
import hashlib
import io
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors.numpy import load_file, save
from torch import nn
from torch.fx import symbolic_trace

from prune_gym import datasets, models
from prune_gym.datasets import Data, DetectionData
from prune_gym.deploy.saved import SUFFIX, load_network, read_recipe
from prune_gym.evaluate import Evaluator
from prune_gym.importing import call_named
from prune_gym.network import calibration as calibrating
from prune_gym.network.calibration import Calibration
from prune_gym.network.images import normalised
from prune_gym.network.information import importance, learn_information
from prune_gym.network.precision import bfloat16_is_fast
from prune_gym.network.table import MASKED_TOGETHER, LayerTable
from prune_gym.network.trace import trace
from prune_gym.paths import cache_home, write_atomically

INFORMATION_IMAGES = 4_096


def find_evaluator(
    network: str | nn.Module,
    data: str | Data | DetectionData,
    repair: str,
    masked_together: int = MASKED_TOGETHER,
    by_information: bool = False,
) -> Evaluator:
    """Return the evaluator of a named network on a named data set, or of one's own.

    A network's name may be a file that ``prune-gym apply`` wrote. A name
    ``package.module:function`` is a function that returns one's own trained ``nn.Module``, or one's
    own :class:`Data`. ``masked_together`` output channels share a mask where weights are pruned one
    by one, by magnitude or ``by_information`` that they carry.

    Raises:
        TypeError: a named network with own data, or a named function that returns something else.
        ValueError: an unknown name, or a network that cannot be traced.
        FileNotFoundError: the data are neither on disk nor to be downloaded.
    """
    if isinstance(network, str) and isinstance(data, str):
        return load_evaluator(network, data, repair, masked_together, by_information)
    if isinstance(network, nn.Module):
        own = datasets.load(data) if isinstance(data, str) else data
        return make_evaluator(network, own, repair, masked_together, by_information)
    raise TypeError(
        f"network={network!r} names weights trained on a named data set; with your own data give "
        "your own trained nn.Module too"
    )


def load_evaluator(
    network: str,
    data: str,
    repair: str,
    masked_together: int = MASKED_TOGETHER,
    by_information: bool = False,
) -> Evaluator:
    """Return the evaluator of a named network on a named data set; every caller shares it.

    Raises:
        TypeError: a function that is named returns something else.
        ValueError: an unknown name, or damaged weights.
        FileNotFoundError: the data are neither on disk nor to be downloaded.
    """
    return _loaded(network, data, repair, masked_together, by_information)


@lru_cache(maxsize=8)
def _loaded(
    network: str, data: str, repair: str, masked_together: int, by_information: bool
) -> Evaluator:
    loaded = datasets.load(data)
    if ":" in network:
        net = call_named(network, (nn.Module,), "network")
    elif network.endswith(SUFFIX):
        net = load_network(network)
        loaded = models.normalised_for(read_recipe(network)["network"], loaded)
    else:
        net = models.pretrained(network, loaded.name, loaded.num_classes)
        loaded = models.normalised_for(network, loaded)
    rebuild = (load_evaluator, (network, data, repair, masked_together, by_information))
    shipped = models.weights_path(network, f"{loaded.name}-information")
    return make_evaluator(net, loaded, repair, masked_together, by_information, rebuild, shipped)


def make_evaluator(
    network: nn.Module,
    data: Data | DetectionData,
    repair: str,
    masked_together: int = MASKED_TOGETHER,
    by_information: bool = False,
    rebuild: tuple | None = None,
    learned: Path | None = None,
) -> Evaluator:
    """Trace and calibrate a copy of a network; the calibration is kept in the user's cache folder.

    So is the information that its channels carry, unless the file ``learned`` has it already.

    Raises:
        ValueError: an operation of the network is not understood; the message names the layer.
    """
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    if masked_together < 1:
        raise ValueError(
            f"granularity: expected a number of channels >= 1, got {masked_together!r}"
        )
    table = trace(network, data.train.images.shape[1:])
    table = dataclasses.replace(table, masked_together=masked_together)
    images = normalised(calibration_images(data), data)
    calibration = _cached_calibration(network, table, images)
    factors = None
    if by_information:
        if learned is None or not learned.is_file():
            learned = cache_home() / f"information-{_fingerprint(network, images)}.safetensors"
        factors = importance(_information(network, table, data, learned), calibration)
    return Evaluator(network, table, data, calibration, images, repair, rebuild, factors)


def _information(
    network: nn.Module, table: LayerTable, data: Data | DetectionData, path: Path
) -> dict[str, np.ndarray]:
    """Return the information that channels carry out of a file, which is made where it is not."""
    if not path.is_file():
        if not isinstance(data, Data):
            raise ValueError("decide: 'variational' learns from classes of images, not from boxes")
        chosen = slice(None, None, max(len(data.train) // INFORMATION_IMAGES, 1))
        images = normalised(data.train.images[chosen], data)
        labels = torch.tensor(data.train.labels[chosen])
        write_atomically(path, save(learn_information(network, table, images, labels)))
    return load_file(path)


def calibration_images(data: Data | DetectionData) -> np.ndarray:
    """Return 512 training images, evenly spaced."""
    step = max(len(data.train) // calibrating.IMAGES, 1)
    return data.train.images[::step][: calibrating.IMAGES]


def _cached_calibration(network: nn.Module, table: LayerTable, images: torch.Tensor) -> Calibration:
    path = cache_home() / f"calibration-{_fingerprint(network, images)}.npz"
    found = _read(path, table)
    if found is None:
        found = calibrating.calibrate(network, table, images)
        _write(path, found)
    return found


def _fingerprint(network: nn.Module, images: torch.Tensor) -> str:
    # Equal weights in another architecture, or at another precision, calibrate differently.
    digest = hashlib.sha256(f"calibration-4 {bfloat16_is_fast()} {network}".encode())
    digest.update(symbolic_trace(network).code.encode())
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    digest.update(images.numpy().tobytes())
    return digest.hexdigest()[:24]


def _read(path, table: LayerTable) -> Calibration | None:
    """Return the cached calibration, or None where there is none that can be used."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            groups = range(len(table.groups))
            norms = [layer.name for layer in table.layers if layer.kind == "batch_norm"]
            return Calibration(
                {name: arrays[f"moment {name}"] for name in table.consumers},
                {name: arrays[f"statistics {name}"] for name in norms},
                tuple(arrays[f"order {g}"] for g in groups),
                tuple(arrays[f"error {g}"] for g in groups),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None  # absent or damaged: measured anew, and the cache replaced


def _write(path, calibration: Calibration) -> None:
    arrays = {f"moment {name}": moment for name, moment in calibration.moments.items()}
    arrays |= {f"statistics {name}": both for name, both in calibration.statistics.items()}
    arrays |= {f"order {g}": order for g, order in enumerate(calibration.orders)}
    arrays |= {f"error {g}": error for g, error in enumerate(calibration.errors)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(path, buffer.getvalue())
    except OSError:
        return  # a read-only cache costs seconds at the next start and nothing else
