"""The part of an environment that is made once and shared: network, data and evaluator by name."""

import copy
import hashlib
import io
from functools import lru_cache
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn
from torch.fx import symbolic_trace

from prune_gym import datasets, models
from prune_gym.datasets import Data
from prune_gym.evaluate import Evaluator
from prune_gym.network import calibration as calibrating
from prune_gym.network.calibration import Calibration
from prune_gym.network.images import normalised
from prune_gym.network.precision import bfloat16_is_fast
from prune_gym.network.table import LayerTable
from prune_gym.network.trace import trace
from prune_gym.paths import cache_home, write_atomically


def find_evaluator(network: str | nn.Module, data: str | Data, repair: str) -> Evaluator:
    """Return the evaluator of a named network on a named data set, or of one's own.

    Raises:
        TypeError: a named network with own data, or the other way round.
        ValueError: an unknown name, or a network that cannot be traced.
        FileNotFoundError: the data are neither on disk nor to be downloaded.
    """
    if isinstance(network, str) and isinstance(data, str):
        return load_evaluator(network, data, repair)
    if isinstance(network, nn.Module):
        return make_evaluator(
            network, datasets.load(data) if isinstance(data, str) else data, repair
        )
    raise TypeError(
        f"network={network!r} names weights trained on a named data set; with your own data give "
        "your own trained nn.Module too"
    )


@lru_cache(maxsize=8)
def load_evaluator(network: str, data: str, repair: str) -> Evaluator:
    """Return the evaluator of a named network on a named data set; every caller shares it.

    Raises:
        ValueError: an unknown name, or damaged weights.
        FileNotFoundError: the data are neither on disk nor to be downloaded.
    """
    loaded = datasets.load(data)
    net = models.pretrained(network, data, loaded.num_classes)
    return make_evaluator(net, loaded, repair, rebuild=(load_evaluator, (network, data, repair)))


def make_evaluator(
    network: nn.Module, data: Data, repair: str, rebuild: tuple | None = None
) -> Evaluator:
    """Trace and calibrate a copy of a network; the calibration is kept in the user's cache folder.

    Raises:
        ValueError: an operation of the network is not understood; the message names the layer.
    """
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    table = trace(network, data.train.images.shape[1:])
    images = normalised(calibration_images(data), data)
    calibration = _cached_calibration(network, table, images)
    return Evaluator(network, table, data, calibration, images, repair, rebuild)


def calibration_images(data: Data) -> np.ndarray:
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
    digest = hashlib.sha256(f"calibration-3 {bfloat16_is_fast()} {network}".encode())
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
