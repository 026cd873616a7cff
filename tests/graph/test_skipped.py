"""A candidate with skipped blocks is of the original's class, in training too."""

import copy
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from prune_gym.deployment.deployable import folded
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.skipped import running_modules
from prune_gym.graph.trace import trace

SHAPE = (3, 8, 8)


class Unit(nn.Module):
    """A residual block; its branch is dropped at random in training."""

    def __init__(self, channels=6, inside=10, stride=1):
        super().__init__()
        self.one, self.norm = nn.Conv2d(channels, inside, 3, stride, 1), nn.BatchNorm2d(inside)
        self.act, self.two = nn.ReLU(inplace=True), nn.Conv2d(inside, channels, 1)

    def forward(self, x):
        out = self.two(self.act(self.norm(self.one(x))))
        if self.training:
            out = out * (torch.rand(len(x), 1, 1, 1) < 0.5)
        out = out + x
        return self.act(out)


class Net(nn.Module):
    """Two blocks, dropout by a function, and a method and an attribute of its own."""

    def __init__(self, branch=None):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 6, 3, padding=1), nn.ModuleList([Unit(), Unit()])
        self.own, self.out, self.classes = branch or nn.Conv2d(6, 6, 1), nn.Linear(6, 4), "abcd"

    def features(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x + self.own(x)

    def forward(self, x):
        x = F.dropout(self.features(x).mean((2, 3)), 0.5, self.training)
        return self.out(x)


def made(kind=Net, *args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = kind(*args)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)
                module.bias.data.uniform_(0.5, 1)
        return net.eval().requires_grad_(False)


IMAGES = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("left_out", [[0], [1], [2], [0, 1, 2]])
def test_a_candidate_with_skipped_blocks_is_what_the_original_is(left_out):
    net = made()
    blocks = trace(net, SHAPE).blocks
    small = skip_blocks(net, [blocks[index] for index in left_out], SHAPE)
    assert type(small) is Net and small.classes == "abcd"
    gone = [("blocks.0.", "blocks.1.", "own.")[index] for index in left_out]
    kept = [name for name in net.state_dict() if not name.startswith(tuple(gone))]
    assert list(small.state_dict()) == kept
    x = net.stem(IMAGES)
    for index, block in enumerate(net.blocks):
        x = F.relu(x) if index in left_out else block(x)
    x = x if 2 in left_out else x + net.own(x)
    assert torch.equal(small.features(IMAGES), x)
    assert torch.equal(small(IMAGES), net.out(x.mean((2, 3))))
    for each in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small), folded(small, SHAPE)):
        torch.testing.assert_close(each(IMAGES), small(IMAGES))
    assert type(net.blocks[0].one) is nn.Conv2d, "the original has changed"


def test_what_depends_on_training_still_does():
    net = made()
    block = trace(net, SHAPE).blocks[0]
    small = skip_blocks(net, [block], SHAPE).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        outputs = torch.stack([small(IMAGES) for _ in range(20)])
    assert outputs.std(0).min() > 0
    assert torch.equal(small.eval()(IMAGES), small(IMAGES))
    small.train().requires_grad_(True)
    small(IMAGES).sum().backward()
    assert {name for name, p in small.named_parameters() if p.grad is None} == set()


def test_the_branch_may_change_the_number_and_the_size_of_the_channels():
    class Strided(Unit):
        def forward(self, x):
            out = F.interpolate(self.norm(self.one(torch.cat([x, x], 1))), scale_factor=2)
            return x + self.two(torch.cat([self.act(out), self.act(out)], 1))

    net = made(Net, Strided(12, 8, 2))
    net.own.two = nn.Conv2d(16, 6, 1)
    block = trace(net, SHAPE).blocks[-1]
    small = skip_blocks(net, [block], SHAPE)
    assert type(small) is Net
    net.own = nn.Identity()
    assert torch.equal(small.features(IMAGES), net.features(IMAGES) / 2)


def test_a_candidate_is_as_cheap_as_its_costs_say():
    net = made()
    table = trace(net, SHAPE)
    small = skip_blocks(net, table.blocks[:1], SHAPE)
    found = trace(small, SHAPE)
    assert [each.name for each in found.layers] == ["stem", *(n.name for n in table.layers[4:])]
    assert len(found.blocks) == 2
    assert not {"blocks.0.one", "blocks.0.two"} & running_modules(small).keys()
    again = skip_blocks(small, found.blocks, SHAPE)
    assert [each.name for each in trace(again, SHAPE).layers] == ["stem", "mean", "out"]
    deployed = folded(again, SHAPE)
    assert {name for name, _ in deployed.named_parameters()} == {
        *("stem.weight", "stem.bias", "out.weight", "out.bias")
    }
    assert "add" not in deployed.code


class ReadsWeights(Unit):
    """Its branch reads the weights of a layer, and cannot run without it."""

    def forward(self, x):
        return x + self.two(self.one(x)) * self.one.weight.mean()


class Gate(Unit):
    """Its branch is not 0 where its layers write 0."""

    def forward(self, x):
        return x + torch.sigmoid(self.two(self.one(x)))


@pytest.mark.parametrize("kind", [ReadsWeights, Gate])
def test_a_branch_that_needs_its_modules_makes_a_graph(kind):
    net = made()
    net.blocks[0] = made(kind)
    (block,) = [block for block in trace(net, SHAPE).blocks if block.name.startswith("blocks.0")]
    small = skip_blocks(net, [block], SHAPE)
    assert isinstance(small, fx.GraphModule)
    net.blocks[0] = nn.Identity()
    assert torch.equal(small(IMAGES), net(IMAGES))
