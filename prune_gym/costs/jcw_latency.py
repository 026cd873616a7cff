"""Convert the latency tables that JCW publishes (Zhao et al., ECCV 2022, arXiv 2110.08013)."""

from pathlib import Path
from typing import Any

import numpy as np

from prune_gym._utils.paths import is_file
from prune_gym.costs.latency import signature
from prune_gym.costs.latency_table import FORMAT
from prune_gym.errors import MissingFileError, UserError
from prune_gym.graph.layers import Affine, Layer

UNTIMED = ("depthwise", "linear", "pool")  # JCW times the other convolutions alone
FIELDS = "INPUTS SIZE OUTPUTS KERNEL STRIDE DEPTHWISE"


def convert(times: Path, convolutions: Path, device: str) -> dict[str, Any]:
    """Return the content of a latency table file.

    Equal convolutions share one entry, the mean of their times.

    Args:
        times: ``runtime.npy``: ms, (convolutions, outputs, inputs, densities). The points of the
            channels are 0 and equal parts of all channels, those of the densities reach from 0
            to 1.
        convolutions: ``conv_info.log``: one convolution per line, `FIELDS`; SIZE is that of
            the square input.
        device: name of the device in the table.

    Raises:
        MissingFileError: a file is not there.
        UserError: a file has another form, or they do not belong together.
    """
    grids = _times(times)
    layers = _layers(convolutions)
    if len(grids) != len(layers):
        raise UserError(
            f"{times} has times of {len(grids)} convolutions, and {convolutions} lists "
            f"{len(layers)} that are not depthwise"
        )
    found: dict[str, list[np.ndarray]] = {}
    axes: dict[str, dict[str, list[float]]] = {}
    for (layer, inputs, outputs), grid in zip(layers, grids, strict=True):
        key = signature(layer, inputs, outputs)
        (out_points, out_at), (in_points, in_at) = (
            _points(channels, count)
            for channels, count in zip((outputs, inputs), grid.shape, strict=False)
        )
        found.setdefault(key, []).append(grid[out_at][:, in_at].swapaxes(0, 1))
        densities = np.linspace(0, 1, grid.shape[2]).round(6).tolist()
        axes[key] = {"inputs": in_points, "outputs": out_points, "density": densities}
    entries = {
        key: {**axes[key], "milliseconds": np.mean(each, axis=0).tolist()}
        for key, each in found.items()
    }
    return {"format": FORMAT, "device": device, "untimed": list(UNTIMED), "layers": entries}


def _times(path: Path) -> np.ndarray:
    if not is_file(path):
        raise MissingFileError(f"{path}: no such file")
    try:
        times = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is not an array of NumPy ({error})") from error
    if times.ndim != 4 or times.dtype.kind != "f" or min(times.shape) < 2:
        raise UserError(
            f"{path}: expected times of the shape (convolutions, outputs, inputs, densities), got "
            f"{times.dtype} {times.shape}"
        )
    return times.astype(np.float64)


def _layers(path: Path) -> list[tuple[Layer, int, int]]:
    """Return the convolutions that are not depthwise, with their inputs and outputs."""
    if not is_file(path):
        raise MissingFileError(f"{path}: no such file")
    layers, none = [], Affine(0, ())
    for number, line in enumerate(path.read_text().splitlines(), 1):
        *numbers, depthwise = line.split() or [""]
        if len(numbers) != 5 or not all(map(str.isdecimal, numbers)):
            raise UserError(f"{path}, line {number}: expected {FIELDS}, got {line!r}")
        inputs, size, outputs, kernel, stride = map(int, numbers)
        if depthwise == "False":
            area, out = (size, size), (-(-size // stride),) * 2
            layer = Layer("", "conv", (kernel, kernel), stride, area, out, 0, none, none)
            layers.append((layer, inputs, outputs))
    return layers


def _points(channels: int, count: int) -> tuple[list[float], slice]:
    """Return the points of an axis of ``count`` times, and which of the times are theirs.

    Of fewer channels than parts only 0 and all channels count; times of 0 channels come twice then,
    and the rest is padding.
    """
    step = channels // (count - 1)
    if step == 0:
        return [0.0, float(channels)], slice(1, 3)
    parts = (float(step * part) for part in range(count - 1))
    return [*parts, float(channels)], slice(None)
