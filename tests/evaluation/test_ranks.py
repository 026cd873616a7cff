"""Networks that read signals (N, C, L) and volumes (N, C, D, H, W), through the whole package."""

import copy

import numpy as np
import pytest
import torch
from cuts import check_random_cuts, half_of
from playing import constant, play
from ranks import CHANNELS, NETWORKS, SIZES, data_of, network_of
from torch import nn

from prune_gym import compress
from prune_gym.compression.calibration import calibrate
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.network_file import load_network, save_network
from prune_gym.compression.original import Original
from prune_gym.compression.quantize import quantize
from prune_gym.compression.repair import cut_and_repair
from prune_gym.compression.surgery import cut, first_channels
from prune_gym.compression.verify import check_cut
from prune_gym.costs.flops import Flops
from prune_gym.costs.params import Params
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace
from prune_gym.training.recipe import TrainingRecipe
from prune_gym.training.training import train

CASES = [(rank, name) for rank in SIZES for name in NETWORKS]


def traced(rank, name):
    net = network_of(rank, name)
    shape = (CHANNELS, *SIZES[rank])
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0))
    return net, trace(net, shape), images


@pytest.mark.parametrize(("rank", "name"), CASES)
def test_a_cut_network_computes_what_the_original_does_without_those_channels(rank, name):
    net, table, images = traced(rank, name)
    check_random_cuts(net, table, images)
    assert not table.pins or {pin.by for pin in table.pins} == {"output"}


@pytest.mark.parametrize(("rank", "name"), CASES)
def test_costs_are_those_of_the_cut_network(rank, name):
    net, table, images = traced(rank, name)
    configuration, small, multiply_adds = half_of(net, table, images[:1])
    assert Flops(table)(configuration)[0] == multiply_adds
    assert Params(table)(configuration)[0] == sum(each.numel() for each in small.parameters())
    for layer in table.layers:
        if layer.kind in ("conv", "depthwise"):
            assert len(layer.kernel) == len(layer.in_size) == len(layer.out_size) == rank


@pytest.mark.parametrize(("rank", "name"), CASES)
def test_repair_comes_nearer_to_the_original(rank, name):
    net, table, images = traced(rank, name)
    calibration = calibrate(net, table, images)
    kept = [np.sort(order[: max(3 * len(order) // 4, 1)]) for order in calibration.orders]
    original, error = Original(net, table, calibration, images), {}
    for repair in ("none", "merge", "least_squares"):
        small = cut_and_repair(original, kept, repair)
        error[repair] = float((small(images) - net(images)).square().mean())
    assert error["least_squares"] < error["merge"] < error["none"]


@pytest.mark.parametrize(("rank", "name"), CASES)
def test_least_squares_restores_what_removed_channels_carried(rank, name):
    """The first channel copies the second: the sampled places meet the right inputs."""
    net, _, images = traced(rank, name)
    first = net.stem[0] if name == "with branches" else net.first
    first.weight[0], first.bias[0] = first.weight[1], first.bias[1]
    if name == "with branches":  # so does what is added to it
        for key, tensor in net.stem[1].state_dict().items():
            if "num" not in key:
                tensor[0] = tensor[1]
        for module in (net.project, net.project_norm):
            for key, tensor in module.state_dict().items():
                if "num" not in key:
                    tensor[0] = tensor[1]
    table = trace(net, (CHANNELS, *SIZES[rank]))
    kept = [np.arange(1 if g == 0 else 0, group.size) for g, group in enumerate(table.groups)]
    original = Original(net, table, calibrate(net, table, images), images)
    error = {
        repair: float((cut_and_repair(original, kept, repair)(images) - net(images)).norm())
        for repair in ("none", "least_squares")
    }
    assert error["least_squares"] < 0.15 * error["none"]


@pytest.mark.parametrize(("rank", "name"), CASES)
def test_eight_bits_change_little(rank, name):
    net, table, images = traced(rank, name)
    bits = np.full(len(table.weighted), 8)
    folded = fold_batch_norm(copy.deepcopy(net), table)
    torch.testing.assert_close(folded(images), net(images), rtol=1e-4, atol=1e-4)
    small = quantize(folded, table, bits, bits, images)
    assert (small(images) - net(images)).norm() < 0.05 * net(images).norm()


@pytest.mark.parametrize("rank", SIZES)
def test_the_file_of_a_pruned_network_is_read_back(rank, tmp_path):
    net, table, images = traced(rank, "with branches")
    widths = (table.full + 1) // 2
    small = cut(net, table, first_channels(table, widths))
    about = {"name": "own", "num_classes": 4, "input_shape": images.shape[1:]}
    file = tmp_path / "small.safetensors"
    save_network(small, file, configuration=table.configuration(widths[None]), **about)
    again = load_network(file, lambda _: network_of(rank, "with branches"))
    torch.testing.assert_close(again(images), small(images), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("rank", SIZES)
def test_an_episode_is_played_and_reproduced(rank):
    decide = ("block", "channels", "density", "weight_bits", "activation_bits")
    costs = ("accuracy", "flops", "params", "memory", "energy", "size")
    env = compression_env(
        network_of(rank, "with branches"),
        data_of(rank),
        objectives=costs,
        decide=decide,
        round_to=2,
        latency=None,
    )
    observations, _, infos = play(env, constant(0.3))
    assert env.observation_space.contains(observations[0])
    strategy = infos[-1]["strategy"]
    assert env.problem.validate(strategy).reproduced
    shape = (4, CHANNELS, *SIZES[rank])
    assert env.problem.apply(strategy)(torch.zeros(shape)).shape == (4, 4)


@pytest.mark.ci
@pytest.mark.parametrize("rank", SIZES)
def test_a_network_is_trained_compressed_and_trained_on(rank, tmp_path):
    data = data_of(rank)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NETWORKS["with branches"](rank)
    recipe = TrainingRecipe(epochs=6, batch_size=32, learning_rate=0.05)
    train(net, data, recipe, tmp_path / "checkpoint")
    images = np.concatenate([data.train.images, data.search.images])
    labels = np.concatenate([data.train.labels, data.search.labels])
    given = {"mean": data.mean, "std": data.std, "evaluations": 3, "agent": "random"}
    result = compress(net, (images, labels), {"flops": 0.7}, finetune_epochs=1, **given)
    assert result.after["flops"] <= 0.7 * result.before["flops"]
    assert result.before["accuracy"] > 0.8 and result.after["accuracy"] > 0.5


def test_images_of_another_rank_are_refused():
    images, labels = np.zeros((40, 2, 8, 8), np.uint8), np.arange(40) % 4
    with pytest.raises(UserError, match=r"\(N, C, L\).*\(40, 2, 8, 8\)"):
        compress(network_of(1, "with branches"), (images, labels))


def test_padding_that_reaches_the_channels_is_left_alone():
    """A two-dimensional pad works on channels where maps have one dimension."""
    net = nn.Sequential(
        *(nn.Conv1d(2, 8, 3), nn.ConstantPad2d((1, 1, 2, 2), 0.0)),
        *(nn.Conv1d(12, 6, 3), nn.ReLU(), nn.Conv1d(6, 4, 20), nn.Flatten()),
    )
    table = trace(net.eval().requires_grad_(False), (2, 24))
    assert [group.name for group in table.groups] == ["2"]
    check_cut(net, table, torch.randn(2, 2, 24))
