import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ZOO, make
from torch import nn

from prune_gym.network.fold import fold_batch_norm
from prune_gym.network.surgery import cut
from prune_gym.network.trace import trace

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def draw_kept(data, table):
    kept = []
    for group in table.groups:
        channels = st.sets(st.integers(0, group.size - 1), min_size=1, max_size=group.size)
        kept.append(np.array(sorted(data.draw(channels))))
    return kept


def masked(net, table, kept):
    """Return the whole network whose consumers do not read the removed channels."""
    net = copy.deepcopy(net)
    for group, channels in zip(table.groups, kept, strict=True):
        removed = np.setdiff1d(np.arange(group.size), channels)
        for member in group.members:
            if member.dim == "in":
                weight = net.get_submodule(member.module).weight
                weight[:, member.positions[removed].ravel()] = 0.0
    return net


@pytest.mark.parametrize("name", ZOO)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_cut_network_equals_the_masked_one(name, data):
    net = make(name)
    table = trace(net, (3, 8, 8))
    kept = draw_kept(data, table)
    with torch.inference_mode():
        small, whole = cut(net, table, kept)(IMAGES), masked(net, table, kept)(IMAGES)
    torch.testing.assert_close(small, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_the_original_is_neither_changed_nor_shared(name):
    net = make(name)
    before = copy.deepcopy(net.state_dict())
    table = trace(net, (3, 8, 8))
    small = cut(net, table, [np.arange(max(group.size // 2, 1)) for group in table.groups])
    for tensor in [*small.parameters(), *small.buffers()]:
        with torch.no_grad():
            tensor.add_(1)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not net.training


@pytest.mark.parametrize("name", ZOO)
def test_layers_say_what_their_weights_are(name):
    net = make(name)
    table = trace(net, (3, 8, 8))
    small = cut(net, table, [np.arange(max(group.size // 2, 1)) for group in table.groups])
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            expected = (module.out_channels, module.in_channels // module.groups)
            assert module.weight.shape[:2] == expected
        elif isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            assert len(module.weight) == len(module.running_var) == module.num_features


@pytest.mark.parametrize("name", ZOO)
def test_keeping_everything_changes_nothing(name):
    net = make(name)
    table = trace(net, (3, 8, 8))
    same = cut(net, table, [np.arange(group.size) for group in table.groups])
    with torch.inference_mode():
        torch.testing.assert_close(same(IMAGES), net(IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize("name", ZOO)
def test_folding_batch_norm_changes_nothing_beyond_rounding(name):
    net = make(name)
    table = trace(net, (3, 8, 8))
    folded = fold_batch_norm(copy.deepcopy(net), table)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert left == (1 if name == "concat" else 0)  # a concatenation is written by no one layer
    with torch.inference_mode():
        torch.testing.assert_close(folded(IMAGES), net(IMAGES), rtol=1e-4, atol=1e-5)


def test_groups_of_residual_and_depthwise_pairs():
    table = trace(make("residual"), (3, 8, 8))
    assert {(g.name, g.size) for g in table.groups} == {
        ("stem.0", 8),
        ("inner.0", 10),
        ("down.0", 7),
    }
    stream = next(group for group in table.groups if group.name == "stem.0")
    assert {"stem.0", "back.0", "inner.0", "shortcut", "down.0"} <= {
        member.module for member in stream.members
    }
    table = trace(make("depthwise"), (3, 8, 8))
    assert [group.size for group in table.groups] == [8, 6]
    pair = {member.module for member in table.groups[0].members}
    assert {"stem.0", "depthwise.0", "pointwise.0"} <= pair


def test_the_networks_outputs_are_never_cut():
    for name in ZOO:
        net = make(name)
        last = [module for _, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
        table = trace(net, (3, 8, 8))
        for group in table.groups:
            for member in group.members:
                assert net.get_submodule(member.module) is not last or member.dim == "in"


def test_unknown_layers_are_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(256, 4))
    with pytest.raises(ValueError, match="layer '1'.*PixelShuffle.*not understood.*known are"):
        trace(net.eval(), (3, 8, 8))


def test_a_forward_that_depends_on_values_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="Branching cannot be traced"):
        trace(Branching(), (3, 8, 8))
