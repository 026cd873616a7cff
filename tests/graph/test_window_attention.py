"""Attention in shifted windows: heads are cut, exactly, though its code divides widths."""

import copy

import numpy as np
import pytest
import torch
from transformers import DIM, HEADS, WindowAttention, Windows

from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.verify import check_cut, largest_error
from prune_gym.costs.params import Params
from prune_gym.graph.trace import trace

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SHAPE = (3, 8, 8)
WINDOWS = {"whole": (2, 0), "shifted": (2, 1), "padded": (3, 1), "larger than the map": (5, 2)}


def made(*attention):
    torch.manual_seed(0)
    return Windows(*attention).eval().requires_grad_(False)


@pytest.mark.parametrize("window", WINDOWS)
def test_heads_are_cut_and_the_network_is_the_same(window):
    net, rng = made(WindowAttention(*WINDOWS[window])), np.random.default_rng(0)
    before, original = net(IMAGES), copy.deepcopy(net)
    table = trace(net, SHAPE)
    assert [group.size for group in table.groups] == [DIM, HEADS]
    assert net.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(net(IMAGES), before)
    check_cut(net, table, IMAGES)
    for _ in range(4):
        kept = [np.sort(rng.permutation(n)[: rng.integers(1, n + 1)]) for n in (DIM, HEADS)]
        error, dtype = largest_error(net, table, kept, IMAGES)
        assert error < 1e-12 and dtype is torch.float64
    small = cut(net, table, first_channels(table, np.array([9, 1])))
    again = trace(small, SHAPE)
    assert [group.size for group in again.groups] == [9, 1]
    configuration = table.configuration(np.array([[9, 1]]))
    assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())


def test_attention_that_computes_something_else_stays():
    net = made(WindowAttention(2, 1, numbers=2.0), WindowAttention(2, 1))
    table = trace(net, SHAPE)
    assert [group.name for group in table.groups if group.size == HEADS] == ["attn.1.qkv"]
    assert type(net.attn[0]) is WindowAttention
    check_cut(net, table, IMAGES)


def test_a_network_is_left_as_it_was_but_for_its_attention():
    net = made(WindowAttention(2, 1))
    before = set(vars(net))
    trace(net, SHAPE)
    assert set(vars(net)) == before
