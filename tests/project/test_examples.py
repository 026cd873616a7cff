"""The examples: each program runs, and the strategy that ships has the weights that ship."""

import importlib.util

import gymnasium as gym
import pytest
import torch
from places import ROOT
from real_data import why_no_cifar
from torch import nn

from prune_gym import cli
from prune_gym.compression.network_file import load_network
from prune_gym.experiments.results import read_results
from prune_gym.search_space.strategy import load_strategy

EXAMPLES = ROOT / "examples"
EXAMPLE = EXAMPLES / "vgg16-cifar10-17percent.json"


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("sb3_sac", ["--episodes", "5"], "after"),
        ("single_file_ppo", ["--updates", "10"], "80 episodes: return 0."),
        ("own_latency_table", [], "ms after"),
        ("morl_capql", ["--episodes", "32"], "multiply-adds"),
        pytest.param("torchrl_ppo", ["--updates", "2"], "64 episodes", marks=pytest.mark.ci),
    ],
)
def test_program_runs(name, options, says, tmp_path, monkeypatch, capsys):
    if library := {"morl_capql": "morl_baselines", "torchrl_ppo": "torchrl"}.get(name):
        pytest.importorskip(library)  # they are heavy and stay optional
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.main(options)
    assert says in capsys.readouterr().out


def test_own_agent_searches_from_small_to_large(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    options = ["--env", "ChannelPrune-Table-v0", "--agent", "own_agent:search", "--episodes", "8"]
    run = tmp_path / "run"
    assert cli.main(["train", *options, "--budget", "memory=0.5", "--run", str(run)]) == 0
    found = read_results(run)
    flops = [record.metrics["flops"] / found.original["flops"] for record in found.records]
    assert len(flops) == 8 and min(flops) < 0.25 and max(flops) > 0.5


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
