"""Latency tables: times of layers measured on a named device, and their files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_gym.errors import UserError, unknown

FORMAT = "prune-gym-latency-2"
SHIPPED = Path(__file__).parent / "latency_tables"
AXES = ("inputs", "outputs", "density", "weight_bits")


@dataclass(frozen=True)
class LayerTimes:
    """The measured times of one layer.

    Attributes:
        axes: for each of :data:`AXES` the ascending points of the grid; one point where the time
            does not depend on it.
        milliseconds: ``float64``, one dimension per axis.
        round_up: channel counts above this are rounded up to a multiple of it before they are
            looked up, as the runtime itself rounds them up.
        unfilled: ms that come on top where the outputs are no multiple of ``round_up``, for each
            point of the axis of outputs.
    """

    axes: tuple[np.ndarray, ...]
    milliseconds: np.ndarray
    round_up: int = 1
    unfilled: np.ndarray | None = None


@dataclass(frozen=True)
class Streaming:
    """What weights cost on top when a network's weights no longer fit the device's caches.

    Attributes:
        from_mb: megabytes of float32 weights (10**6 bytes) of the whole network that still fit.
        to_mb: megabytes from which on all weights come from memory.
        ms_per_mb: ms on top for a megabyte that comes from memory.
    """

    from_mb: float
    to_mb: float
    ms_per_mb: float

    def milliseconds(self, megabytes: np.ndarray) -> np.ndarray:
        """Return the ms on top for networks of so many megabytes, (n,) -> (n,)."""
        share = np.clip((megabytes - self.from_mb) / (self.to_mb - self.from_mb), 0.0, 1.0)
        return megabytes * share * self.ms_per_mb


NO_STREAMING = Streaming(1.0, 2.0, 0.0)


@dataclass(frozen=True)
class LatencyTable:
    """Measured times of the layers of one or several networks on one device.

    Attributes:
        about: device, runtime, version, threads, batch, networks and so on.
        layers: :func:`signature` -> times.
        streaming: what large networks take beyond the sum of their layers.
    """

    about: Mapping[str, Any]
    layers: Mapping[str, LayerTimes]
    streaming: Streaming = NO_STREAMING


def load_latency_table(name: str) -> LatencyTable:
    """Read a latency table by the name of a shipped one or by path.

    Raises:
        UserError: no such table, or the file is not a latency table.
    """
    path = SHIPPED / f"{name}.json"
    if not path.is_file():
        path = Path(name)
        if not path.is_file():
            shipped = sorted(each.stem for each in SHIPPED.glob("*.json"))
            raise UserError(unknown("latency table (shipped name or path)", name, shipped))
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise UserError(f"format {content['format']!r}; measure the device again")
        layers = {key: _layer_times(key, entry) for key, entry in content["layers"].items()}
        streaming = _streaming(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a latency table of format {FORMAT!r} ({error!r}); make one with "
            "`prune-gym profile`"
        ) from error
    return LatencyTable({k: v for k, v in content.items() if k != "layers"}, layers, streaming)


def _streaming(content: Mapping[str, Any]) -> Streaming:
    if "streaming" not in content:
        return NO_STREAMING
    streaming = Streaming(**{key: float(value) for key, value in content["streaming"].items()})
    if not (0 <= streaming.from_mb < streaming.to_mb and streaming.ms_per_mb >= 0):
        raise UserError(f"streaming is {streaming}")
    return streaming


def _layer_times(key: str, entry: Mapping[str, Any]) -> LayerTimes:
    named = [axis for axis in AXES if axis in entry or axis in ("inputs", "outputs")]
    points = {axis: np.array(entry[axis], dtype=np.float64) for axis in named}
    times = np.array(entry["milliseconds"], dtype=np.float64)
    if times.shape != tuple(len(points[axis]) for axis in named) or not times.size:
        raise UserError(f"{key}: times are {times.shape}")
    if not (np.isfinite(times).all() and (times >= 0).all()):
        raise UserError(f"{key}: a time is negative or not finite")
    if any((np.diff(each) <= 0).any() for each in points.values()):
        raise UserError(f"{key}: the points of an axis must ascend")
    round_up = entry.get("round_up", 1)
    if not isinstance(round_up, int) or round_up < 1:
        raise UserError(f"{key}: round_up is {round_up!r}")
    axes = tuple(points.get(axis, np.ones(1)) for axis in AXES)
    unfilled = np.array(entry.get("unfilled_milliseconds", np.zeros(len(axes[1]))), np.float64)
    if unfilled.shape != axes[1].shape or not np.isfinite(unfilled).all():
        raise UserError(f"{key}: unfilled_milliseconds are {unfilled}")
    return LayerTimes(axes, times.reshape([len(axis) for axis in axes]), round_up, unfilled)
