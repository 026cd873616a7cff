import copy
import pickle

import numpy as np
import pytest
import torch
from candidates import SMALL, images_for, network_and_table, nonzeros
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.quantize import (
    QuantizedLayer,
    activation_scale,
    quantize,
    quantize_to_int,
    quantize_weight,
)
from prune_gym.compression.unstructured import sparsify


def folded(name):
    net, table, side = network_and_table(name)
    return fold_batch_norm(copy.deepcopy(net), table), table, images_for(side)


def with_bits(net, table, weight_bits, activation_bits, images):
    layers = len(table.weighted)
    bits = np.full(layers, weight_bits), np.full(layers, activation_bits)
    return quantize(copy.deepcopy(net), table, *bits, images)


def quantized_layers(net):
    return [module for module in net.modules() if isinstance(module, QuantizedLayer)]


@given(st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_weights_are_whole_numbers_of_their_bits_per_channel(bits, seed):
    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    weight *= torch.logspace(-3, 3, 6).view(-1, 1, 1, 1)
    weight[weight.abs() < 0.3 * weight.abs().mean((1, 2, 3), keepdim=True)] = 0
    codes, scale = quantize_weight(weight, bits)
    high = max(2 ** (bits - 1) - 1, 1)
    assert torch.equal(codes, codes.round()) and codes.abs().max() <= high
    assert (codes[weight == 0] == 0).all() and scale.shape == (6,)
    error = (codes * scale.view(-1, 1, 1, 1) - weight).square().sum((1, 2, 3))
    assert (error <= weight.square().sum((1, 2, 3))).all()
    if bits == 8:
        assert (error < 1e-3 * weight.square().sum((1, 2, 3))).all()


def test_one_bit_is_the_sign_times_the_mean_magnitude():
    codes, scale = quantize_weight(torch.tensor([[1.0, -3.0, 0.0, 2.0]]), 1)
    assert codes.tolist() == [[1, -1, 0, 1]] and scale.tolist() == [2.0]


def test_a_channel_of_zeros_stays_one():
    for bits in (1, 4, 8):
        codes, scale = quantize_weight(torch.zeros(2, 5), bits)
        assert not codes.any() and torch.isfinite(scale).all()


@given(st.integers(1, 8), st.booleans())
def test_activations_take_as_many_values_as_their_bits_allow(bits, signed):
    x = torch.linspace(-1 if signed else 0, 3, 4_000)
    scale = activation_scale(x, bits)
    assert (scale < 0) == signed
    codes = quantize_to_int(x, scale, bits)
    assert torch.equal(codes, codes.round()) and len(codes.unique()) <= 2**bits
    assert (codes >= 0).all() or signed
    if bits == 8:
        assert (codes * abs(scale) - x).abs().max() < 0.03


@pytest.mark.parametrize("name", SMALL)
def test_eight_bits_change_little_and_32_nothing(name):
    net, table, images = folded(name)
    expected = net(images)
    assert torch.equal(with_bits(net, table, 32, 32, images)(images), expected)
    found = with_bits(net, table, 8, 8, images)(images)
    assert (found - expected).norm() < 0.05 * expected.norm()
    for bits in ((8, 32), (32, 8)):
        assert (with_bits(net, table, *bits, images)(images) - expected).norm() < (
            0.05 * expected.norm()
        )


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_copies_pickles_and_bfloat16_compute_the_same(name, bits):
    net, table, images = folded(name)
    small = with_bits(net, table, bits, bits, images)
    expected = small(images)
    assert torch.equal(copy.deepcopy(small)(images), expected)
    assert torch.equal(pickle.loads(pickle.dumps(small))(images), expected)
    fast = copy.deepcopy(small).to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    for exact, layer in zip(quantized_layers(small), quantized_layers(fast), strict=True):
        assert layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.weight.float(), exact.weight)
        assert torch.equal(layer.weight_scale, exact.weight_scale) and torch.equal(
            layer.input_scale, exact.input_scale
        )
    assert fast(images.bfloat16()).dtype == torch.bfloat16


def test_a_layer_multiplies_whole_numbers():
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1).requires_grad_(False)
    layer = QuantizedLayer(conv, 4, 3)
    x = torch.randn(2, 3, 8, 8)
    layer.input_scale.fill_(activation_scale(x, 3))
    scale = float(layer.input_scale)
    near = quantize_to_int(x, scale, 3) * abs(scale)
    weight = layer.weight * layer.weight_scale.view(-1, 1, 1, 1)
    expected = nn.functional.conv2d(near, weight, conv.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("bits", range(1, 9))
def test_pruned_weights_stay_zero(bits):
    net, table, images = folded("residual")
    sparsify(net, table, np.full(len(table.weighted), 0.4))
    before = nonzeros(net, table)
    small = with_bits(net, table, bits, 8, images)
    assert all(a <= b for a, b in zip(nonzeros(small, table), before, strict=True))
    for index in table.weighted:
        name = table.layers[index].name
        pruned = net.get_submodule(name).weight == 0
        assert not small.get_submodule(name).weight[pruned].any()


def test_the_original_and_other_layers_are_left_alone():
    net, table, images = folded("plain")
    before = copy.deepcopy(net.state_dict())
    bits = np.array([32, 4, 32, 32])
    small = quantize(copy.deepcopy(net), table, bits, np.full(4, 32), images)
    assert len(quantized_layers(small)) == 1
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
