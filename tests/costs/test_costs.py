import dataclasses

import numpy as np
import pytest
import torch
from candidates import (
    BIG,
    SMALL,
    candidate,
    full,
    network_and_table,
    nonzeros,
    strategies,
    vgg16_costs,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Tiny
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from prune_gym.costs import COSTS, build_costs
from prune_gym.graph.skipped import running_modules
from prune_gym.graph.trace import trace


def check_against_the_candidate(name, configuration):
    """Compare with a forward pass where no weight is pruned, else with the weights left."""
    net, table, side = network_and_table(name)
    costs = build_costs(table, None)
    small = candidate(net, table, configuration)
    left = nonzeros(small, table)
    if configuration.is_dense:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            small(torch.zeros(1, 3, side, side))
        expected = counter.get_total_flops() / 2
    else:
        expected = np.dot(left, table.weighted_pixels)
    modules = running_modules(small)
    names = [table.layers[index].name for index in table.weighted]
    weights = sum(modules[name].weight.numel() for name in names if name in modules)
    pruned = 0 if configuration.is_dense else weights - sum(left)
    assert costs["flops"](configuration)[0] == expected
    assert costs["params"](configuration)[0] == sum(p.numel() for p in small.parameters()) - pruned


@pytest.mark.parametrize("name", SMALL)
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_flops_and_params_are_those_of_the_candidate(name, data):
    table = network_and_table(name)[1]
    check_against_the_candidate(name, data.draw(strategies(table, parts=("density", "blocks"))))


@pytest.mark.parametrize("name", BIG)
@given(st.data())
@settings(max_examples=4, deadline=None)
def test_flops_and_params_of_the_large_networks(name, data):
    table = network_and_table(name)[1]
    check_against_the_candidate(name, data.draw(strategies(table, parts=("density", "blocks"))))


@pytest.mark.parametrize("name", [*SMALL, *BIG])
def test_the_full_network(name):
    check_against_the_candidate(name, full(network_and_table(name)[1]))


def test_vgg16_has_the_known_size():
    table, costs = vgg16_costs()
    assert len(table.groups) == 13
    assert tuple(costs) == COSTS
    assert costs["flops"](full(table))[0] == 313_201_664
    assert costs["params"](full(table))[0] == 14_724_042


def test_resnet56_cuts_residual_streams():
    table = network_and_table("resnet56")[1]
    members = {group.name: {m.module for m in group.members} for group in table.groups}
    assert {"conv1", "layer1.8.conv2", "layer2.0.conv1", "layer3.8.bn2"} <= members["conv1"]


def test_memory_by_hand():
    """conv(3->a) 8x8, pool to 4x4, conv(a->b), conv(b->c), average pool, linear(c->4)."""
    table = trace(Tiny().eval(), (3, 8, 8))
    memory = build_costs(table, None)["memory"]
    for a, b, c in [(12, 16, 16), (1, 1, 1), (12, 1, 5), (3, 16, 16)]:
        weights = 27 * a + 2 * a + 9 * a * b + 2 * b + 9 * b * c + 2 * c + 4 * c + 4
        live = [3 * 64 + a * 64, a * 64 + a * 16, (a + b) * 16, (b + c) * 16, c * 16 + c, c + 4]
        assert memory(table.configuration(np.array([[a, b, c]])))[0] == 4 * (weights + max(live))


def test_memory_of_a_residual_block_by_hand():
    """The block's input lives until it is added: three tensors at once."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1, bias=False)
            self.a = nn.Conv2d(4, 6, 1, bias=False)
            self.b = nn.Conv2d(6, 4, 1, bias=False)
            self.out = nn.Conv2d(4, 1, 8, bias=False)

        def forward(self, x):
            x = self.stem(x)
            return self.out(x + self.b(self.a(x)))

    table = trace(Block().eval(), (3, 8, 8))
    memory = build_costs(table, None)["memory"]
    for stream, inner in [(4, 6), (1, 6), (4, 1)]:
        weights = 3 * stream + 2 * stream * inner + 64 * stream
        live = 64 * max(2 * stream + inner, 3 * stream, 3 + stream)
        assert memory(table.configuration(np.array([[stream, inner]])))[0] == 4 * (weights + live)


def peaks(net, tensors):
    """Return (memory found, memory by hand) at some widths; ``tensors`` gives the most at once."""
    table = trace(net.eval(), (3, 8, 8))
    costs = build_costs(table, None)
    for a in (1, 3, 4):
        row = table.configuration(np.array([[a]]))
        yield costs["memory"](row)[0], 4 * (costs["params"](row)[0] + 64 * tensors(a))


class Once(nn.Module):
    """A convolution, something, and a convolution over all of the map."""

    def __init__(self, between):
        super().__init__()
        self.stem, self.out = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 1, 8, bias=False)
        self.relu, self.between = nn.ReLU(), between

    def forward(self, x):
        return self.out(self.between(self, self.stem(x)))


@pytest.mark.parametrize("between", [lambda net, x: F.relu(x), lambda net, x: net.relu(x)])
def test_an_activation_works_in_place(between):
    for found, expected in peaks(Once(between), lambda a: 3 + a):
        assert found == expected


@pytest.mark.parametrize("between", [lambda net, x: x + F.relu(x), lambda net, x: x + net.relu(x)])
def test_an_activation_whose_input_is_read_later_has_a_buffer_of_its_own(between):
    """The input, the activation and their sum are held at once."""
    for found, expected in peaks(Once(between), lambda a: max(3 * a, 3 + a)):
        assert found == expected


POOLS = {
    "strided, overlapping": (nn.MaxPool2d(3, 2, 1), (3, 3), 2, (4, 4)),
    "with a remainder": (nn.MaxPool2d(3), (3, 3), 3, (2, 2)),
    "of stride 1": (nn.AvgPool2d(3, 1), (3, 3), 1, (6, 6)),
    "plain": (nn.AvgPool2d(2), (2, 2), 2, (4, 4)),
    "oblong": (nn.MaxPool2d((2, 4)), (2, 4), 2, (4, 2)),
    "adaptive": (nn.AdaptiveAvgPool2d(2), (4, 4), 4, (2, 2)),
    "adaptive, of one side only": (nn.AdaptiveAvgPool2d((2, 8)), (4, 1), 4, (2, 8)),
    "adaptive, to one pixel": (nn.AdaptiveMaxPool2d(1), (8, 8), 8, (1, 1)),
    "function": (lambda x: F.max_pool2d(x, 3, 2, 1), (3, 3), 2, (4, 4)),
    "function by name": (
        lambda x: F.avg_pool2d(x, kernel_size=3, stride=2),
        *((3, 3), 2, (3, 3)),
    ),
    "function without a stride": (lambda x: F.max_pool2d(x, 3), (3, 3), 3, (2, 2)),
    "adaptive function": (lambda x: F.adaptive_avg_pool2d(x, 2), (4, 4), 4, (2, 2)),
    "mean": (lambda x: x.mean((2, 3), keepdim=True), (8, 8), 8, (1, 1)),
}


@pytest.mark.parametrize("name", POOLS)
def test_the_windows_of_pools(name):
    pool, kernel, stride, size = POOLS[name]

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            if isinstance(pool, nn.Module):
                self.pool = pool

        def forward(self, x):
            x = self.first(x)
            return self.second(self.pool(x) if isinstance(pool, nn.Module) else pool(x))

    (layer,) = [layer for layer in trace(Pooled().eval(), (3, 8, 8)).layers if layer.kind == "pool"]
    assert (layer.kernel, layer.stride, layer.out_size) == (kernel, stride, size)
    assert layer.in_size == (8, 8)


def test_a_mean_over_the_map_is_a_pool():
    """Written in three ways, the table and so all costs are the same."""

    def table(head):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv, self.out = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

            def forward(self, x):
                return self.out(head(self.conv(x)))

        return trace(Net().eval(), (3, 8, 8))

    one, *others = (
        table(head)
        for head in (
            lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
            lambda x: x.mean((2, 3)),
            lambda x: torch.mean(x, dim=(2, 3)),
        )
    )
    pool = one.layers[1]
    assert pool.kind == "pool" and pool.kernel == (8, 8)
    for other in others:
        alike = [dataclasses.replace(layer, name="") for layer in other.layers]
        assert alike == [dataclasses.replace(layer, name="") for layer in one.layers]
        rows = one.configuration(np.array([[1], [4]]))
        for name, cost in build_costs(one, None).items():
            assert cost(rows).tolist() == build_costs(other, None)[name](rows).tolist()


@pytest.mark.parametrize("name", ["plain", "padded shortcut", "vgg16"])
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_a_batch_costs_what_its_strategies_cost_one_by_one(name, data):
    table, costs = vgg16_costs()
    if name != "vgg16":
        table = network_and_table(name)[1]
        costs = build_costs(table, None)
    n = data.draw(st.integers(1, 5))
    configuration = data.draw(
        strategies(table, n, () if name == "vgg16" else ("density", "bits", "blocks"))
    )
    for cost in costs.values():
        together = cost(configuration)
        assert together.shape == (n,) and together.dtype == np.float64
        assert together.tolist() == [cost(configuration[row])[0] for row in range(n)]


@pytest.mark.parametrize("name", ["padded shortcut", "concat", "vgg16"])
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_less_of_anything_costs_no_more(name, data):
    table = network_and_table(name)[1]
    costs = build_costs(table, None)
    more = data.draw(strategies(table))
    less = []
    if more.is_dense:  # with one, whole masks round
        widths = [data.draw(st.integers(1, int(width))) for width in more.widths[0]]
        less.append(dataclasses.replace(more, widths=np.array([widths])))
    else:
        less.append(dataclasses.replace(more, density=more.density / 2))
    less.append(dataclasses.replace(more, blocks=np.zeros_like(more.blocks)))
    less += [
        dataclasses.replace(more, **{part: np.minimum(getattr(more, part), 2)})
        for part in ("weight_bits", "activation_bits")
    ]
    for name in ("flops", "params", "memory"):
        for each in less:
            assert costs[name](each)[0] <= costs[name](more)[0]


def test_memory_with_bits_by_hand():
    """As without, each weight and each activation in its bits; the logits stay float."""
    table = trace(Tiny().eval(), (3, 8, 8))
    memory = build_costs(table, None)["memory"]
    a, b, c = 12, 16, 16
    weights = 27 * a * 8 + 9 * a * b * 4 + 9 * b * c * 2 + 4 * c * 1
    vectors = 32 * (2 * (a + b + c) + 4)
    # the image 8 bits, conv(3 -> a) and its pool 6 bits, then 4, then 3 (also what is pooled)
    live = [3 * 64 * 8 + a * 64 * 6, a * 80 * 6, a * 16 * 6 + b * 16 * 4, b * 64 + c * 48]
    configuration = table.configuration(
        np.array([[a, b, c]]),
        weight_bits=np.array([[8, 4, 2, 1]]),
        activation_bits=np.array([[8, 6, 4, 3]]),
    )
    assert memory(configuration)[0] == (weights + vectors + max(live)) / 8


def test_a_skipped_block_leaves_weights_and_memory_of_a_network_without_it():
    class Net(nn.Module):
        def __init__(self, blocks):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 1, bias=False)
            if blocks:
                self.a, self.b = nn.Conv2d(4, 9, 3, padding=1), nn.Conv2d(9, 4, 3, padding=1)
            self.out, self.blocks = nn.Conv2d(4, 1, 8, bias=False), blocks

        def forward(self, x):
            x = self.stem(x)
            return self.out(x + self.b(self.a(x)) if self.blocks else x)

    table = trace(Net(True).eval(), (3, 8, 8))
    without = trace(Net(False).eval(), (3, 8, 8))
    skipped = table.configuration(np.array([[4, 9]]), blocks=np.array([[False]]))
    costs, others = build_costs(table, None), build_costs(without, None)
    for name in ("flops", "params", "memory", "energy", "size"):
        assert costs[name](skipped)[0] == others[name](without.configuration())[0], name
        assert costs[name](skipped)[0] < costs[name](full(table))[0]


def test_bits_reach_what_activations_copy():
    """What several activations read is stored in the bits of the layer behind them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.out = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(12, 1, 8, bias=False)

        def forward(self, x):
            x = self.stem(x)
            return self.out(torch.cat([F.relu(x), F.silu(x), torch.tanh(x)], 1))

    bits = np.array([[8, 4]])
    table = trace(Net().eval(), (3, 8, 8))
    configuration = table.configuration(weight_bits=bits, activation_bits=bits)
    weights = 3 * 4 * 8 + 12 * 64 * 4
    live = 2 * 12 * 64 * 4  # three copies and the concatenation; before it x and the copies
    found = build_costs(table, None)["memory"](configuration)[0]
    assert found == (weights + live) / 8


@pytest.mark.parametrize("name", ["residual", "padded shortcut", "preactivation", "long skips"])
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_memory_of_bits_and_skipped_blocks_is_that_of_the_candidate(name, data):
    """What is left of the network is traced anew; its layers keep their bits."""
    net, table, side = network_and_table(name)
    configuration = data.draw(strategies(table, parts=("bits", "blocks")))
    left = trace(candidate(net, table, configuration), (3, side, side))
    names = [table.layers[index].name for index in table.weighted]
    at = [names.index(left.layers[index].name) for index in left.weighted]
    again = left.configuration(
        weight_bits=configuration.weight_bits[:, at],
        activation_bits=configuration.activation_bits[:, at],
    )
    found, expected = (
        build_costs(t, None)["memory"](r)[0] for t, r in ((table, configuration), (left, again))
    )
    assert found == expected
