import dataclasses
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ZOO, Tiny, make
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from prune_gym import models
from prune_gym.costs import build_costs
from prune_gym.costs.latency import Latency, LatencyTable, load_latency_table, signature
from prune_gym.models.resnet import resnet56
from prune_gym.network.surgery import cut, first_channels
from prune_gym.network.trace import trace

BIG = {
    "vgg16": (lambda: models.build("vgg16", 10), 32),
    "resnet56": (resnet56, 32),
}


@functools.cache
def network_and_table(name):
    build, side = BIG.get(name, (lambda: make(name), 8))
    net = build().eval()
    return net, trace(net, (3, side, side)), side


@functools.cache
def vgg16_costs():
    table = network_and_table("vgg16")[1]
    return table, build_costs(table, load_latency_table("reference-cpu"))


def widths_of(table):
    """Return a Hypothesis strategy of widths."""
    return st.tuples(*(st.integers(1, group.size) for group in table.groups))


def check_against_the_cut_network(name, widths):
    net, table, side = network_and_table(name)
    costs = build_costs(table, None)
    candidate = cut(net, table, first_channels(table, np.array(widths)))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        candidate(torch.zeros(1, 3, side, side))
    row = np.array([widths])
    assert costs["flops"](row)[0] == counter.get_total_flops() / 2
    assert costs["params"](row)[0] == sum(p.numel() for p in candidate.parameters())


@pytest.mark.parametrize("name", ZOO)
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_flops_and_params_are_those_of_the_cut_network(name, data):
    table = network_and_table(name)[1]
    check_against_the_cut_network(name, data.draw(widths_of(table)))


@pytest.mark.parametrize("name", BIG)
@given(st.data())
@settings(max_examples=4, deadline=None)
def test_flops_and_params_of_the_large_networks(name, data):
    table = network_and_table(name)[1]
    check_against_the_cut_network(name, data.draw(widths_of(table)))


@pytest.mark.parametrize("name", [*ZOO, *BIG])
def test_the_full_network(name):
    check_against_the_cut_network(name, tuple(network_and_table(name)[1].full))


def test_vgg16_has_the_known_size():
    table, costs = vgg16_costs()
    full = table.full[None]
    assert len(table.groups) == 13
    assert costs["flops"](full)[0] == 313_201_664
    assert costs["params"](full)[0] == 14_724_042


def test_resnet56_cuts_residual_streams():
    table = network_and_table("resnet56")[1]
    members = {group.name: {m.module for m in group.members} for group in table.groups}
    assert {"conv1", "layer1.8.conv2", "layer2.0.conv1", "layer3.8.bn2"} <= members["conv1"]


def test_memory_by_hand():
    """conv(3->a) 8x8, pool to 4x4, conv(a->b), conv(b->c), average pool, linear(c->4)."""
    memory = build_costs(trace(Tiny().eval(), (3, 8, 8)), None)["memory"]
    for a, b, c in [(12, 16, 16), (1, 1, 1), (12, 1, 5), (3, 16, 16)]:
        weights = 27 * a + 2 * a + 9 * a * b + 2 * b + 9 * b * c + 2 * c + 4 * c + 4
        live = [3 * 64 + a * 64, a * 64 + a * 16, (a + b) * 16, (b + c) * 16, c * 16 + c, c + 4]
        assert memory(np.array([[a, b, c]]))[0] == 4 * (weights + max(live))


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

    memory = build_costs(trace(Block().eval(), (3, 8, 8)), None)["memory"]
    for stream, inner in [(4, 6), (1, 6), (4, 1)]:
        weights = 3 * stream + 2 * stream * inner + 64 * stream
        live = 64 * max(2 * stream + inner, 3 * stream, 3 + stream)
        assert memory(np.array([[stream, inner]]))[0] == 4 * (weights + live)


def peaks(net, tensors):
    """Return (memory found, memory by hand) at some widths; ``tensors`` gives the most at once."""
    table = trace(net.eval(), (3, 8, 8))
    costs = build_costs(table, None)
    for a in (1, 3, 4):
        row = np.array([[a]])
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
        rows = np.array([[1], [4]])
        for name, cost in build_costs(one, None).items():
            assert cost(rows).tolist() == build_costs(other, None)[name](rows).tolist()


@functools.cache
def tiny_table():
    return trace(Tiny().eval(), (3, 8, 8))


def timed(table, widths):
    """Yield (signature, inputs, outputs) of the layers that take time, at some widths."""
    counts = [f(w[None])[0].astype(int) for f in (table.inputs, table.outputs) for w in widths]
    for layer, *now in zip(table.layers, *counts, strict=True):
        if layer.kind != "batch_norm":
            full_i, i, full_o, o = now
            yield signature(layer, full_i, full_o), layer, full_i, full_o, i, o


def tiny_latency(times):
    """Return the latency of Tiny with a table of ``times(layer, inputs, outputs)``."""
    table, layers = tiny_table(), {}
    for key, layer, i, o, *_ in timed(table, (table.full, table.full)):
        grid_i = np.array(sorted({max(i // 2, 1), i}), dtype=float)
        grid_o = np.array(sorted({max(o // 4, 1), max(o // 2, 1), o}), dtype=float)
        layers[key] = (grid_i, grid_o, times(layer, grid_i, grid_o))
    return table, Latency(table, LatencyTable({"device": "test"}, layers)), layers


def random_times(seed=0):
    rng = np.random.default_rng(seed)
    return lambda layer, i, o: rng.uniform(0.1, 1.0, (len(i), len(o)))


@pytest.mark.parametrize("widths", [(12, 16, 16), (6, 16, 8), (12, 8, 16), (6, 8, 8)])
def test_latency_at_grid_points_is_the_tables(widths):
    table, latency, layers = tiny_latency(random_times())
    widths, expected = np.array(widths), 0.0
    for key, _, _, _, i, o in timed(table, (table.full, widths)):
        inputs, outputs, times = layers[key]
        expected += times[inputs.tolist().index(i), outputs.tolist().index(o)]
    assert latency(widths[None])[0] == pytest.approx(expected, rel=1e-12)


@given(st.tuples(st.integers(1, 12), st.integers(1, 16), st.integers(1, 16)))
def test_latency_of_a_bilinear_table_is_exact_within_the_grid(widths):
    """Bilinear interpolation reproduces a bilinear function; outside, the grid's edge holds."""
    table, latency, _ = tiny_latency(lambda layer, i, o: 1.0 + np.outer(i, o) + i[:, None])
    widths, expected = np.array(widths), 0.0
    for _, _, full_i, full_o, i, o in timed(table, (table.full, widths)):
        i, o = max(i, full_i // 2), max(o, full_o // 4)
        expected += 1.0 + i * o + i
    assert latency(widths[None])[0] == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 5), st.tuples(st.integers(1, 12), st.integers(1, 16), st.integers(1, 16)))
def test_latency_stays_within_its_cells(seed, widths):
    _, latency, layers = tiny_latency(random_times(seed))
    low = high = 0.0
    for key, _, _, _, i, o in timed(tiny_table(), (tiny_table().full, np.array(widths))):
        inputs, outputs, times = layers[key]
        row, column = (
            slice(max(np.searchsorted(grid, count, side="right") - 1, 0), None)
            for grid, count in ((inputs, i), (outputs, o))
        )
        cell = times[row, column][:2, :2]
        low += cell.min()
        high += cell.max()
    assert low - 1e-9 <= latency(np.array([widths]))[0] <= high + 1e-9


def test_latency_needs_every_layer():
    table = tiny_table()
    with pytest.raises(ValueError, match="features.0.0.*conv 3x3 stride 1 on 8x8, 3 to 12.*profil"):
        Latency(table, load_latency_table("reference-cpu"))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_batch_costs_what_its_strategies_cost_one_by_one(data):
    table, costs = vgg16_costs()
    rows = np.array(data.draw(st.lists(widths_of(table), min_size=1, max_size=5)))
    for cost in costs.values():
        together = cost(rows)
        assert together.shape == (len(rows),) and together.dtype == np.float64
        one_by_one = [cost(row[None])[0] for row in rows]
        if cost.name == "latency":
            np.testing.assert_allclose(together, one_by_one, rtol=1e-13)
        else:
            assert together.tolist() == one_by_one


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_smaller_network_costs_no_more(data):
    table, costs = vgg16_costs()
    widths = np.array(data.draw(widths_of(table)))
    group = data.draw(st.integers(0, len(table.groups) - 1))
    smaller = widths.copy()
    smaller[group] = data.draw(st.integers(1, int(widths[group])))
    for name in ("flops", "params", "memory"):
        assert costs[name](smaller[None])[0] <= costs[name](widths[None])[0]


def test_costs_are_quick():
    import time

    table, costs = vgg16_costs()
    rows = np.tile(table.full, (1000, 1))
    start = time.perf_counter()
    for cost in costs.values():
        cost(rows)
    assert time.perf_counter() - start < 1.0  # microseconds a strategy; a loop takes far longer
