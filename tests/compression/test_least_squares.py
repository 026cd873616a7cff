"""Fitting candidates layer by layer: what changes, what does not, and what it is worth."""

import copy

import numpy as np
import pytest
import torch
from nets import make

from prune_gym.compression.calibration import calibrate
from prune_gym.compression.original import Original
from prune_gym.compression.repair import cut_and_repair
from prune_gym.graph.trace import trace

IMAGES = torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(256, 3, 8, 8, generator=torch.Generator().manual_seed(1))
NETS = ["plain", "flattened", "residual", "depthwise", "grouped", "concat"]


class Task:
    """One network with what repairs need."""

    def __init__(self, name):
        self.net = make(name)
        self.table = trace(self.net, (3, 8, 8))
        self.calibration = calibrate(self.net, self.table, IMAGES)

    def kept(self, ratio):
        orders = self.calibration.orders
        return [np.sort(order[: max(int(ratio * len(order)), 1)]) for order in orders]

    def candidate(self, kept, repair="least_squares"):
        return cut_and_repair(
            Original(self.net, self.table, self.calibration, IMAGES), kept, repair
        )

    def error(self, network):
        """Return the mean square by which logits differ on images that no repair has seen."""
        with torch.inference_mode():
            return float((network(OTHERS) - self.net(OTHERS)).square().mean())


@pytest.mark.parametrize("name", NETS)
def test_fitted_layers_come_nearer_to_the_original(name):
    task = Task(name)
    kept = task.kept(0.75)
    fitted, merged = (task.candidate(kept, each) for each in ("least_squares", "merge+batch_norm"))
    assert task.error(fitted) < task.error(merged)


@pytest.mark.parametrize("name", NETS)
def test_the_network_itself_is_left_alone(name):
    task = Task(name)
    before = copy.deepcopy(task.net.state_dict())
    task.candidate(task.kept(0.5))
    for key, value in task.net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_layers_in_front_of_the_first_cut_stay_bit_for_bit():
    task = Task("plain")
    kept = [np.arange(group.size) for group in task.table.groups]
    kept[-1] = task.kept(0.5)[-1]
    candidate = task.candidate(kept).state_dict()
    last = task.table.groups[-1]
    touched = {member.module for member in last.members}
    front = [key for key in task.net.state_dict() if key.rpartition(".")[0] not in touched]
    assert front
    for key in front:
        assert torch.equal(candidate[key], task.net.state_dict()[key]), key
    # The layer that loses outputs has the original's; the one that reads them is fitted.
    producer, reader = last.name, next(m.module for m in last.members if m.dim == "in")
    original = task.net.get_submodule(producer).weight[kept[-1]]
    assert torch.equal(candidate[f"{producer}.weight"], original)
    cut = task.candidate(kept, "none").state_dict()[f"{reader}.weight"]
    assert not torch.equal(candidate[f"{reader}.weight"], cut)


def test_equal_strategies_give_equal_candidates():
    task = Task("residual")
    first, second = (task.candidate(task.kept(0.5)).state_dict() for _ in range(2))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_a_fitted_candidate_can_be_trained():
    candidate = Task("plain").candidate(Task("plain").kept(0.5)).requires_grad_(True).train()
    candidate(OTHERS).square().mean().backward()
    assert all(parameter.grad is not None for parameter in candidate.parameters())


def test_dead_channels_do_not_break_the_fit():
    task = Task("plain")
    norm = next(m for m in task.net.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(-1.0)
    task.calibration = calibrate(task.net, task.table, IMAGES)
    candidate = task.candidate(task.kept(0.5))
    assert all(torch.isfinite(value).all() for value in candidate.state_dict().values())
