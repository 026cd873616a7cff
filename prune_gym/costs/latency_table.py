"""Read latency tables: files with times of layers, measured on a named device."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import is_file
from prune_gym.errors import UserError, unknown
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.layers import Kind

FORMAT = "prune-gym-latency-2"
SHIPPED = Path(__file__).parent / "latency_tables"
AXES = ("inputs", "outputs", "density", "weight_bits")
LARGEST = {"inputs": 1e9, "outputs": 1e9, "density": 1.0, "weight_bits": FLOAT_BITS}  # on an axis
CONVERSIONS = ("to_int8", "to_float")
MAX_MS = 1e9  # a larger time is not one; sums of such times stay finite
MAX_ROUND_UP = 4_096  # channels


@dataclass(frozen=True)
class LayerTimes:
    """The measured times of one layer.

    Attributes:
        axes: for each of `AXES` the ascending points of the grid; a single point where the
            time does not depend on the axis.
        milliseconds: ``float64``, one dimension per axis.
        round_up: block size of the runtime: larger channel counts are rounded up to a multiple of
            it before the look-up.
        unfilled: extra ms where the outputs are not a multiple of ``round_up``, for each point of
            the axis of outputs.
        int8: the times of the layer in 8 bits, which it takes where its weights have at most 8;
            None where the runtime has no int8, so that bits change nothing.
    """

    axes: tuple[np.ndarray, ...]
    milliseconds: np.ndarray
    round_up: int = 1
    unfilled: np.ndarray | None = None
    int8: "LayerTimes | None" = None


@dataclass(frozen=True)
class Streaming:
    """The extra time of networks whose weights do not fit into the caches of the device.

    Attributes:
        from_mb: megabytes (10**6 bytes) of float32 weights of a whole network that still fit.
        to_mb: megabytes above which all weights are read from memory.
        ms_per_mb: extra ms for a megabyte that is read from memory.
    """

    from_mb: float
    to_mb: float
    ms_per_mb: float

    def milliseconds(self, megabytes: np.ndarray) -> np.ndarray:
        """Return the extra ms for networks with ``megabytes`` of weights, (n,) -> (n,)."""
        share = (megabytes - self.from_mb) / (self.to_mb - self.from_mb)
        share = np.minimum(np.maximum(share, 0.0), 1.0)
        return megabytes * share * self.ms_per_mb


NO_STREAMING = Streaming(1.0, 2.0, 0.0)


@dataclass(frozen=True)
class LatencyTable:
    """Measured times of the layers of one or several networks on one device.

    Attributes:
        about: device, runtime, version, threads, batch, networks and so on.
        layers: `prune_gym.costs.latency.signature` -> times.
        streaming: the extra time of large networks.
        untimed: kinds of layers that take no time where ``layers`` has no entry for them.
        conversions: ms of a tensor's conversion to int8, ms of a million of its numbers more, and
            the same to float.
    """

    about: Mapping[str, Any]
    layers: Mapping[str, LayerTimes]
    streaming: Streaming = NO_STREAMING
    untimed: tuple[str, ...] = ()
    conversions: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)


def load_latency_table(name: str) -> LatencyTable:
    """Read a latency table by the name of a shipped one or by path.

    Raises:
        UserError: there is no such table, or the file is not a latency table.
    """
    path = SHIPPED / f"{name}.json"
    if not is_file(path):
        path = Path(name)
        if not is_file(path):
            shipped = sorted(each.stem for each in SHIPPED.glob("*.json"))
            raise UserError(unknown("latency table (shipped name or path)", name, shipped))
    try:
        return _table(read_json(path))
    except (ValueError, RecursionError, OverflowError) as error:
        raise UserError(
            f"{path} is not a latency table of format {FORMAT!r} ({error}); make one with "
            "`prune-gym profile`"
        ) from error


def _table(content: Any) -> LatencyTable:
    content = _mapping("the file", content)
    if content.get("format") != FORMAT:
        raise UserError(f"format {content.get('format')!r}; measure the device again")
    layers = {
        key: _layer_times(key, _mapping(key, entry))
        for key, entry in _mapping("layers", content.get("layers")).items()
    }
    for key in ("threads", "batch"):
        if key in content:
            _whole_number(key, content[key], 1_000_000)
    for key in ("device", "runtime"):
        if not isinstance(content.get(key, ""), str):
            raise UserError(f"{key}: expected a text, got {content[key]!r}")
    _mapping("networks", content.get("networks", {}))
    about = {key: value for key, value in content.items() if key != "layers"}
    return LatencyTable(
        about, layers, _streaming(content), _untimed(content), _conversions(content)
    )


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{name}: expected a JSON object, got {type(value).__name__}")
    return value


def _whole_number(name: str, value: Any, largest: int) -> int:
    if type(value) is not int or not 1 <= value <= largest:
        raise UserError(f"{name}: expected a whole number from 1 to {largest:,}, got {value!r}")
    return value


def _numbers(name: str, value: Any, largest: float) -> np.ndarray:
    """Return an array of numbers in [0, largest]."""
    array = np.array(value)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name}: expected numbers")
    if not ((array >= 0) & (array <= largest)).all():  # false for NaN
        raise UserError(f"{name}: expected numbers from 0 to {largest:g}")
    return array.astype(np.float64)


def _untimed(content: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = content.get("untimed", [])
    if not isinstance(kinds, list):
        raise UserError(f"untimed: expected a list of kinds of layers, got {kinds!r}")
    for kind in kinds:
        if kind not in get_args(Kind):
            raise UserError(unknown("kind of untimed layers", str(kind), get_args(Kind)))
    return tuple(kinds)


def _streaming(content: Mapping[str, Any]) -> Streaming:
    if "streaming" not in content:
        return NO_STREAMING
    entry, keys = _mapping("streaming", content["streaming"]), ("from_mb", "to_mb", "ms_per_mb")
    if set(entry) != set(keys):
        raise UserError(f"streaming: expected the keys {', '.join(keys)}, got {', '.join(entry)}")
    streaming = Streaming(*_numbers("streaming", [entry[key] for key in keys], MAX_MS).tolist())
    if streaming.from_mb >= streaming.to_mb:
        raise UserError("streaming: from_mb must be less than to_mb")
    return streaming


def _conversions(content: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the four numbers of "conversions", all 0 where there are none."""
    entry = _mapping("conversions", content.get("conversions", {}))
    if set(entry) - set(CONVERSIONS):
        raise UserError(f"conversions: expected the keys {', '.join(CONVERSIONS)}")
    numbers = [
        _numbers(f"conversions: {direction}", entry.get(direction, [0.0, 0.0]), MAX_MS)
        for direction in CONVERSIONS
    ]
    if any(each.shape != (2,) for each in numbers):
        raise UserError("conversions: expected [ms, ms per million] in each direction")
    return tuple(np.concatenate(numbers).tolist())


def _layer_times(key: str, entry: Mapping[str, Any]) -> LayerTimes:
    named = [axis for axis in AXES if axis in entry or axis in ("inputs", "outputs")]
    points = {axis: _numbers(f"{key}: {axis}", entry.get(axis), LARGEST[axis]) for axis in named}
    for axis, each in points.items():
        if each.ndim != 1 or not each.size or (np.diff(each) <= 0).any():
            raise UserError(f"{key}: {axis} must be a list of numbers that ascend")
    times = _numbers(f"{key}: milliseconds", entry.get("milliseconds"), MAX_MS)
    shape = tuple(len(each) for each in points.values())
    if times.shape != shape:
        raise UserError(
            f"{key}: milliseconds have the shape {times.shape}, and {', '.join(named)} ask for "
            f"{shape}"
        )
    round_up = _whole_number(f"{key}: round_up", entry.get("round_up", 1), MAX_ROUND_UP)
    axes = tuple(points.get(axis, np.ones(1)) for axis in AXES)
    name = f"{key}: unfilled_milliseconds"
    unfilled = _numbers(name, entry.get("unfilled_milliseconds", [0.0] * len(axes[1])), MAX_MS)
    if unfilled.shape != axes[1].shape:
        raise UserError(f"{name} must have a number for each of outputs")
    int8 = None
    if "int8" in entry and not key.endswith(": int8"):
        name = f"{key}: int8"
        int8 = _layer_times(name, _mapping(name, entry["int8"]))
    times = times.reshape([len(axis) for axis in axes])
    return LayerTimes(axes, times, round_up, unfilled, int8)
