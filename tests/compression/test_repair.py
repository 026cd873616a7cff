import copy

import numpy as np
import pytest
import torch
from nets import ZOO, NormOfMaps, Odd, make
from real_data import public_file
from torch import nn

from prune_gym import models
from prune_gym._utils.device import fast_forward
from prune_gym.compression.calibration import calibrate
from prune_gym.compression.original import Original
from prune_gym.compression.repair import REPAIRS, cut_and_repair
from prune_gym.datasets import Data, Split
from prune_gym.datasets.normalize import normalize
from prune_gym.evaluation.evaluator import Evaluator, accuracy
from prune_gym.evaluation.task import calibration_images, make_evaluator
from prune_gym.graph.trace import trace
from prune_gym.models.resnet import resnet56
from prune_gym.models.weights_file import load_weights

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_merge_is_exact_where_removed_channels_are_mixes_of_kept_ones():
    """Channels 4 to 7 of a linear layer are sums of the first four, before and after."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 3, padding=1), nn.Flatten())
    net.append(nn.Linear(5 * 64, 4)).eval().requires_grad_(False)
    mix = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, -1], [0.5, 0, 0, 2], [0, 1, 0, 1]])
    net[0].weight[4:] = torch.tensordot(mix, net[0].weight[:4], dims=1)
    net[0].bias[4:] = mix @ net[0].bias[:4]
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.arange(4), np.arange(5)]
    cut = cut_and_repair(Original(net, table, calibration, IMAGES), kept, "none")
    merged = cut_and_repair(Original(net, table, calibration, IMAGES), kept, "merge")
    error = [float((each(IMAGES) - net(IMAGES)).square().mean().sqrt()) for each in (cut, merged)]
    assert error[1] < 0.03 * error[0]  # the ridge leaves a little
    assert merged[0].out_channels == 4


def test_a_layer_norm_whose_forward_names_its_width_is_repaired():
    torch.manual_seed(0)
    net = Odd(lambda n, x: n.norm(x), norm=NormOfMaps(4)).eval().requires_grad_(False)
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.array([0, 2]), np.arange(4)]
    cut, fitted = (
        cut_and_repair(Original(net, table, calibration, IMAGES), kept, repair)
        for repair in ("none", "least_squares")
    )
    error = [float((each(IMAGES) - net(IMAGES)).square().mean().sqrt()) for each in (cut, fitted)]
    assert error[1] < 0.8 * error[0]


def test_merge_is_exact_within_the_groups_of_a_convolution():
    """In both groups the last two of four channels are mixes of the first two, others in each."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 3, groups=2), nn.Flatten())
    net.append(nn.Linear(216, 4)).eval().requires_grad_(False)
    for first, mix in ((0, [[1.0, 2], [0, -1]]), (4, [[0.5, 0], [1, 1]])):
        kept = slice(first, first + 2)
        net[0].weight[first + 2 : first + 4] = torch.tensordot(
            torch.tensor(mix), net[0].weight[kept], dims=1
        )
        net[0].bias[first + 2 : first + 4] = torch.tensor(mix) @ net[0].bias[kept]
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    assert [group.size for group in table.groups] == [4, 3]
    assert calibration.errors[0][2] < 1e-4 < calibration.errors[0][1]
    kept = [np.arange(2), np.arange(3)]
    cut = cut_and_repair(Original(net, table, calibration, IMAGES), kept, "none")
    merged = cut_and_repair(Original(net, table, calibration, IMAGES), kept, "merge")
    error = [float((each(IMAGES) - net(IMAGES)).square().mean().sqrt()) for each in (cut, merged)]
    assert error[1] < 0.03 * error[0]
    assert (merged[1].groups, merged[1].in_channels, merged[1].out_channels) == (2, 4, 6)


def test_four_of_eight_dependent_channels_lose_nothing():
    """The greedy order finds a basis, and the curve says that it suffices."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 5, 3), nn.Flatten(), nn.Linear(180, 4))
    net.eval().requires_grad_(False)
    basis = net[0].weight[:2].clone(), net[0].bias[:2].clone()
    for channel in range(8):
        a, b = np.cos(channel), np.sin(channel)
        net[0].weight[channel] = a * basis[0][0] + b * basis[0][1]
        net[0].bias[channel] = a * basis[1][0] + b * basis[1][1]
    errors = calibrate(net, trace(net, (3, 8, 8)), IMAGES).errors[0]
    assert errors[0] == 1 and errors[1] > 1e-3 and errors[2] < 1e-4 and errors[-1] == 0


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("repair", REPAIRS)
def test_keeping_everything_needs_no_repair(name, repair):
    """Weights and statistics are the original's, to the last rounding but one."""
    net = make(name)
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.arange(group.size) for group in table.groups]
    same = cut_and_repair(Original(net, table, calibration, IMAGES), kept, repair)
    assert same.state_dict().keys() == net.state_dict().keys()
    for key, value in net.state_dict().items():
        if "num_batches" not in key:
            torch.testing.assert_close(same.state_dict()[key], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("repair", ["merge", "least_squares"])
def test_repair_comes_nearer_to_the_original(name, repair):
    net = make(name)
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.sort(o[: max(3 * len(o) // 4, 1)]) for o in calibration.orders]
    error = {}
    for each in ("none", repair):
        candidate = cut_and_repair(Original(net, table, calibration, IMAGES), kept, each)
        with torch.inference_mode():
            error[each] = float((candidate(IMAGES) - net(IMAGES)).square().mean())
    assert error[repair] < error["none"]


def test_batch_norm_statistics_follow_the_cut():
    """They differ from the images' as much as the original's differ from what it does there."""
    net = make("plain")
    table = trace(net, (3, 8, 8))
    calibration = calibrate(net, table, IMAGES)
    kept = [np.arange(group.size // 2) for group in table.groups]
    candidate = cut_and_repair(Original(net, table, calibration, IMAGES), kept, "batch_norm")

    def second(network):
        seen, normalized_by_batch = [], copy.deepcopy(network)
        for module in normalized_by_batch.modules():
            module.train(isinstance(module, nn.BatchNorm2d))
        norm = normalized_by_batch.features[2][1]
        norm.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        with torch.inference_mode(), fast_forward():
            normalized_by_batch(IMAGES)
        seen = seen[0].float()
        mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3))
        original = network.features[2][1]
        return original.running_mean - mean, original.running_var / variance, mean

    (bias, ratio, mean), (here_bias, here_ratio, here_mean) = second(candidate), second(net)
    half = len(bias)
    torch.testing.assert_close(bias, here_bias[:half], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ratio, here_ratio[:half], rtol=1e-3, atol=1e-4)
    assert (mean - here_mean[:half]).abs().max() > 0.01  # the cut has changed something
    assert not candidate.training


@pytest.mark.ci
def test_repair_on_the_digits(env):
    """Halving every layer: merge and batch-norm beat each by itself, and that beats nothing."""
    core = env.unwrapped
    evaluator, data = core.problem.evaluator, core.problem.evaluator.data
    widths = np.array([decision.original // 4 for decision in core.problem.decisions])
    few = Split(data.search.images[:1000].copy(), data.search.labels[:1000].copy())
    found = {}
    for repair in REPAIRS:
        other = make_evaluator(evaluator.network, data, repair)
        found[repair] = other.score(other.candidate(other.table.configuration(widths[None])), few)
    assert found["merge+batch_norm"] > found["none"] + 0.3
    assert found["merge+batch_norm"] >= max(found["merge"], found["batch_norm"]) - 0.01
    assert found["least_squares"] >= max(found.values()) - 0.01


def of_cifar(cifar, mean, std):
    test = Split(cifar.test.images[:1000].copy(), cifar.test.labels[:1000].copy())
    return Data("cifar10", 10, cifar.train, cifar.search, test, mean, std, flip=True)


def halved(net, data, widths):
    """Return the top-1 of the repaired candidate on 1,000 test images, in float32."""
    table = trace(net, (3, 32, 32))
    pixels = calibration_images(data)
    calibration = calibrate(net, table, normalize(pixels, data))
    evaluator = Evaluator(net, table, data, calibration, pixels, "least_squares")
    return accuracy(evaluator.candidate(table.configuration(widths(table)[None])), data, data.test)


def test_resnet56_at_half_width_of_inner_channels(cifar):
    path = public_file("resnet56-4bfd9763.th")
    state = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    net = resnet56()
    net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    net.eval().requires_grad_(False)
    data = of_cifar(cifar, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def inner(table):
        streams = {m.module for g in table.groups for m in g.members if m.module.endswith("conv2")}
        out = {
            g.name: [m.module for m in g.members if m.dim == "out" and "conv" in m.module]
            for g in table.groups
        }
        assert streams and sum(len(convs) == 1 for convs in out.values()) >= 27
        return np.array([g.size // 2 if len(out[g.name]) == 1 else g.size for g in table.groups])

    assert accuracy(net, data, data.test) > 0.92
    assert halved(net, data, inner) >= 0.88


def test_vgg16_at_half_width(cifar):
    path = public_file("vgg16_bn-cifar10.safetensors")
    net = models.build("vgg16", 10)
    load_weights(net, path)
    net.eval().requires_grad_(False)
    data = of_cifar(cifar, cifar.mean, cifar.std)
    assert halved(net, data, lambda table: table.full // 2) >= 0.84


def test_bfloat16_is_within_three_tenths_of_a_point(cifar):
    path = public_file("vgg16_bn-cifar10.safetensors")
    net = models.build("vgg16", 10)
    load_weights(net, path)
    evaluator = make_evaluator(net, cifar, "least_squares")
    table = evaluator.table
    candidate = evaluator.candidate(table.configuration(table.full[None] // 4))
    if evaluator.fast(candidate).classifier.weight.dtype is not torch.bfloat16:
        pytest.skip("this processor has no fast bfloat16, so float32 is used")
    assert len(cifar.search) == 5000
    exact = accuracy(candidate, cifar, cifar.search)
    assert abs(evaluator.score(candidate, cifar.search) - exact) <= 0.003
