"""Networks of people's own: what their forward may do, and what is refused in one line."""

import threading

import numpy as np
import pytest
import torch
from four_classes import four_classes
from playing import constant, play
from torch import nn
from torch.nn import functional as F

from prune_gym.compression.quantize import quantize
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.trace import trace

DATA = four_classes("own-forward")
CHANNELS, SIDE = DATA.train.images.shape[1:3]


class Net(nn.Module):
    """Two convolutions and a head; ``forward`` is given."""

    def __init__(self, forward, **more):
        super().__init__()
        self.one = nn.Conv2d(CHANNELS, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        for name, value in more.items():
            setattr(self, name, value)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def pooled(x):
    return x.mean((2, 3))


def maps(net, x):
    return net.two(F.relu(net.one(x)))


def average_of_its_size(net, x):
    x = maps(net, x)
    return net.head(torch.flatten(F.avg_pool2d(x, x.size()[3]), 1))


def with_a_written_width(net, x):
    return net.head(F.adaptive_avg_pool2d(maps(net, x), 1).reshape(-1, 8))


def twice_in_a_concatenation(net, x):
    x = pooled(maps(net, x))
    return net.head(torch.cat([x, x], 1))


def spread(net, x):
    return net.head(net.late(pooled(maps(net, x)).view(x.size(0), -1, 1, 1)).flatten(1))


@pytest.mark.parametrize(
    ("forward", "more"),
    [
        (average_of_its_size, {}),
        (with_a_written_width, {}),
        (twice_in_a_concatenation, {"head": nn.Linear(16, 4)}),
        (spread, {"late": nn.BatchNorm2d(8)}),
        (lambda net, x: net.head(pooled(torch.cat(maps(net, x).split(4, 1)[::-1], 1))), {}),
        (lambda net, x: net.head(pooled(torch.cat([maps(net, x)] * 2, 2))), {}),
        (lambda net, x: net.head(maps(net, x).flatten(2).mean(2)), {}),
        (lambda net, x: net.head(pooled(maps(net, x)).expand(x.shape[0], 8)), {}),
        (lambda net, x: net.head(pooled(maps(net, x))), {"aux": nn.Linear(8, 4)}),
    ],
)
def test_networks_that_can_be_cut(forward, more):
    env = compression_env(Net(forward, **more), DATA, latency=None, round_to=1, repair="none")
    values = np.array([decision.options[0] for decision in env.problem.decisions])
    assert len(values) and (values < 8).all()
    configuration = env.problem.space.configure(values[None])
    candidate = env.problem.evaluator.candidate(configuration)
    parameters = sum(parameter.numel() for parameter in candidate.parameters())
    assert parameters == env.problem.costs["params"](configuration)[0]
    full = env.problem.evaluator.candidate(
        env.problem.space.configure(env.problem.space.upper[None])
    )
    images = env.problem.evaluator.images[:4]
    torch.testing.assert_close(full(images), env.problem.evaluator.network(images))


def in_a_plain_list(net, x):
    for layer in net.stages:
        x = layer(x)
    return net.head(pooled(x))


def held(net):
    net.stages = [net.one, net.two]
    return net


def tied(net):
    net.three = nn.Conv2d(8, 8, 3, padding=1)
    net.three.weight = net.two.weight
    return net


def doubled(layer, _):
    layer.weight = 2 * layer.halves


def computed(net):
    """Let a hook of the user's own compute a weight before each call."""
    weight = net.two.weight
    del net.two.weight
    net.two.halves, net.two.weight = weight, weight.detach()
    net.two.register_forward_pre_hook(doubled)
    return net


def after_pooling(then):
    return lambda: Net(lambda net, x: net.head(then(pooled(maps(net, x)))))


def of_maps(then, **more):
    return lambda: Net(lambda net, x: then(net, maps(net, x)), **more)


def plain(**more):
    return Net(lambda net, x: net.head(pooled(maps(net, x))), **more)


LEFT_WHOLE = {
    "held in a plain list": lambda: held(Net(in_a_plain_list)),
    "a weight of two layers": lambda: tied(
        Net(lambda net, x: net.head(pooled(net.three(maps(net, x)))))
    ),
    "a computed weight": lambda: computed(plain()),
}


@pytest.mark.parametrize("name", LEFT_WHOLE)
def test_layers_that_must_stay_whole_are_kept_and_the_others_cut(name):
    network = LEFT_WHOLE[name]()
    head = Net(lambda net, x: net.inner(net.middle(F.relu(net.before(x)))), inner=network)
    head.before, head.middle = nn.Conv2d(CHANNELS, 6, 1), nn.Conv2d(6, 6, 1)
    network.one = nn.Conv2d(6, 8, 3, padding=1)
    if name == "held in a plain list":
        held(network)
    evaluator = make_evaluator(head.eval().requires_grad_(False), DATA, "least_squares")
    assert {group.name: group.size for group in evaluator.table.groups}["before"] == 6
    assert "inner.two" not in {group.name for group in evaluator.table.groups}
    half = evaluator.table.configuration(evaluator.table.full[None] // 2)
    small = evaluator.candidate(half)
    assert small.before.out_channels == 3 and small.inner.two.out_channels == 8
    assert 0 <= evaluator.accuracy(half) <= 1


REFUSED = {
    "view.*flatten.1. or reshape": of_maps(
        lambda net, x: net.wide(x.view(-1, 512)), wide=nn.Linear(512, 4)
    ),
    "Net cannot be copied .*copy.deepcopy": lambda: plain(lock=threading.Lock()),
    "'head.weight' has no shape yet.*batch": lambda: plain(head=nn.LazyLinear(4)),
    "'one.weight' is on the meta device.*load": lambda: plain().to("meta"),
    "RecursiveScriptModule is a TorchScript.*take the nn.Module": lambda: torch.jit.script(
        nn.Conv2d(CHANNELS, 4, 1)
    ),
    "Net: 'head' holds integers.*before it was quantized": lambda: plain(
        head=torch.ao.nn.quantized.dynamic.Linear(8, 4)
    ),
    "Net: 'one' is a TorchScript": lambda: plain(
        one=torch.jit.script(nn.Conv2d(CHANNELS, 8, 3, padding=1))
    ),
    "classifier": of_maps(lambda net, x: (net.head(pooled(x)),)),
    "3x8x8": of_maps(lambda net, x: net.head(x.flatten(1))),
    "cannot be traced": of_maps(lambda net, x: net.head(pooled(x)) if x.sum() > 0 else x),
}


@pytest.mark.parametrize("message", REFUSED)
def test_networks_that_are_refused_in_a_line(message):
    with pytest.raises(UserError, match=message) as told:
        make_evaluator(REFUSED[message](), DATA, "none")
    assert "\n" not in str(told.value)


def test_a_network_without_anything_to_decide_is_refused():
    network = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match="Sequential.*channels"):
        compression_env(network, DATA, latency=None)


def test_compiled_parts_are_cut_as_what_they_wrap():
    network = plain()
    network.one, network.two = torch.compile(network.one), torch.compile(network.two)
    evaluator = make_evaluator(network, DATA, "none")
    assert {group.name for group in evaluator.table.groups} == {"one", "two"}
    assert set(evaluator.network.state_dict()) == set(plain().state_dict())
    assert hasattr(network.one, "_orig_mod")


def test_zeros_one_by_one_are_kept_as_they_are():
    network = Net(lambda n, x: n.head(pooled(maps(n, x))))
    with torch.no_grad():
        network.two.weight.mul_(torch.rand_like(network.two.weight) > 0.8)
    env = compression_env(network, DATA, latency=None, round_to=1)
    full = env.problem.evaluator.candidate(
        env.problem.space.configure(env.problem.space.upper[None])
    )
    assert torch.equal(full.two.weight, network.two.weight)
    expected = sum(int((p != 0).sum()) for p in network.parameters())
    assert env.problem.original["params"] == expected


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate", "zeros"])
def test_quantized_layers_pad_as_theirs_did(mode):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode=mode), nn.Flatten())
    table, images = trace(network, (3, 6, 6)), torch.randn(4, 3, 6, 6)
    with torch.inference_mode():
        expected = network(images)
        found = quantize(network, table, np.array([8]), np.array([8]), images)
        assert (found(images) - expected).abs().max() < 0.02 * expected.abs().max()
        again = found[0].as_float()(images).flatten(1)
        assert (again - expected).abs().max() < 0.02 * expected.abs().max()


class NormAndActivation(nn.BatchNorm2d):
    """A batch-norm that applies an activation too, as timm's does."""

    def forward(self, x):
        vectors = self.running_mean, self.running_var, self.weight, self.bias
        return F.relu(F.batch_norm(x, *vectors, self.training, self.momentum, self.eps))


def mixed(net, x):
    """Residual blocks of convolutions and of tokens, and a layer that is left alone."""
    x = net.norm(net.one(x))
    x = net.up(x + net.three(net.norm2(net.two(x))))
    y = x.flatten(2).transpose(1, 2)
    y = y + net.back(F.gelu(net.hidden(net.tokens(y))))
    return net.head(y.mean(1))


def mixed_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net(mixed, norm=NormAndActivation(8), norm2=NormAndActivation(8))
        net.three, net.up = nn.Conv2d(8, 8, 1), nn.ConvTranspose2d(8, 8, 2, 2)
        net.tokens, net.hidden, net.back = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
    return net.eval()


@pytest.mark.parametrize(
    "decide",
    [
        ("channels",),
        ("block", "channels"),
        ("channels", "density"),
        ("channels", "weight_bits", "activation_bits"),
        ("variational",),
    ],
)
def test_what_is_left_alone_takes_part_in_every_kind_of_decision(decide):
    env = compression_env(mixed_network(), DATA, latency=None, round_to=1, decide=decide)
    _, _, infos = play(env, constant(-0.2))
    strategy = infos[-1]["strategy"]
    small = env.problem.apply(strategy)
    assert small(env.problem.evaluator.images[:4]).shape == (4, 4)
    assert small.up.out_channels == 8
    if decide == ("channels",):
        assert small.hidden.out_features < 12
    assert 0 < infos[-1]["flops"] < env.problem.original["flops"]


def test_what_to_put_in_the_place_of_a_synchronized_norm_is_told():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SyncBatchNorm(8), nn.Conv2d(8, 4, 1)).eval()
    (pin, *_) = trace(net, (3, 8, 8)).pins
    assert pin.by == "1"
    assert pin.why == "SyncBatchNorm; put a BatchNorm2d with its state_dict in its place"
