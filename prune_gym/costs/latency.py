"""Latency from a table measured layer by layer on a named device."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym.errors import unknown
from prune_gym.network.table import Layer, LayerTable

FORMAT = "prune-gym-latency-1"
SHIPPED = Path(__file__).parent / "latency_tables"
TIMED = ("conv", "depthwise", "linear", "pool")


@dataclass(frozen=True)
class LatencyTable:
    """Measured times of single layers on one device.

    Attributes:
        about: device, runtime, versions, threads, batch, date, repeats.
        layers: :func:`signature` -> (inputs (i,), outputs (o,), times in ms (i, o)).
    """

    about: dict[str, Any]
    layers: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


def signature(layer: Layer, inputs: int, outputs: int) -> str:
    """Return the key of a layer in a table; ``inputs`` and ``outputs`` are the uncut channels.

    Example: ``"conv 3x3 stride 1 on 32x32, 64 to 128"``.
    """
    return (
        f"{layer.kind} {layer.kernel[0]}x{layer.kernel[1]} stride {layer.stride} "
        f"on {layer.in_size[0]}x{layer.in_size[1]}, {inputs} to {outputs}"
    )


def load_latency_table(name: str) -> LatencyTable:
    """Read a latency table by the name of a shipped one or by path.

    Raises:
        ValueError: no such table, or the file is not a latency table.
    """
    path = SHIPPED / f"{name}.json"
    if not path.is_file():
        path = Path(name)
        if not path.is_file():
            shipped = sorted(each.stem for each in SHIPPED.glob("*.json"))
            raise ValueError(unknown("latency table (shipped name or path)", name, shipped))
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        layers = {
            key: (
                np.array(entry["inputs"], dtype=np.float64),
                np.array(entry["outputs"], dtype=np.float64),
                np.array(entry["milliseconds"], dtype=np.float64),
            )
            for key, entry in content["layers"].items()
        }
        _check(layers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a latency table of format {FORMAT!r} ({error!r}); make one with "
            "`prune-gym profile`"
        ) from error
    return LatencyTable({k: v for k, v in content.items() if k != "layers"}, layers)


def _check(layers: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    for key, (inputs, outputs, times) in layers.items():
        if times.shape != (len(inputs), len(outputs)):
            raise ValueError(f"{key}: times are {times.shape}")
        if not (np.isfinite(times).all() and (times >= 0).all()):
            raise ValueError(f"{key}: a time is negative or not finite")
        if (np.diff(inputs) <= 0).any() or (np.diff(outputs) <= 0).any():
            raise ValueError(f"{key}: channel counts must ascend")


class Latency:
    """Sum over the layers of the table's time, interpolated linearly in both channel counts.

    Channel counts are whole numbers, so the grid cell and the position in it are looked up once
    per count at construction; a call is then a handful of array look-ups for all layers at once.
    """

    name = "latency"
    metric = "latency_ms"
    unit = "ms"
    deterministic = True
    platform_dependent = True

    def __init__(self, table: LayerTable, latency: LatencyTable) -> None:
        """Look up the layers of ``table`` in ``latency``.

        Raises:
            ValueError: a layer was not measured.
        """
        self._table = table
        self._timed = np.array([i for i, layer in enumerate(table.layers) if layer.kind in TIMED])
        full_in = table.inputs(table.full[None])[0].astype(int)
        full_out = table.outputs(table.full[None])[0].astype(int)
        grids = []
        for index in self._timed:
            key = signature(table.layers[index], full_in[index], full_out[index])
            if key not in latency.layers:
                raise ValueError(
                    f"layer {table.layers[index].name!r} ({key}) is not in the latency table "
                    f"measured on {latency.about.get('device')}; measure this network with "
                    "`prune-gym profile`"
                )
            grids.append(latency.layers[key])
        self._in = _Cells([grid[0] for grid in grids], full_in[self._timed])
        self._out = _Cells([grid[1] for grid in grids], full_out[self._timed])
        self._times = np.concatenate([grid[2].ravel() for grid in grids])
        self._stride = np.array([grid[2].shape[1] for grid in grids])
        self._base = np.cumsum([0] + [grid[2].size for grid in grids[:-1]])

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        """Return milliseconds: widths (n, groups) -> float64 (n,)."""
        row, next_row, u = self._in.find(self._table.inputs(widths)[:, self._timed])
        column, next_column, v = self._out.find(self._table.outputs(widths)[:, self._timed])
        low, high = self._base + row * self._stride, self._base + next_row * self._stride
        times = self._times
        near = (1 - v) * times[low + column] + v * times[low + next_column]
        far = (1 - v) * times[high + column] + v * times[high + next_column]
        return ((1 - u) * near + u * far).sum(axis=1)


class _Cells:
    """For every layer and channel count: its cell in the layer's grid and the position in it."""

    def __init__(self, grids: list[np.ndarray], full: np.ndarray) -> None:
        cells, positions = [], []
        for grid, largest in zip(grids, full, strict=True):
            counts = np.arange(largest + 1)
            last = max(len(grid) - 2, 0)
            cell = np.clip(np.searchsorted(grid, counts, side="right") - 1, 0, last)
            step = grid[cell + 1] - grid[cell] if len(grid) > 1 else 1.0
            cells.append(cell)
            positions.append(np.clip((counts - grid[cell]) / step, 0.0, float(len(grid) > 1)))
        self._offsets = np.cumsum([0, *(full[:-1] + 1)])
        self._cell, self._position = np.concatenate(cells), np.concatenate(positions)
        self._last = np.array([len(grid) - 1 for grid in grids])

    def find(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return cell, next cell and position in [0, 1]: counts (n, layers) -> 3 x (n, layers)."""
        at = self._offsets + counts.astype(np.intp)
        cell = self._cell[at]
        return cell, np.minimum(cell + 1, self._last), self._position[at]
