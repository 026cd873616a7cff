"""Prune first, then quantize what is left: the second search starts from the first's network."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from playing import constant, play

from prune_gym.cli import main
from prune_gym.compression.network_file import load_network
from prune_gym.datasets.normalize import normalize
from prune_gym.search_space.strategy import strategy_from_dict


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The first stage: its last info and the file of its network."""
    folder = tmp_path_factory.mktemp("stages")
    env = gym.make("JointPrune-ResNet20-v0", granularity=1, repair="none")
    info = play(env, constant(0.8))[2][-1]
    strategy_from_dict(info["strategy"]).save(folder / "first.json")
    assert (
        main(["apply", str(folder / "first.json"), "--out", str(folder / "pruned.safetensors")])
        == 0
    )
    return info, folder / "pruned.safetensors"


def second(first):
    return gym.make("Quantize-ResNet20-v0", network=str(first[1]), repair="none").unwrapped


def test_the_second_stage_counts_what_the_first_left(first):
    info, _ = first
    original = second(first).problem.original
    assert original["params"] == info["params"] and original["flops"] == info["flops"]
    assert original["accuracy"] == pytest.approx(info["accuracy"], abs=0.002)


@pytest.mark.ci
def test_what_quantizing_gained_is_counted_from_what_the_first_left(first, tmp_path):
    pytest.importorskip("onnxruntime", reason="prune-gym[onnx] is not installed")
    from prune_gym.deployment.before_after import measure

    strategy = play(second(first), constant(1.0))[2][-1]["strategy"]
    strategy_from_dict(strategy).save(tmp_path / "second.json")
    values = measure(tmp_path / "second.json", None, None, 1, 1).values
    for name in ("flops", "params"):
        assert values[name] == (first[0][name], first[0][name])


def test_few_bits_make_it_smaller_still(first):
    env = second(first)
    info = play(env, constant(1.0))[2][-1]  # 8 bits everywhere
    assert info["size_bytes"] < 0.45 * env.problem.original["size_bytes"]
    assert info["energy_mj"] < env.problem.original["energy_mj"]
    assert abs(info["accuracy"] - env.problem.original["accuracy"]) < 0.03
    strategy = json.loads(json.dumps(info["strategy"]))
    assert env.problem.validate(strategy).reproduced


def test_the_quantized_network_is_saved_and_loaded(first, tmp_path):
    env = second(first)
    strategy = play(env, constant(0.9))[2][-1]["strategy"]
    strategy_from_dict(strategy).save(tmp_path / "second.json")
    out = tmp_path / "quantized.safetensors"
    assert main(["apply", str(tmp_path / "second.json"), "--out", str(out)]) == 0
    images = normalize(env.problem.evaluator.data.test.images[:20], env.problem.evaluator.data)
    with torch.inference_mode():
        expected = env.problem.apply(strategy)(images)
        np.testing.assert_allclose(load_network(out)(images), expected, atol=1e-4)
