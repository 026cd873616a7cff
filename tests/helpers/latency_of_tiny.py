"""A small network's latency by tables that tests make up."""

import functools

import numpy as np
from nets import Tiny

from prune_gym import models
from prune_gym.costs.latency import Latency, signatures
from prune_gym.costs.latency_table import LatencyTable, LayerTimes
from prune_gym.graph.trace import trace

ONE = np.ones(1)


@functools.cache
def tiny_table():
    return trace(Tiny().eval(), (3, 8, 8))


@functools.cache
def models_table(name):
    return trace(models.build(name, 10).eval(), (3, 32, 32))


def resnet_table():
    return models_table("resnet20")


def timed(table, widths):
    """Yield (key, layer, full inputs, full outputs, inputs, outputs) of the layers with times."""
    counts = [f(w[None])[0].astype(int) for f in (table.inputs, table.outputs) for w in widths]
    for index, key in signatures(table).items():
        full_i, i, full_o, o = (count[index] for count in counts)
        yield key, table.layers[index], full_i, full_o, i, o


def layer_times(inputs, outputs, times, density=ONE, bits=ONE, round_up=1, int8=None):
    axes = tuple(np.asarray(axis, dtype=float) for axis in (inputs, outputs, density, bits))
    return LayerTimes(axes, np.reshape(times, [len(axis) for axis in axes]), round_up, int8=int8)


def tiny_latency(times):
    """Return the latency of Tiny with a table of ``times(layer, inputs, outputs)``."""
    table, layers = tiny_table(), {}
    for key, layer, i, o, *_ in timed(table, (table.full, table.full)):
        grid_i = np.array(sorted({max(i // 2, 1), i}), dtype=float)
        grid_o = np.array(sorted({max(o // 4, 1), max(o // 2, 1), o}), dtype=float)
        layers[key] = layer_times(grid_i, grid_o, times(layer, grid_i, grid_o))
    return table, Latency(table, LatencyTable({"device": "test"}, layers)), layers
