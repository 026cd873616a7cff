"""Compute latency from a table that was measured on a named device."""

import numpy as np

from prune_gym.costs.latency_table import AXES, LatencyTable, LayerTimes, load_latency_table
from prune_gym.costs.layer_grids import LayerGrids, rounded_up
from prune_gym.costs.precisions import Precisions
from prune_gym.errors import UserError
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Layer

__all__ = [
    "Latency",
    "LatencyTable",
    "load_latency_table",
    "rounded_up",
    "signatures",
    "weight_megabytes",
]

TIMED = ("conv", "depthwise", "linear", "pool")
INT8_BITS = 8
NO_INT8 = (
    "the latency table {} does not depend on bits: take intel-xeon-int8, or measure one with "
    "`prune-gym profile --int8`"
)
MAX_BATCH = 20_000  # strategies; bounds the memory of a call


def signature(layer: Layer, inputs: int, outputs: int) -> str:
    """Return the key of a layer in a latency table, for its original numbers of channels.

    Example: ``"conv 3x3 stride 1 on 32x32, 64 to 128"``.
    """
    grouped = f" in {layer.groups} groups" if layer.kind == "conv" and layer.groups > 1 else ""
    return (
        f"{layer.kind} {_by(layer.kernel)} stride {layer.stride} "
        f"on {_by(layer.in_size)}, {inputs} to {outputs}{grouped}"
    )


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def signatures(table: LayerTable) -> dict[int, str]:
    """Return the keys of the layers that a table times, by their index in ``table.layers``."""
    inputs, outputs = (f(table.full[None])[0].astype(int) for f in (table.inputs, table.outputs))
    return {
        index: signature(layer, inputs[index], outputs[index])
        for index, layer in enumerate(table.layers)
        if layer.kind in TIMED
    }


def weight_megabytes(
    table: LayerTable, configuration: Configuration, int8: np.ndarray | None = None
) -> np.ndarray:
    """Return the megabytes of n networks' weights, (n,).

    They are float32; ``int8``, bool (n, layers with weights), says which have 8 bits instead.
    """
    weights = table.weights(configuration)
    if int8 is not None:
        weights = np.where(int8, weights * (INT8_BITS / FLOAT_BITS), weights)
    return np.ascontiguousarray(weights).sum(axis=1) * FLOAT_BITS / 8e6


def _timed_layers(table: LayerTable, latency: LatencyTable) -> dict[int, LayerTimes]:
    """Return the times of the layers that have any, by their index in ``table.layers``."""
    keys = signatures(table)
    found = {index: _times(latency, table.layers[index], key) for index, key in keys.items()}
    missing = [i for i in keys if found[i] is None and table.layers[i].kind not in latency.untimed]
    if missing or not any(found.values()):
        names = list(dict.fromkeys(keys[index] for index in missing or keys))
        listed = "".join(f"\n  {name}" for name in names)
        raise UserError(
            f"{len(names)} of the {len(set(keys.values()))} layer signatures of this network are "
            f"not in the latency table measured on {latency.about.get('device')}:{listed}\nMeasure "
            "this network with `prune-gym profile`, add the entries (docs/latency.md), or do "
            "without latency (latency=None)"
        )
    return {index: times for index, times in found.items() if times is not None}


def _times(latency: LatencyTable, layer: Layer, key: str) -> LayerTimes | None:
    """Return the times of a layer: its own, or those of the narrowest wider layer of its kind.

    The time of a layer depends on the channels that it has, not on those that it had once.
    """
    if key in latency.layers or (layer.kind == "conv" and layer.groups > 1):
        return latency.layers.get(key)
    kind, _, widths = key.rpartition(", ")
    inputs, outputs = map(int, widths.split(" to "))
    wider = [
        times
        for other, times in latency.layers.items()
        if other.rpartition(", ")[0] == kind
        and "groups" not in other
        and times.axes[0][-1] >= inputs
        and times.axes[1][-1] >= outputs
    ]
    return min(wider, key=lambda times: times.axes[0][-1] * times.axes[1][-1], default=None)


class Latency:
    """Sum of the times of the layers that run, interpolated linearly along every axis of the table.

    Where the table has int8 times, a layer whose weights have at most 8 bits takes those, and a
    tensor between an int8 and a float layer takes the time of its conversion. Pools, additions and
    activation functions run in the precision of the layer that they read.

    Attributes:
        depends_on_bits: whether the bits of weights change the time.
    """

    name = "latency"
    metric = "latency_ms"
    unit = "ms"
    deterministic = True
    platform_dependent = True

    def __init__(self, table: LayerTable, latency: LatencyTable) -> None:
        """Look up the layers of ``table`` in ``latency``.

        Raises:
            UserError: layers of the network are not in the latency table, or all its times are 0.
        """
        self._table, self._streaming = table, latency.streaming
        found = _timed_layers(table, latency)
        layers = list(found.values())
        self._timed = np.array(list(found), dtype=np.intp)
        self._float = LayerGrids(table, self._timed, layers)
        has_int8 = dict(zip(found, [layer.int8 is not None for layer in layers], strict=True))
        self._int8 = None
        if any(has_int8.values()):
            self._int8 = LayerGrids(table, self._timed, [layer.int8 or layer for layer in layers])
            self._can_int8 = np.array([has_int8.get(index, False) for index in table.weighted])
            self._precisions = Precisions(table)
            self._conversions = np.array(latency.conversions)
        bits = any(len(layer.axes[AXES.index("weight_bits")]) > 1 for layer in layers)
        self.depends_on_bits = bits or self._int8 is not None
        if self(table.configuration())[0] == 0:
            raise UserError(
                f"the latency table of {latency.about.get('device')} gives this network a time of "
                "0 ms; measure the network with `prune-gym profile`"
            )

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return milliseconds of n strategies, float64 (n,)."""
        if len(configuration) <= MAX_BATCH:
            return self._sum(configuration)
        starts = range(0, len(configuration), MAX_BATCH)
        return np.concatenate(
            [self._sum(configuration[start : start + MAX_BATCH]) for start in starts]
        )

    def _sum(self, configuration: Configuration) -> np.ndarray:
        times, int8, beyond = self._float(configuration), None, np.zeros(1)
        if self._int8 is not None and not configuration.has_float_weights:
            int8 = (configuration.weight_bits <= INT8_BITS) & self._can_int8
            tensors = self._precisions.tensors(configuration, int8)
            written = self._precisions.written_by(self._timed, tensors)
            times = np.where(written, self._int8(configuration), times)
            counted = self._precisions.conversions(configuration, int8, tensors)
            beyond = (counted * self._conversions).sum(axis=1)
        if not configuration.keeps_all_blocks:
            times = times * self._table.runs(configuration)[:, self._timed]
        # One memory order whatever n, so that a strategy costs the same alone and among others.
        megabytes = weight_megabytes(self._table, configuration, int8)
        beyond = beyond + self._streaming.milliseconds(megabytes)
        return np.ascontiguousarray(times).sum(axis=1) + beyond
