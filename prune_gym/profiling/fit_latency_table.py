"""Fit a latency table to measured runs: one grid of times per kind of layer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import block_diag

from prune_gym.costs.latency import INT8_BITS, Latency, rounded_up, signatures, weight_megabytes
from prune_gym.costs.latency_table import AXES, NO_STREAMING, LatencyTable, LayerTimes, Streaming
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Affine
from prune_gym.profiling.design_of_experiments import grid
from prune_gym.profiling.grid_regression import (
    fit_irls,
    grid_second_differences,
    hat_functions,
    second_differences,
)
from prune_gym.profiling.timing import Timed

CHANNEL_BLOCKS = (1, 8, 16, 32)  # channels per block in known runtimes
CACHE_SIZES_MB = (6, 8, 12, 16, 20, 24, 32, 48)
CACHE_RAMP = 1.3  # of the size of the cache, where all weights come from memory
MEMORY_MS_PER_MB = (0.01, 0.02, 0.035)
MIN_NODE_MS = 1e-4
ERROR_OFFSET_MS = 0.002  # errors are relative to a time plus this, so tiny layers weigh little


@dataclass(frozen=True)
class Run:
    """One measured network.

    Attributes:
        widths: kept channels per group, int (groups,).
        timed: its times.
        weight_bits: bits of the layers with weights, int (layers,); 32 for float32.
    """

    widths: np.ndarray
    timed: Timed
    weight_bits: np.ndarray

    @property
    def precision(self) -> Literal["float", "int8", "mixed"]:
        """What its layers run in."""
        int8 = self.weight_bits <= INT8_BITS
        if not int8.any():
            return "float"
        return "int8" if int8.all() else "mixed"


@dataclass(frozen=True)
class Point:
    """The time of a layer in one run: channels read and written, ms, interquartile range."""

    inputs: float
    outputs: float
    milliseconds: float
    spread: float


def fit(
    table: LayerTable,
    runs: Sequence[Run],
    known: Streaming = NO_STREAMING,
    *,
    streams: bool = True,
) -> tuple[LatencyTable, dict[str, np.ndarray]]:
    """Return the table that fits the runs best, and the spreads of its times by layer.

    All runs have one precision. Without ``streams`` no other streaming than ``known`` is tried.

    The fit tries every block size of channels. For a large network it then tries several cache
    sizes and memory speeds. The candidate that predicts the times of whole networks best wins. A
    network that fits into the caches keeps the ``known`` streaming.
    """
    best = min(
        (_fitted(table, runs, block, known) for block in CHANNEL_BLOCKS), key=lambda f: f.error
    )
    largest = float(_megabytes(table, runs).max())
    for size in CACHE_SIZES_MB if streams and largest > known.to_mb else ():
        if size * CACHE_RAMP < largest:
            for speed in MEMORY_MS_PER_MB:
                streaming = Streaming(size, size * CACHE_RAMP, speed)
                trial = _fitted(table, runs, best.round_up, streaming)
                best = min(best, trial, key=lambda f: f.error)
    return best.latency, best.spreads


@dataclass(frozen=True)
class _Fitted:
    latency: LatencyTable
    spreads: dict[str, np.ndarray]
    round_up: int
    error: float


def _fitted(table: LayerTable, runs: Sequence[Run], round_up: int, streaming: Streaming) -> _Fitted:
    layers, spreads = {}, {}
    for key, (inputs, outputs, points) in layer_points(table, runs, streaming).items():
        layers[key], spreads[key] = _layer(inputs, outputs, points, round_up)
    latency = LatencyTable({}, layers, streaming)
    # The mean square would follow a few disturbed runs.
    error = float(np.mean(np.abs(run_errors(table, latency, runs))))
    return _Fitted(latency, spreads, round_up, error)


def run_errors(table: LayerTable, latency: LatencyTable, runs: Sequence[Run]) -> np.ndarray:
    """Return predicted / measured - 1 of whole networks, float64 (runs,)."""
    predicted = Latency(table, latency)(_configuration(table, runs))
    return predicted / np.array([run.timed.milliseconds for run in runs]) - 1


def _configuration(table: LayerTable, runs: Sequence[Run]) -> Configuration:
    return table.configuration(np.stack([run.widths for run in runs]))


def _megabytes(table: LayerTable, runs: Sequence[Run]) -> np.ndarray:
    return weight_megabytes(table, _configuration(table, runs))


def layer_points(
    table: LayerTable, runs: Sequence[Run], streaming: Streaming
) -> dict[str, tuple[list[float], list[float], list[Point]]]:
    """Return for every layer key the grid's inputs and outputs and the measured points.

    The time that streaming explains is subtracted.
    """
    keys = {table.layers[index].name: (index, key) for index, key in signatures(table).items()}
    configuration = _configuration(table, runs)
    inputs, outputs = table.inputs(configuration.widths), table.outputs(configuration.widths)
    weights = table.weights(configuration)
    beyond = streaming.milliseconds(_megabytes(table, runs))[:, None]
    beyond = beyond * weights / weights.sum(axis=1, keepdims=True)
    column = {table.layers[index].name: at for at, index in enumerate(table.weighted)}
    offset = profiler_bias([run.timed for run in runs])
    points: dict[str, list[Point]] = defaultdict(list)
    for row, run in enumerate(runs):
        times, spreads = _by_layer(run.timed, offset)
        for name, (index, key) in keys.items():
            streamed = beyond[row, column[name]] if name in column else 0.0
            time = max(times[name] - streamed, 0.0)
            points[key].append(Point(inputs[row, index], outputs[row, index], time, spreads[name]))
    return {
        key: (
            _channels(table, table.layers[index].inputs),
            _channels(table, table.layers[index].outputs),
            points[key],
        )
        for index, key in keys.values()
    }


def profiler_bias(timed: Sequence[Timed]) -> float:
    """Return the ms that the profiler adds to a node, minus the time of a call beyond its nodes.

    It is measured on the quicker half of the networks, where it is the largest share of the time.
    """
    quicker = sorted(timed, key=lambda each: each.milliseconds)[: (len(timed) + 1) // 2]
    beyond = [(each.nodes.sum() - each.milliseconds) / len(each.nodes) for each in quicker]
    return float(np.median(beyond))


def _by_layer(timed: Timed, offset: float) -> tuple[dict, dict]:
    """Return ms and spread of each layer, scaled to the time of the network without profiler."""
    nodes = np.maximum(timed.nodes - offset, MIN_NODE_MS)
    scale = timed.milliseconds / nodes.sum()
    times: dict[str, float] = defaultdict(float)
    spreads: dict[str, float] = defaultdict(float)
    for name, node, spread in zip(timed.layers, nodes, timed.node_spread, strict=True):
        times[name] += scale * node
        spreads[name] += scale * spread
    return times, spreads


def _channels(table: LayerTable, count: Affine) -> list[float]:
    """Return the grid of a channel count, with all of its groups cut alike."""
    groups = [(n, group) for n, group in zip(count.per_group, table.groups, strict=True) if n]
    if not groups:
        return [float(count.constant)]
    each = max(group.channels_each for _, group in groups)
    if len(groups) == 1:
        n, group = groups[0]
        return [float(count.constant + n * width) for width in grid(group.size, each)]
    total = count.constant + sum(n * group.size for n, group in groups)
    return [float(width) for width in grid(total, each)]


def _layer(
    inputs: list[float], outputs: list[float], points: list[Point], round_up: int
) -> tuple[LayerTimes, np.ndarray]:
    """Fit a bilinear function on a grid, and an extra time for outputs that do not fill a block."""
    measured = np.array([[p.inputs, p.outputs, p.milliseconds, p.spread] for p in points])
    axes = [_rounded(np.array(axis), round_up) for axis in (inputs, outputs)]
    near = [hat_functions(rounded_up(measured[:, at], round_up), axes[at]) for at in (0, 1)]
    grid_shares = (near[0][:, :, None] * near[1][:, None, :]).reshape(len(points), -1)
    unfilled = near[1] * (measured[:, 1:2] % round_up != 0)
    design = np.concatenate([grid_shares, unfilled], axis=1)
    bends = block_diag(grid_second_differences(*axes), second_differences(axes[1]))
    times, spreads = (
        fit_irls(design, measured[:, at], lambda fitted: fitted + ERROR_OFFSET_MS, bends)
        for at in (2, 3)
    )
    shape, cells = tuple(map(len, axes)), grid_shares.shape[1]
    rest = [np.ones(1)] * (len(AXES) - 2)
    grid_times = times[:cells].reshape(*shape, *(1 for _ in rest))
    layer = LayerTimes((*axes, *rest), grid_times, round_up, times[cells:])
    return layer, spreads[:cells].reshape(shape)


def _rounded(axis: np.ndarray, step: int) -> np.ndarray:
    return np.unique(rounded_up(axis, step)) if len(axis) > 1 else axis
