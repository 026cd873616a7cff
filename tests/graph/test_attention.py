"""Attention: whole heads are cut, exactly, and every cost follows."""

import copy
import pickle

import numpy as np
import pytest
import torch
from cuts import check_random_cuts
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CUTTABLE, DIM, HEAD_DIM, HEADS, PINNED, Multihead, transformer

from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.verify import check_cut, largest_error
from prune_gym.costs.flops import Flops
from prune_gym.costs.memory import Memory
from prune_gym.costs.params import Params
from prune_gym.graph.cuttable_heads import make_heads_cuttable
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.trace import trace

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SHAPE = (3, 8, 8)


def multiply_adds(net):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        net(IMAGES[:1])
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", CUTTABLE)
def test_a_cut_network_computes_what_the_heads_that_are_left_do(name):
    net = transformer(CUTTABLE[name])
    table = trace(net, SHAPE)
    sizes = [group.size for group in table.groups]
    assert sizes == [DIM, HEADS, 24]
    check_random_cuts(net, table, IMAGES)


@pytest.mark.parametrize("name", CUTTABLE)
def test_costs_are_those_of_the_cut_network(name):
    net = transformer(CUTTABLE[name])
    table = trace(net, SHAPE)
    for widths in ([DIM, HEADS, 24], [9, 3, 9], [1, 2, 1]):
        small = cut(net, table, first_channels(table, np.array(widths)))
        configuration = table.configuration(np.array([widths]))
        assert Flops(table)(configuration)[0] == multiply_adds(small)
        assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())
        again = trace(small, SHAPE)
        assert Memory(table)(configuration)[0] == Memory(again)(again.configuration())[0]


@pytest.mark.parametrize("name", CUTTABLE)
@pytest.mark.parametrize("widths", [[DIM, 1, 24], [9, 1, 9], [4, 1, 1]])
def test_attention_with_one_head_left_is_attention_again(name, widths):
    net = transformer(CUTTABLE[name])
    table = trace(net, SHAPE)
    small = cut(net, table, first_channels(table, np.array(widths)))
    again = trace(small, SHAPE)
    assert [group.size for group in again.groups] == widths and again.is_of_heads(1)
    assert Flops(again)(again.configuration())[0] == multiply_adds(small)
    check_cut(small, again, IMAGES)
    kept = first_channels(again, (again.full + 2) // 3)
    assert largest_error(small, again, kept, IMAGES)[0] < 1e-12


@pytest.mark.parametrize("name", PINNED)
def test_heads_stay_where_the_code_does_not_follow_or_reads_them_all(name):
    attention, others = PINNED[name]
    net = transformer(attention)
    table = trace(net, SHAPE)
    assert [group.name for group in table.groups] == others
    pins = [pin for pin in table.pins if pin.layer == "attn.qkv"]
    assert sum(pin.channels for pin in pins) >= 2 * DIM
    check_cut(net, table, IMAGES)


def test_attention_and_mlp_are_blocks_that_can_be_skipped():
    net = transformer(CUTTABLE["timm"])
    table = trace(net, SHAPE)
    attention = [layer.name for layer in table.layers if layer.kind == "attention"]
    assert set(table.blocks[0].layers) == {"norm1", "attn.qkv", *attention, "attn.proj"}
    assert set(table.blocks[1].layers) == {"norm2", "fc1", "fc2"}
    small = skip_blocks(net, table.blocks[:1], SHAPE)
    configuration = table.configuration(blocks=np.array([[False, True]]))
    assert Flops(table)(configuration)[0] == multiply_adds(small)
    assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())


def test_numbers_that_the_code_writes_follow_the_cut():
    net = transformer(CUTTABLE["timm"])
    small = cut(net, (table := trace(net, SHAPE)), first_channels(table, np.array([DIM, 3, 24])))
    assert (small.attn.num_heads, small.attn.attn_dim) == (3, 3 * HEAD_DIM)
    assert (net.attn.num_heads, net.attn.attn_dim, small.attn.head_dim) == (HEADS, DIM, HEAD_DIM)
    assert type(small.attn.num_heads) is int and type(net.attn.num_heads) is int


MASKS = {
    "none": {},
    "causal": {"attn_mask": torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)},
    "padding": {"key_padding_mask": torch.arange(5).expand(3, 5) > 3},
    "both": {
        "attn_mask": torch.randn(3 * HEADS, 5, 5),
        "key_padding_mask": torch.zeros(3, 5).index_fill(1, torch.tensor([4]), -torch.inf),
    },
    "each head": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
}


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_that_can_be_cut_computes_what_pytorchs_does(mask, options):
    torch.manual_seed(0)
    original = Multihead(dropout=0.1, **options).eval()
    replaced = copy.deepcopy(original)
    make_heads_cuttable(replaced)
    assert isinstance(replaced.mix, nn.MultiheadAttention)
    query, key = torch.randn(3, 4, DIM), torch.randn(3, 5, DIM)
    if not options.get("batch_first"):
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    given = {k: v[..., :4, :] if k == "attn_mask" else v for k, v in MASKS[mask].items()}
    expected, found = (net.mix(query, key, key.flip(0), **given) for net in (original, replaced))
    torch.testing.assert_close(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1])


def test_attention_without_a_batch():
    torch.manual_seed(0)
    original = Multihead().eval()
    replaced = copy.deepcopy(original)
    make_heads_cuttable(replaced)
    x = torch.randn(5, DIM)
    for expected, found in zip(original.mix(x, x, x), replaced.mix(x, x, x), strict=True):
        torch.testing.assert_close(found, expected)


def test_attention_that_can_be_cut_has_the_weights_of_pytorchs():
    net = transformer(CUTTABLE["nn.MultiheadAttention"])
    before = copy.deepcopy(net)
    table = trace(net, SHAPE)
    assert net.state_dict().keys() == before.state_dict().keys()
    for key, value in before.state_dict().items():
        assert torch.equal(net.state_dict()[key], value)
    mix = pickle.loads(pickle.dumps(net)).attn.mix
    assert torch.equal(mix.in_proj_weight, before.attn.mix.in_proj_weight)
    assert torch.equal(mix.in_proj_bias, before.attn.mix.in_proj_bias)
    small = cut(net, table, first_channels(table, np.array([DIM, 2, 24])))
    assert small.attn.mix.num_heads == 2
    other = cut(net, table, [np.arange(DIM), np.array([1, 3]), np.arange(24)])
    other.load_state_dict(small.state_dict())
    assert torch.equal(other(IMAGES), small(IMAGES))


@pytest.mark.parametrize("batch_first", [True, False])
def test_heads_and_mlps_of_an_encoder_are_cut(batch_first):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, DIM, 2, 2)
            layer = nn.TransformerEncoderLayer(DIM, HEADS, 24, batch_first=batch_first)
            self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(DIM, 4)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = x if batch_first else x.transpose(0, 1)
            return self.head(self.encoder(x).mean(1 if batch_first else 0))

    torch.manual_seed(0)
    net = Encoder().eval().requires_grad_(False)
    before = net(IMAGES)
    table = trace(net, SHAPE)
    assert [group.size for group in table.groups] == [DIM, *[HEADS, 24] * 2]
    torch.testing.assert_close(net(IMAGES), before)
    check_cut(net, table, IMAGES)
    kept = first_channels(table, np.array([11, 1, 5, 3, 24]))
    assert largest_error(net, table, kept, IMAGES)[0] < 1e-12
