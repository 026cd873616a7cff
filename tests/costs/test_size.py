import copy
import dataclasses

import numpy as np
import pytest
import torch
from candidates import SMALL, deployed, full, images_for, network_and_table, nonzeros, strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_format import decode, encode

from prune_gym.costs.size import CODINGS, Size
from prune_gym.graph.configuration import FLOAT_BITS

GRANULARITIES = (1, 4)


def check(name, together, configuration):
    """The cost is the length of the code, and the code holds the network."""
    net, table, side = network_and_table(name, together)
    check_code(deployed(net, table, configuration, images_for(side)), table, configuration)


def check_code(original, table, configuration):
    for coding in CODINGS:
        payload = encode(original, table, configuration, coding)
        assert len(payload) == Size(table, coding)(configuration)[0]
        found = copy.deepcopy(original)
        for tensor in [*found.parameters(), *found.buffers()]:
            tensor.detach().zero_()
        expected, state = (
            original.state_dict(),
            decode(payload, found, table, configuration, coding),
        )
        for key, value in state.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("together", GRANULARITIES)
@pytest.mark.parametrize("name", SMALL)
@given(st.data())
@settings(max_examples=12, deadline=None)
def test_size_is_that_of_the_real_code_which_holds_the_network(name, together, data):
    table = network_and_table(name, together)[1]
    check(name, together, data.draw(strategies(table)))


@pytest.mark.parametrize("together", GRANULARITIES)
@pytest.mark.parametrize("name", ["flattened", "residual"])
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_kept_weights_that_happen_to_be_zero_are_stored_as_they_are_scored(name, together, data):
    """One bit is a sign: the candidate's own weights have none of the zeros it cannot store."""
    net, table, side = network_and_table(name, together)
    configuration = data.draw(strategies(table, parts=("density",)))
    one = np.ones((1, len(table.weighted)), dtype=np.int64)
    configuration = dataclasses.replace(configuration, weight_bits=one, activation_bits=8 * one)
    holes = copy.deepcopy(net)
    share = data.draw(st.sampled_from((0.1, 0.9)))
    generator = torch.Generator().manual_seed(0)
    for index in table.weighted:
        weight = holes.get_submodule(table.layers[index].name).weight
        weight[torch.rand(weight.shape, generator=generator) < share] = 0
        weight[0] = 0  # a dead channel
    original = deployed(holes, table, configuration, images_for(side))
    assert nonzeros(original, table) == table.nonzeros(configuration)[0].tolist()
    check_code(original, table, configuration)


@pytest.mark.parametrize("density", [1.0, 0.2])
def test_size_of_vgg16_is_that_of_the_real_code(density):
    table = network_and_table("vgg16")[1]
    layers = len(table.weighted)
    share, four = np.full((1, layers), density), np.full((1, layers), 4)
    parts = {"density": share, "weight_bits": four, "activation_bits": four}
    check("vgg16", 4, table.configuration(table.full[None] // 2, **parts))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_payload_of_another_length_is_refused(coding):
    net, table, side = network_and_table("plain")
    configuration = full(table)
    small = deployed(net, table, configuration, images_for(side))
    payload = encode(small, table, configuration, coding)
    for wrong in (payload[:-1], payload + b"0", b""):
        with pytest.raises(ValueError, match="expected .* bytes, got"):
            decode(wrong, small, table, configuration, coding)


def test_dense_size_of_vgg16_is_four_bytes_a_parameter():
    """Folded: a bias instead of two batch-norm vectors per output channel."""
    table = network_and_table("vgg16")[1]
    assert Size(table, "dense")(full(table))[0] == 4 * (14_724_042 - 4_224)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.9])
def test_places_in_csr_are_near_their_entropy(density):
    """No code can need less on average than H(density) bits for every weight."""
    table = network_and_table("vgg16", 1)[1]
    layers = len(table.weighted)
    bits, share = np.full((1, layers), 8), np.full((1, layers), density)
    dense = table.configuration(weight_bits=bits)
    sparse = dataclasses.replace(dense, density=share)
    weights = float(table.weights(sparse).sum())
    beside = Size(table, "dense")(dense)[0] - weights
    places = 8 * (Size(table, "csr")(sparse)[0] - beside - table.nonzeros(sparse).sum())
    entropy = -density * np.log2(density) - (1 - density) * np.log2(1 - density)
    assert 0.999 * entropy < places / weights < 1.12 * max(entropy, 0.9 * (density > 0.5))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", ["plain", "residual", "depthwise"])
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_less_of_anything_is_no_larger(name, coding, data):
    table = network_and_table(name)[1]
    cost = Size(table, coding)
    more = data.draw(strategies(table, parts=("density", "bits", "blocks")))
    if coding == "dense":  # pruned, 1 bit is stored as 2
        more = dataclasses.replace(more, weight_bits=np.maximum(more.weight_bits, 2))
    layers = len(table.weighted)
    shares = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=layers, max_size=layers)))
    float_activations = np.full((1, layers), FLOAT_BITS)
    same_bits = dataclasses.replace(more, activation_bits=float_activations)
    if coding != "dense":  # a layer that keeps all its weights needs no places
        shares = np.where(table.nonzeros(same_bits) < table.weights(same_bits), shares, 1)
    less_dense = dataclasses.replace(same_bits, density=more.density * shares)
    assert cost(less_dense)[0] <= cost(same_bits)[0]
    fewer = np.maximum(more.weight_bits - 1, 1)
    fewer = np.where(more.weight_bits > 8, more.weight_bits, fewer)
    assert cost(dataclasses.replace(more, weight_bits=fewer))[0] <= cost(more)[0]


def test_an_unknown_coding_is_named():
    with pytest.raises(ValueError, match="unknown coding 'cs'; did you mean 'csr'"):
        Size(network_and_table("plain")[1], "cs")
