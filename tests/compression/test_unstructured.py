import copy
import dataclasses

import numpy as np
import pytest
import torch
from candidates import SMALL, candidate, network_and_table, nonzeros, strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_gym._utils.device import to_channels_last
from prune_gym.compression.unstructured import densities, sparsify


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("name", [*SMALL, "resnet56"])
@given(st.data())
@settings(max_examples=10, deadline=None)
def test_as_many_weights_stay_as_the_table_counts(name, together, data):
    net, table, _ = network_and_table(name, together)
    configuration = data.draw(strategies(table, parts=("density", "blocks")))
    assert (
        nonzeros(candidate(net, table, configuration), table)
        == table.nonzeros(configuration)[0].tolist()
    )


def test_four_output_channels_share_a_mask_where_their_number_allows_it():
    net, table, _ = network_and_table("plain")
    small = sparsify(copy.deepcopy(net), table, np.full(len(table.weighted), 0.3))
    for index in table.weighted:
        weight = small.get_submodule(table.layers[index].name).weight
        kept = (weight != 0).flatten(1).reshape(-1, 4, weight[0].numel())
        assert (kept == kept[:, :1]).all()


@given(st.floats(0.01, 1), st.sampled_from((1, 4)))
@settings(max_examples=25, deadline=None)
def test_the_largest_stay_as_they_were(density, together):
    net, table, _ = network_and_table("plain", together)
    small = sparsify(copy.deepcopy(net), table, np.full(len(table.weighted), density))
    for index in table.weighted:
        name = table.layers[index].name
        before, after = net.get_submodule(name).weight, small.get_submodule(name).weight
        assert torch.equal(after[after != 0], before[after != 0])
        shape = (-1, together, before[0].numel())
        norms = before.abs().reshape(shape).sum(1)
        kept = (after.reshape(shape) != 0).any(1)
        if not kept.all():
            assert norms[kept].min() >= norms[~kept].max()


def test_density_one_and_the_original_are_left_alone():
    net, table, _ = network_and_table("plain")
    before = copy.deepcopy(net.state_dict())
    small = sparsify(copy.deepcopy(net), table, np.ones(len(table.weighted)))
    for key, value in small.state_dict().items():
        assert torch.equal(value, before[key])


def test_at_least_one_mask_stays_in_every_layer():
    net, table, _ = network_and_table("plain", 4)
    small = sparsify(copy.deepcopy(net), table, np.full(len(table.weighted), 1e-9))
    assert nonzeros(small, table) == [4] * len(table.weighted)
    single = dataclasses.replace(table, block_size=1)
    small = sparsify(copy.deepcopy(net), single, np.full(len(table.weighted), 1e-9))
    assert nonzeros(small, table) == [1] * len(table.weighted)


def test_weights_in_channels_last_order_are_taken():
    net, table, _ = network_and_table("plain")
    half = sparsify(copy.deepcopy(net), table, np.full(len(table.weighted), 0.5))
    expected = densities(half, table)
    assert expected == pytest.approx(0.5, abs=0.05)
    assert (densities(to_channels_last(half), table) == expected).all()
