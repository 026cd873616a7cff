"""Layers that the forward calls several times: their channels are one in all calls."""

import copy

import numpy as np
import pytest
import torch
from cuts import check_random_cuts, half_of
from torch import nn
from torch.nn import functional as F

from prune_gym.compression.calibration import batch_statistics
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.quantize import quantize
from prune_gym.costs.flops import Flops
from prune_gym.costs.params import Params
from prune_gym.graph.trace import trace

SHAPE = (3, 8, 8)
IMAGES = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, how, **modules):
        super().__init__()
        self.stem, self.other, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
        self.how = how
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.head(self.how(self, self.stem(x), self.other(x)).mean((2, 3)))


def one_norm_each(net, x, y):
    return net.norm_x(net.conv(x)) + net.norm_y(net.conv(y))


def pyramid(net, x, y):
    """The same head on maps of two sizes, as in RetinaNet."""
    y = net.back(F.relu(net.conv(F.max_pool2d(y, 2))))
    return net.back(F.relu(net.conv(x))) + F.interpolate(y, scale_factor=2)


def tokens(net, x):
    x = x.flatten(2).mT
    x = x + net.attention(x, x, x, need_weights=False)[0]
    return net.norm(x + net.down(F.gelu(net.up(x)))).mT.unflatten(2, (8, 8))


def both(part):
    return lambda net, x, y: part(net, x) * part(net, y)


def conv(**more):
    return nn.Conv2d(8, 8, 3, padding=1, **more)


CASES = {
    "in a row": (lambda n, x, y: n.conv(F.relu(n.conv(x))) + y, {"conv": conv()}, {"stem": 8}),
    "side by side": (
        both(lambda n, x: F.relu(n.norm(n.conv(x)))),
        {"conv": nn.Conv2d(8, 12, 3), "norm": nn.BatchNorm2d(12), "head": nn.Linear(12, 4)},
        {"stem": 8, "conv": 12},
    ),
    "a norm of two layers": (
        lambda n, x, y: n.norm(n.conv(x)) + n.norm(y),
        {"conv": conv(), "norm": nn.BatchNorm2d(8)},
        {"stem": 8, "other": 8},
    ),
    "a norm for each call": (
        one_norm_each,
        {"conv": conv(), "norm_x": nn.BatchNorm2d(8), "norm_y": nn.BatchNorm2d(8)},
        {"stem": 8, "conv": 8},
    ),
    "two sizes": (
        pyramid,
        {"conv": nn.Conv2d(8, 10, 3, padding=1), "back": nn.Conv2d(10, 8, 1)},
        {"stem": 8, "conv": 10, "back": 8},
    ),
    "depthwise": (both(lambda n, x: n.conv(x)), {"conv": conv(groups=8)}, {"stem": 8}),
    "grouped": (both(lambda n, x: n.conv(x)), {"conv": conv(groups=2)}, {"stem": 4, "conv": 4}),
    "slopes": (both(lambda n, x: n.act(x)), {"act": nn.PReLU(8)}, {"stem": 8}),
    "groups of a norm": (both(lambda n, x: n.norm(x)), {"norm": nn.GroupNorm(4, 8)}, {"stem": 4}),
    "a transformer layer": (
        both(tokens),
        {
            "attention": nn.MultiheadAttention(8, 2, batch_first=True),
            "up": nn.Linear(8, 12),
            "down": nn.Linear(12, 8),
            "norm": nn.LayerNorm(8),
        },
        {"stem": 8, "attention.q_proj": 2, "up": 12},
    ),
    "once on other channels": (
        lambda n, x, y: n.conv(x) + n.conv(torch.cat([y[:, :5], x[:, 5:]], 1)),
        {"conv": conv()},
        {"conv": 8},
    ),
    "once in a way that is left alone": (
        lambda n, x, y: n.last(n.conv(x) + n.conv(y[0])),
        {"conv": conv(), "last": nn.Conv2d(8, 8, 1)},
        {"last": 8},
    ),
}


def made(name):
    how, modules, expected = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net(how, **copy.deepcopy(modules))
        for key, tensor in net.state_dict().items():
            if "norm" in key and tensor.ndim:
                tensor.copy_(tensor + torch.rand(tensor.shape))
    return net.eval().requires_grad_(False), expected


@pytest.mark.parametrize("name", CASES)
def test_they_are_cut_exactly(name):
    net, expected = made(name)
    table = trace(net, SHAPE)
    assert {group.name: group.size for group in table.groups} == expected
    check_random_cuts(net, table, IMAGES)


@pytest.mark.parametrize("name", CASES)
def test_parameters_count_once_and_multiply_adds_for_every_call(name):
    net, _ = made(name)
    table = trace(net, SHAPE)
    configuration, small, multiply_adds = half_of(net, table, IMAGES[:1])
    uncounted = sum(count for _, count in table.uncounted)
    assert Flops(table)(configuration)[0] + uncounted == multiply_adds
    assert Params(table)(configuration)[0] == sum(each.numel() for each in small.parameters())


@pytest.mark.parametrize("name", CASES)
def test_norms_are_folded_only_where_every_call_allows_it(name):
    net, _ = made(name)
    table, before = trace(net, SHAPE), net(IMAGES)
    folded = fold_batch_norm(copy.deepcopy(net), table)
    torch.testing.assert_close(folded(IMAGES), before, rtol=1e-4, atol=1e-5)
    left = [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) == {"a norm of two layers": 1, "a norm for each call": 2}.get(name, 0)


def test_statistics_are_the_average_of_the_calls():
    net, _ = made("a norm of two layers")
    table = trace(net, SHAPE)
    found = batch_statistics(net, table, IMAGES)["norm"]
    calls = torch.stack([net.conv(net.stem(IMAGES)), net.other(IMAGES)])
    torch.testing.assert_close(found[0], calls.mean((0, 1, 3, 4)), rtol=1e-2, atol=1e-2)
    variance = torch.stack([each.transpose(0, 1).flatten(1).var(1) for each in calls]).mean(0)
    torch.testing.assert_close(found[1], variance, rtol=2e-2, atol=1e-2)


def test_the_range_of_quantized_inputs_is_that_of_all_calls():
    net, _ = made("side by side")
    net.stem.weight *= 8.0  # the first call has the wider range
    table = trace(net, SHAPE)
    bits = np.full(len(table.weighted), 8)
    folded = fold_batch_norm(copy.deepcopy(net), table)
    small = quantize(folded, table, bits, bits, IMAGES)
    assert (small(IMAGES) - net(IMAGES)).norm() < 0.1 * net(IMAGES).norm()


def test_a_residual_block_of_such_layers_is_no_block():
    block = {"conv": conv(), "back": conv()}
    net = Net(both(lambda n, x: x + n.back(F.relu(n.conv(x)))), **block).eval()
    assert not trace(net, SHAPE).blocks
    net = Net(lambda n, x, y: (x + n.back(F.relu(n.conv(x)))) * y, **block).eval()
    assert [each.layers for each in trace(net, SHAPE).blocks] == [("conv", "back")]
