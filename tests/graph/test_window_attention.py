"""Attention in shifted windows: heads are cut, exactly, though its code divides widths."""

import copy

import numpy as np
import pytest
import torch
from cuts import check_random_cuts
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DIM, HEADS, CosineWindowAttention, WindowAttention, Windows

from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.verify import check_cut
from prune_gym.costs.flops import Flops
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
    net = made(WindowAttention(*WINDOWS[window]))
    before, original = net(IMAGES), copy.deepcopy(net)
    table = trace(net, SHAPE)
    assert [group.size for group in table.groups] == [DIM, HEADS]
    assert net.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(net(IMAGES), before)
    check_random_cuts(net, table, IMAGES)
    small = cut(net, table, first_channels(table, np.array([9, 1])))
    again = trace(small, SHAPE)
    assert [group.size for group in again.groups] == [9, 1]
    configuration = table.configuration(np.array([[9, 1]]))
    assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize("window", WINDOWS)
def test_heads_of_cosine_attention_are_cut_with_their_scales_and_the_mlp(window):
    net = made(CosineWindowAttention(*WINDOWS[window]))
    before, original = net(IMAGES), copy.deepcopy(net)
    table = trace(net, SHAPE)
    sizes = [group.size for group in table.groups]
    assert sizes == [DIM, HEADS, 10]
    assert net.state_dict().keys() == original.state_dict().keys()
    torch.testing.assert_close(net(IMAGES), before)
    check_random_cuts(net, table, IMAGES)
    widths = np.array([9, 2, 7])
    small = cut(net, table, first_channels(table, widths))
    assert [group.size for group in trace(small, SHAPE).groups] == [9, 2, 7]
    configuration = table.configuration(widths[None])
    assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        small(IMAGES[:1])
    assert Flops(table)(configuration)[0] == counter.get_total_flops() / 2


def test_attention_that_computes_something_else_stays():
    kinds = WindowAttention, CosineWindowAttention
    net = made(*(kind(2, 1, numbers) for kind in kinds for numbers in (2.0, 1.0)))
    state = {key: value.clone() for key, value in net.attn[2].state_dict().items()}
    table = trace(net, SHAPE)
    heads = [group.name for group in table.groups if group.size == HEADS]
    assert heads == ["attn.1.qkv", "attn.3.qkv"]
    assert [type(net.attn[at]) for at in (0, 2)] == [*kinds]
    assert all(torch.equal(value, state[key]) for key, value in net.attn[2].state_dict().items())
    check_cut(net, table, IMAGES)


def test_a_network_is_left_as_it_was_but_for_its_attention():
    net = made(WindowAttention(2, 1))
    before = set(vars(net))
    trace(net, SHAPE)
    assert set(vars(net)) == before
