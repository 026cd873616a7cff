"""The example that ships: a strategy of the front, and its fine-tuned weights."""

from pathlib import Path

import gymnasium as gym
import pytest
import torch
from conftest import why_no_cifar
from torch import nn

from prune_gym.compression.network_file import load_network
from prune_gym.search_space.strategy import load_strategy

EXAMPLE = Path(__file__).parent.parent / "examples" / "vgg16-cifar10-17percent.json"


def test_the_weights_are_of_the_strategy():
    network, strategy = load_network(EXAMPLE.with_suffix(".safetensors")), load_strategy(EXAMPLE)
    found = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert found == [decision["value"] for decision in strategy.decisions]
    assert sum(p.numel() for p in network.parameters()) == strategy.metrics["params"]
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.skipif(bool(why_no_cifar()), reason=why_no_cifar())
def test_it_is_as_accurate_as_the_readme_says():
    env = gym.make("ChannelPrune-VGG16-CIFAR10-v0").unwrapped
    assert env.problem.validate(load_strategy(EXAMPLE)).reproduced
    network = load_network(EXAMPLE.with_suffix(".safetensors"))
    assert env.problem.evaluator.score(network, env.problem.evaluator.data.test) == pytest.approx(
        0.9217, abs=0.002
    )
