"""The width of a transformer's tokens: everything that holds their channels is cut together."""

import numpy as np
import pytest
import torch
from cuts import check_random_cuts
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.verify import check_cut
from prune_gym.costs.flops import Flops
from prune_gym.costs.memory import Memory
from prune_gym.costs.params import Params
from prune_gym.graph.trace import trace

DIM, SHAPE = 12, (3, 8, 8)
IMAGES = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """A class token, position embeddings, layer scale and one MLP; ``last`` gives the answers."""

    def __init__(self, last=None, **parts):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, DIM))
        self.position = nn.Parameter(torch.randn(1, 17, DIM))
        self.scale = nn.Parameter(torch.rand(DIM) + 0.5)
        self.patch = nn.Conv2d(3, DIM, 2, 2)
        self.norm1, self.norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.fc1, self.fc2 = nn.Linear(DIM, 24), nn.Linear(24, DIM)
        self.head = nn.Linear(DIM, 4)
        self.last = last or (lambda net, x: net.head(net.norm(x)[:, 0]))
        for name, part in parts.items():
            self._parameters.pop(name, None)
            setattr(self, name, part)

    def forward(self, x):
        token = self.token.expand(x.shape[0], -1, -1)
        x = torch.cat([token, self.patch(x).flatten(2).transpose(1, 2)], 1) + self.position
        x = x + self.scale * self.fc2(F.gelu(self.fc1(self.norm1(x))))
        return self.last(self, x)


def made(*given, **parts):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Plain(*given, **parts)
        for norm in (net.norm1, net.norm):
            if norm.bias is not None:
                nn.init.normal_(norm.weight, 1.0, 0.3)
                nn.init.normal_(norm.bias, 0.0, 0.3)
    return net.eval().requires_grad_(False)


def sizes(net):
    return {group.name: group.size for group in trace(net, SHAPE).groups}


def test_a_cut_network_computes_what_the_original_does_without_the_channels():
    net = made()
    table = trace(net, SHAPE)
    assert sizes(net) == {"patch": DIM, "fc1": 24}
    cut_together = {member.module for member in table.groups[0].members if member.dim == "out"}
    assert cut_together == {"patch", "token", "position", "scale", "fc2", "norm1", "norm"}
    check_random_cuts(net, table, IMAGES, least=2)


def test_costs_are_those_of_the_cut_network():
    net = made()
    table = trace(net, SHAPE)
    for widths in ([DIM, 24], [7, 5], [1, 1]):
        small = cut(net, table, first_channels(table, np.array(widths)))
        with FlopCounterMode(display=False) as counter:
            small(IMAGES[:1])
        configuration = table.configuration(np.array([widths]))
        assert Flops(table)(configuration)[0] == counter.get_total_flops() / 2
        assert Params(table)(configuration)[0] == sum(p.numel() for p in small.parameters())
        again = trace(small, SHAPE)
        assert Memory(table)(configuration)[0] == Memory(again)(again.configuration())[0]


def test_the_cut_is_the_plain_network_of_that_width():
    net = made()
    kept = [np.array([1, 4, 9]), np.arange(24)]
    small = cut(net, trace(net, SHAPE), kept)
    assert (small.position.shape, small.scale.shape) == ((1, 17, 3), (3,))
    assert torch.equal(small.token, net.token[..., [1, 4, 9]])
    assert small.norm.normalized_shape == (3,) and type(small.norm) is nn.LayerNorm
    assert net.norm.normalized_shape == (DIM,) and net.position.shape == (1, 17, DIM)
    assert small.state_dict().keys() == net.state_dict().keys()
    other = cut(net, trace(net, SHAPE), [np.arange(3), np.arange(24)])
    other.load_state_dict(small.state_dict())
    assert torch.equal(other(IMAGES), small(IMAGES))


def sum_of_the_token(net, x):
    return net.head(net.norm(x)[:, 0]) * net.token.sum()


SHARED = nn.Parameter(torch.rand(DIM))
PINNED = {
    "a layer-norm without shift": (made(norm=nn.LayerNorm(DIM, bias=False)), "norm"),
    "a layer-norm of tokens and channels": (
        made(lambda n, x: n.head(n.norm2(x).mean(1)), norm2=nn.LayerNorm((17, DIM))),
        "norm2",
    ),
    "a mean over channels": (made(lambda n, x: n.head(x - x.mean(-1, keepdim=True))), "mean"),
    "positions that are no parameter": (made(position=nn.Buffer(torch.rand(1, 17, DIM))), "add"),
    "a parameter with two names": (made(scale=SHARED, again=SHARED), "mul"),
    "a parameter that is used otherwise": (made(sum_of_the_token), "sum_1"),
    "tokens of the width that is written": (
        made(lambda n, x: n.head(n.norm(x).reshape(-1, 17, 12)[:, 0])),
        "reshape",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_what_pins_the_width_is_named(name):
    net, by = PINNED[name]
    assert sizes(net) == {"fc1": 24}
    pins = {pin.layer: pin for pin in trace(net, SHAPE).pins}
    assert pins["patch"].channels == pins["fc2"].channels == DIM
    assert by in {pin.by for pin in pins.values()}
    check_cut(net, trace(net, SHAPE), IMAGES)


def test_queries_that_no_layer_writes_are_left_alone():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.queries = nn.Parameter(torch.rand(1, 3, 6))
            self.read = nn.Linear(6, 8)
            self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)

        def forward(self, x):
            queries = self.read(self.queries.expand(x.shape[0], -1, -1))
            return self.head(queries.mean(1) + self.conv(x).mean((2, 3)))

    table = trace(Queries().eval(), SHAPE)
    assert [group.name for group in table.groups] == ["read"]
    assert table.groups[0].size == 8
