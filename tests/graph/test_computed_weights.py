"""Weights that a layer computes from others are cut as plain ones are."""

import copy

import pytest
import torch
from four_classes import four_classes
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.trace import trace

DATA = four_classes("computed-weights")
CHANNELS, SIDE = DATA.train.images.shape[1:3]


def network():
    return nn.Sequential(
        *(nn.Conv2d(CHANNELS, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


COMPUTED = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "weight norm by a hook": weight_norm,
    "spectral norm by a hook": spectral_norm,
    "a pruning mask": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", COMPUTED)
def test_they_are_what_they_are_in_eval_mode(name, frozen):
    net = network()
    for index in (0, 2, 6):
        COMPUTED[name](net[index])
    images = torch.rand(4, CHANNELS, SIDE, SIDE)
    net.requires_grad_(not frozen)
    net(images)  # as after training: hooks leave a result behind
    before = {key: value.clone() for key, value in net.state_dict().items()}
    evaluator = make_evaluator(net, DATA, "least_squares")
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    torch.testing.assert_close(evaluator.network(images), net.eval()(images))
    assert set(evaluator.network.state_dict()) == set(network().state_dict())
    assert [(group.name, group.size) for group in evaluator.table.groups] == [("0", 8), ("2", 8)]
    half = evaluator.candidate(evaluator.table.configuration(evaluator.table.full[None] // 2))
    assert half[0].out_channels == half[2].out_channels == 4


def test_a_layer_that_shares_what_its_neighbor_computes_from_stays_as_it_is():
    net = network()
    net[2].weight = nn.Parameter(net[2].weight.detach())
    shared = nn.Conv2d(8, 8, 3, padding=1)
    shared.weight = net[2].weight
    net.insert(4, shared)
    parametrizations.spectral_norm(net[2])
    images = torch.rand(2, CHANNELS, SIDE, SIDE)
    traced = copy.deepcopy(net).eval()
    trace(traced, images.shape[1:])
    torch.testing.assert_close(traced(images), net.eval()(images))


def test_a_trained_weight_stays_trained_and_a_frozen_one_frozen():
    net = network()
    for index in (0, 2):
        parametrizations.weight_norm(net[index])
    net[2].requires_grad_(False)
    trace(net, (CHANNELS, SIDE, SIDE))
    assert net[0].weight.requires_grad and not net[2].weight.requires_grad
    assert isinstance(net[2].weight, nn.Parameter) and net.training
