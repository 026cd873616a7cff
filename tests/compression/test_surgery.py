import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import ZOO, Odd, conv, make
from torch import nn
from torch.nn import functional as F

from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.surgery import cut
from prune_gym.compression.verify import largest_error
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def draw_kept(data, table):
    kept = []
    for group in table.groups:
        channels = st.sets(st.integers(0, group.size - 1), min_size=1, max_size=group.size)
        kept.append(np.array(sorted(data.draw(channels))))
    return kept


@pytest.mark.parametrize("name", ZOO)
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_cut_network_equals_the_masked_one(name, data):
    net = make(name)
    table = trace(net, (3, 8, 8))
    kept = draw_kept(data, table)
    error, dtype = largest_error(net, table, kept, IMAGES)
    assert error < 1e-12 and dtype is torch.float64


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
    # A concatenation is written by no one layer; what others read too must stay as it is.
    kept = {"concat": 1, "preactivation": 1, "two norms": 2, "padded unevenly": 1}
    assert left == kept.get(name, 0)
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


def test_channels_opposite_zeros_are_groups_of_their_own():
    net = make("padded shortcut")
    table = trace(net, (3, 8, 8))
    streams = [group for group in table.groups if any(m.dim == "in" for m in group.members)]
    sizes = {g.name: g.size for g in streams if not g.name.endswith("conv1") or g.name == "conv1"}
    assert sizes == {"conv1": 16, "layer2.0.conv2": 16, "layer3.0.conv2": 32}
    kept = [np.arange(group.size) for group in table.groups]
    index = [group.name for group in table.groups].index("layer2.0.conv2")
    kept[index] = np.array([0, 1, 2, 8, 15])  # three of the first eight zeros, two of the last
    small = cut(net, table, kept)
    assert small.layer2[0].pad.padding == (0, 0, 0, 0, 3, 2)
    assert net.layer2[0].pad.padding == (0, 0, 0, 0, 8, 8)
    assert small.layer2[0].conv2.out_channels == 16 + 5


def test_channels_opposite_zeros_that_are_written_in_the_code_stay():
    table = trace(make("padded in code"), (3, 8, 8))
    assert {(group.name, group.size) for group in table.groups} == {("stem.0", 6), ("inner.0", 5)}


def test_zeros_that_nothing_meets_stay():
    table = trace(make("padded unevenly"), (3, 8, 8))
    assert {(group.name, group.size) for group in table.groups} == {
        ("stem.0", 6),
        ("inner.0", 3),
        ("mix", 7),
    }


def test_the_networks_outputs_are_never_cut():
    for name in ZOO:
        net = make(name)
        last = [module for _, module in net.named_modules() if isinstance(module, nn.Linear)][-1]
        table = trace(net, (3, 8, 8))
        for group in table.groups:
            for member in group.members:
                assert net.get_submodule(member.module) is not last or member.dim == "in"


def test_a_gate_belongs_to_the_channels_that_it_multiplies():
    table = trace(make("gated"), (3, 8, 8))
    sizes = {group.name: group.size for group in table.groups}
    assert sizes == {"stem.0": 8, "squeeze": 3, "wide.0": 6, "narrow": 4}
    (wide,) = (group for group in table.groups if group.name == "wide.0")
    assert {(m.module, m.dim) for m in wide.members} >= {("open", "out"), ("narrow", "in")}
    (block,) = table.blocks
    assert block.layers == ("inner", "norm", "pool", "squeeze", "excite")


def test_the_groups_of_a_convolution_are_cut_alike():
    table = trace(make("grouped"), (3, 8, 8))
    groups = {group.name: (group.size, group.channels_each) for group in table.groups}
    assert groups == {"stem.0": (8, 1), "reduce.0": (3, 4), "grouped.0": (2, 4)}
    small = cut(make("grouped"), table, [np.arange(5), np.arange(2), np.arange(1)])
    assert (small.grouped[0].groups, small.grouped[0].in_channels) == (4, 8)
    assert (small.pair.groups, small.pair.in_channels, small.pair.out_channels) == (5, 5, 10)


def test_slopes_of_single_channels_are_cut_and_a_shared_one_stays():
    table = trace(make("learned"), (3, 8, 8))
    small = cut(make("learned"), table, [np.array([1, 2, 5]), np.arange(2), np.arange(4)])
    assert torch.equal(small.slopes.weight, make("learned").slopes.weight[[1, 2, 5]])
    assert (small.slopes.num_parameters, small.slope.num_parameters) == (3, 1)
    assert (small.flat.num_features, small.hidden[1].num_features) == (8, 4)


def test_the_groups_of_a_norm_are_cut_whole():
    table = trace(make("group norms"), (3, 8, 8))
    groups = {group.name: (group.size, group.channels_each) for group in table.groups}
    assert groups == {"stem": (4, 2), "inner": (2, 3)}
    small = cut(make("group norms"), table, [np.array([0, 2, 3]), np.array([1])])
    assert (small.first.num_groups, small.first.num_channels) == (3, 6)
    assert (small.norm.num_groups, small.alone.num_groups) == (1, 6)
    assert torch.equal(small.norm.weight, make("group norms").norm.weight[3:])


def test_the_channels_of_a_softmax_are_never_cut():
    table = trace(make("probabilities"), (3, 8, 8))
    assert {group.name: group.size for group in table.groups} == {"stem.0": 8, "inner.0": 6}
    assert [block.layers for block in table.blocks] == [("inner.0", "inner.1", "back")]


def test_arithmetic_with_numbers_is_understood():
    net = Odd(lambda net, x: (1 - x * 0.5).clamp(min=0) / 6 + (x + x) - 3)
    assert len(trace(net.eval(), (3, 8, 8)).groups) == 2


def test_images_that_the_network_does_not_take_are_refused():
    with pytest.raises(UserError, match="Tiny .*5x8x8"):
        trace(make("plain"), (5, 8, 8))


def test_a_forward_that_depends_on_values_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match="Branching"):
        trace(Branching(), (3, 8, 8))


def test_a_plain_one_of_these_is_understood():
    table = trace(Odd(lambda net, x: F.relu(x)).eval(), (3, 8, 8))
    assert [(group.name, group.size) for group in table.groups] == [("first", 4), ("second", 4)]


def test_an_activation_under_two_names_is_understood():
    relu = nn.ReLU()
    net = Odd(lambda net, x: net.b(net.a(net.a(x))), a=relu, b=relu)
    assert len(trace(net.eval(), (3, 8, 8)).groups) == 2


def test_an_index_of_pixels_is_understood():
    table = trace(Odd(lambda net, x: x[:, :, ::2, 1:3]).eval(), (3, 8, 8))
    assert table.layer("second").in_size == (4, 2) and len(table.groups) == 2


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU6(), nn.LeakyReLU(0.1), nn.ELU(), nn.GELU(), nn.SiLU(), nn.Mish(), nn.Tanh()),
        *(nn.Sigmoid(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(), nn.Dropout(0.5)),
        *(F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, torch.tanh, torch.sigmoid),
        *(F.hardswish, F.hardsigmoid, F.hardtanh, torch.relu, torch.relu_),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_cuts_through_an_activation(activation):
    modules = {"module": activation} if isinstance(activation, nn.Module) else {}
    net = Odd((lambda net, x: net.module(x)) if modules else (lambda net, x: activation(x)))
    for name, module in modules.items():
        setattr(net, name, module)
    net.eval().requires_grad_(False)
    table = trace(net, (3, 8, 8))
    kept = [np.array([0, 2, 3]), np.array([1, 2])]
    error, dtype = largest_error(net, table, kept, IMAGES)
    assert error < 1e-12 and dtype is torch.float64


@pytest.mark.parametrize("hook", ["forward_pre", "forward"])
def test_a_hook_on_a_candidate_is_not_one_of_the_original(hook):
    net = make("plain")
    table, fired = trace(net, (3, 8, 8)), []
    small = cut(net, table, [np.arange(group.size // 2) for group in table.groups])
    for name in ("features.0.0", "features.2.1", "classifier"):
        layer = small.get_submodule(name)
        getattr(layer, f"register_{hook}_hook")(lambda *_, name=name: fired.append(name))
    with torch.inference_mode():
        net(IMAGES)
        assert not fired
        small(IMAGES)
    assert fired == ["features.0.0", "features.2.1", "classifier"]


def test_a_network_in_training_is_left_in_training():
    net = nn.Sequential(conv(3, 4), conv(4, 4), nn.Flatten(), nn.Linear(256, 4)).train()
    net[1].eval()
    before = copy.deepcopy(net.state_dict())
    trace(net, (3, 8, 8))
    assert [module.training for module in net] == [True, False, True, True]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
