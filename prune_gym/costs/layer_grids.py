"""Look up the times of layers: grids over channels, density and bits, interpolated linearly."""

from collections.abc import Sequence

import numpy as np

from prune_gym.costs.latency_table import AXES, LayerTimes
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable


class LayerGrids:
    """The times of some layers of a network, interpolated linearly along every axis of their grids.

    Channels and bits are integers, so the constructor computes the grid position of every possible
    value. A call is then a few array look-ups for all layers at once.
    """

    def __init__(
        self, table: LayerTable, indices: np.ndarray, layers: Sequence[LayerTimes]
    ) -> None:
        """Take the layers at ``indices`` of ``table.layers`` and their times."""
        maps = table.channel_maps(indices)  # of inputs and of outputs
        self._channel_map, self._constant = (
            np.concatenate(part, -1) for part in zip(*maps, strict=True)
        )
        columns = {index: column for column, index in enumerate(table.weighted)}
        self._columns = np.array([columns.get(index, -1) for index in indices], dtype=np.intp)
        self._times = np.concatenate([layer.milliseconds.ravel() for layer in layers])
        self._base = np.cumsum([0, *(layer.milliseconds.size for layer in layers[:-1])])
        largest = {
            "inputs": table.inputs(table.full[None])[0, indices],
            "outputs": table.outputs(table.full[None])[0, indices],
            "weight_bits": np.full(len(layers), FLOAT_BITS),
        }
        self._axes = {
            name: _Numbers(layers, at, largest[name]) if name in largest else _Shares(layers, at)
            for at, name in enumerate(AXES)
            if any(len(layer.axes[at]) > 1 for layer in layers)
        }
        self._unfilled = _Unfilled(layers, largest["outputs"])

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return the ms of every layer of n strategies, float64 (n, layers)."""
        channels = (configuration.widths @ self._channel_map + self._constant).astype(np.intp)
        count = len(self._base)
        values = {"inputs": channels[:, :count], "outputs": channels[:, count:]}
        places = [
            axis.find(values[name] if name in values else self._decided(name, configuration))
            for name, axis in self._axes.items()
        ]
        times = self._interpolated(self._base, places)
        return times + self._unfilled.find(values["outputs"])

    def _decided(self, axis: str, configuration: Configuration) -> np.ndarray:
        """Return the densities or the bits of weights of n strategies, (n or 1, layers)."""
        given, untouched, none_decided = (
            (configuration.density, 1.0, configuration.is_dense)
            if axis == "density"
            else (configuration.weight_bits, FLOAT_BITS, configuration.has_float_weights)
        )
        if none_decided:
            return np.full((1, len(self._base)), untouched)
        return np.where(self._columns < 0, untouched, given[:, self._columns])

    def _interpolated(self, at: np.ndarray, places: Sequence["_Place"]) -> np.ndarray:
        """Return the times at ``at``, interpolated along the axes of ``places``."""
        if not places:
            return self._times[at]
        (low, high, position), *others = places
        near, far = (self._interpolated(at + offset, others) for offset in (low, high))
        return near + position * (far - near)


# Offsets of the two grid points around a value, and its position between them, in [0, 1].
_Place = tuple[np.ndarray, np.ndarray, np.ndarray]


def _place(points: np.ndarray, stride: int, values: np.ndarray) -> _Place:
    """Locate values in a grid; outside of it, take the nearest point."""
    index = np.interp(values, points, np.arange(len(points)))
    low = np.minimum(index.astype(np.intp), max(len(points) - 2, 0))
    return low * stride, np.minimum(low + 1, len(points) - 1) * stride, index - low


def rounded_up(counts: np.ndarray, block: int) -> np.ndarray:
    """Return channel counts rounded up to whole blocks; counts below a block do not change."""
    return np.where(counts <= block, counts, -(-counts // block) * block)


def _stride(layer: LayerTimes, axis: int) -> int:
    return int(np.prod(layer.milliseconds.shape[axis + 1 :]))


class _Numbers:
    """An axis of integers (channels, bits); the place of every possible value is precomputed."""

    def __init__(self, layers: Sequence[LayerTimes], axis: int, largest: np.ndarray) -> None:
        places = []
        for layer, most in zip(layers, largest.astype(int), strict=True):
            step = layer.round_up if AXES[axis] in ("inputs", "outputs") else 1
            numbers = rounded_up(np.arange(most + 1), step)
            places.append(_place(layer.axes[axis], _stride(layer, axis), numbers))
        self._start = np.cumsum([0, *(largest[:-1].astype(int) + 1)])
        self._low, self._high, self._position = (
            np.concatenate(part) for part in zip(*places, strict=True)
        )

    def find(self, numbers: np.ndarray) -> _Place:
        """Return the places of numbers (n, layers)."""
        at = self._start + numbers
        return self._low[at], self._high[at], self._position[at]


class _Unfilled:
    """The extra time of outputs that do not fill the blocks of the runtime."""

    def __init__(self, layers: Sequence[LayerTimes], largest: np.ndarray) -> None:
        extras = []
        for layer, most in zip(layers, largest.astype(int), strict=True):
            numbers = np.arange(most + 1)
            up = rounded_up(numbers, layer.round_up)
            given = np.zeros(len(layer.axes[1])) if layer.unfilled is None else layer.unfilled
            extras.append(np.interp(up, layer.axes[1], given) * (numbers % layer.round_up != 0))
        self._start = np.cumsum([0, *(largest[:-1].astype(int) + 1)])
        self._extra = np.concatenate(extras)

    def find(self, numbers: np.ndarray) -> np.ndarray:
        """Return ms of numbers (n, layers)."""
        return self._extra[self._start + numbers]


class _Shares:
    """An axis of real numbers (density)."""

    def __init__(self, layers: Sequence[LayerTimes], axis: int) -> None:
        self._grids = [(layer.axes[axis], _stride(layer, axis)) for layer in layers]

    def find(self, shares: np.ndarray) -> _Place:
        """Return the places of shares (n, layers)."""
        places = [
            _place(points, stride, shares[:, column])
            for column, (points, stride) in enumerate(self._grids)
        ]
        low, high, position = (np.stack(part, axis=1) for part in zip(*places, strict=True))
        return low, high, position
