"""What the caller sets in PyTorch, and unusual layers, must not change or spoil a search."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from playing import constant, play
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from prune_gym.compression.calibration import calibrate
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.original import Original
from prune_gym.compression.quantize import quantize
from prune_gym.compression.repair import cut_and_repair
from prune_gym.costs.flops import Flops
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@contextlib.contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


CONTEXTS = {
    "float64 by default": double_by_default,
    "autocast": autocast,
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
}
DECIDE = {
    "channels": ("channels",),
    "channels and bits": ("channels", "weight_bits", "activation_bits"),
    "weights by information": ("channels", "variational"),
}


@pytest.fixture(scope="module")
def expected():
    """The episodes without a context, by what they decide."""
    return {}


def episode(task, decide, inside, monkeypatch, folder):
    """Return what one episode gives whose environment is made and played inside a context."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    make, step = inside
    with make():
        env = compression_env(**task, decide=DECIDE[decide])
    with step():
        observations, rewards, infos = play(env, constant(0.2))
    assert env.problem.evaluator.network.classifier.weight.dtype is torch.float32
    return observations.tolist(), rewards.tolist(), infos[-1]


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("decide", DECIDE)
@pytest.mark.parametrize("where", ["made inside", "played inside"])
def test_results_do_not_depend_on_the_callers_contexts(
    name, decide, where, tiny_task, expected, monkeypatch, tmp_path
):
    context, nothing = CONTEXTS[name], contextlib.nullcontext
    inside = (context, nothing) if where == "made inside" else (nothing, context)
    if decide not in expected:
        plain = (nothing, nothing)
        expected[decide] = episode(tiny_task, decide, plain, monkeypatch, tmp_path / "plain")
    found = episode(tiny_task, decide, inside, monkeypatch, tmp_path / "context")
    assert found == expected[decide]


PARAMETERS = ("features.2.0.weight", "features.0.1.running_var", "classifier.bias")


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_network_with_a_value_that_is_not_finite_is_refused(name, value, tiny_task):
    net = copy.deepcopy(tiny_task["network"])
    net.state_dict()[name].view(-1)[0] = value
    with pytest.raises(UserError, match=f"Tiny: '{name}'"):
        compression_env(**tiny_task | {"network": net})


def test_a_network_that_computes_nan_from_finite_weights_is_refused(tiny_task):
    net = copy.deepcopy(tiny_task["network"])
    net.features[0][1].running_var[3] = -1.0
    with pytest.raises(UserError, match=r"'features\.2\.0'"):
        compression_env(**tiny_task | {"network": net})


def test_data_whose_normalization_is_not_finite_are_refused(tiny_task):
    data = copy.copy(tiny_task["data"])
    object.__setattr__(data, "mean", (float("nan"), 0.5, 0.5))
    with pytest.raises(UserError, match="mean"):
        compression_env(**tiny_task | {"data": data})


CONVOLUTIONS = {
    "same": {"kernel_size": 3, "padding": "same"},
    "same, even": {"kernel_size": 4, "padding": "same"},
    "same, dilated": {"kernel_size": 3, "padding": "same", "dilation": 2},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "even": {"kernel_size": 2, "padding": 1},
    "even, strided, uneven": {"kernel_size": (2, 4), "stride": (2, 1), "padding": (1, 0)},
    "dilated with a stride": {"kernel_size": 3, "padding": 2, "dilation": 2, "stride": 2},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "around, even": {"kernel_size": 4, "padding": "same", "padding_mode": "circular"},
    "depthwise, same": {"kernel_size": 4, "padding": "same", "groups": 10},
    "grouped, dilated": {"kernel_size": 3, "padding": "same", "groups": 2, "dilation": 2},
}


def network_with(arguments):
    """Return a network whose second convolution has these arguments."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 10, 3, padding=1),
            nn.Conv2d(10, 10, **arguments),
            nn.BatchNorm2d(10),
            nn.ReLU(),
            nn.Conv2d(10, 6, 2),
            nn.Flatten(),
            nn.LazyLinear(4),
        ).eval()
        net(IMAGES)
    return net.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("repair", ["merge", "least_squares"])
def test_repair_works_for_every_convolution(name, repair):
    net = network_with(CONVOLUTIONS[name])
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.sort(order[: max(3 * len(order) // 4, 1)]) for order in calibration.orders]
    error = {}
    for each in ("none", repair):
        candidate = cut_and_repair(Original(net, table, calibration, IMAGES), kept, each)
        error[each] = float((candidate(IMAGES) - net(IMAGES)).square().mean())
    assert error[repair] < error["none"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_eight_bits_change_little_in_every_convolution(name):
    net = network_with(CONVOLUTIONS[name])
    table = trace(net, (3, 8, 8))
    expected, bits = net(IMAGES), np.full(len(table.weighted), 8)
    small = quantize(fold_batch_norm(copy.deepcopy(net), table), table, bits, bits, IMAGES)
    assert (small(IMAGES) - expected).norm() < 0.05 * expected.norm()
    flops = FlopCounterMode(display=False)
    with flops:
        net(IMAGES[:1])
    multiply_adds = Flops(table)(table.configuration())[0]
    assert multiply_adds == flops.get_total_flops() / 2


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", [n for n in CONVOLUTIONS if "groups" not in CONVOLUTIONS[n]])
def test_least_squares_restores_what_removed_channels_carried(name):
    """The first channel copies the second: the sampled pixels meet the right inputs."""
    net = network_with(CONVOLUTIONS[name])
    net[0].weight[0], net[0].bias[0] = net[0].weight[1], net[0].bias[1]
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.arange(1 if g == 0 else 0, group.size) for g, group in enumerate(table.groups)]
    found = {}
    for repair in ("none", "least_squares"):
        candidate = cut_and_repair(Original(net, table, calibration, IMAGES), kept, repair)
        found[repair] = float((candidate(IMAGES) - net(IMAGES)).norm() / net(IMAGES).norm())
    assert found["least_squares"] < 0.1 * found["none"]
