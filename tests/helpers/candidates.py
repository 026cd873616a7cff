"""Strategies of every kind, and the networks that they come to."""

import dataclasses
import functools

import numpy as np
import torch
from hypothesis import strategies as st
from nets import ZOO, make

from prune_gym import models
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.quantize import quantize
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.unstructured import sparsify
from prune_gym.costs import build_costs
from prune_gym.costs.latency import load_latency_table
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.skipped import running_modules
from prune_gym.graph.trace import trace
from prune_gym.models.resnet import resnet56

BIG = {"vgg16": lambda: models.build("vgg16", 10), "resnet56": resnet56}
SMALL = tuple(ZOO)
BITS = (*range(1, 9), FLOAT_BITS)


@functools.cache
def network_and_table(name, block_size=4):
    """Return a network, its table and the side of its images."""
    net, side = (BIG[name]().eval(), 32) if name in BIG else (make(name), 8)
    table = trace(net, (3, side, side))
    return net, dataclasses.replace(table, block_size=block_size), side


def full(table, n=1):
    """Return the original network, n times."""
    return table.configuration(np.tile(table.full, (n, 1)))


def rows(choices, n, width, dtype):
    return st.lists(choices, min_size=n * width, max_size=n * width).map(
        lambda values: np.array(values, dtype=dtype).reshape(n, width)
    )


@st.composite
def strategies(draw, table, n=1, parts=("density", "bits", "blocks")):
    """Draw what n strategies come to; each of ``parts`` is decided or left alone."""
    layers = len(table.weighted)
    columns = [rows(st.integers(1, group.size), n, 1, np.int64) for group in table.groups]
    widths = np.concatenate([draw(column) for column in columns], axis=1)
    takes = {part: part in parts and draw(st.booleans()) for part in ("density", "bits", "blocks")}
    density = st.sampled_from((0.01, 0.1, 0.3, 0.5, 0.77, 1.0))
    bits = rows(st.sampled_from(BITS), n, layers, np.int64)
    decided = {}
    if takes["density"]:
        decided["density"] = draw(rows(density, n, layers, np.float64))
    if takes["bits"]:
        decided["weight_bits"], decided["activation_bits"] = draw(bits), draw(bits)
    if takes["blocks"]:
        decided["blocks"] = draw(rows(st.booleans(), n, len(table.blocks), bool))
    return table.configuration(widths, **decided)


def candidate(net, table, configuration):
    """Return the cut network of one strategy without its skipped blocks and pruned weights."""
    small = cut(net, table, first_channels(table, configuration.widths[0]))
    return without_weights(without_blocks(small, table, configuration), table, configuration)


def deployed(net, table, configuration, images):
    """Return the candidate with batch-norm folded and quantized."""
    small = fold_batch_norm(cut(net, table, first_channels(table, configuration.widths[0])), table)
    small = without_weights(without_blocks(small, table, configuration), table, configuration)
    if not (configuration.has_float_weights and configuration.has_float_activations):
        bits = configuration.weight_bits[0], configuration.activation_bits[0]
        quantize(small, table, *bits, images, table.nonzeros(configuration)[0])
    return small


def without_blocks(net, table, configuration):
    return skip_blocks(net, table.skipped(configuration.blocks[0]), table.input_shape)


def without_weights(net, table, configuration):
    return net if configuration.is_dense else sparsify(net, table, configuration.density[0])


def nonzeros(net, table):
    """Return the weights of each layer that are not zero; 0 for a layer that is not there."""
    modules = running_modules(net)
    names = [table.layers[index].name for index in table.weighted]
    return [int((modules[n].weight != 0).sum()) if n in modules else 0 for n in names]


def images_for(side, count=8):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def vgg16_costs():
    """Return the layer table of VGG16 and its costs, with the shipped latency table."""
    table = network_and_table("vgg16")[1]
    return table, build_costs(table, load_latency_table("reference-cpu"))
