"""The user's limits: layers that stay, layers that may change, least shares by name, batch size."""

import json

import gymnasium as gym
import numpy as np
import pytest
from nets import make
from playing import constant, play

from prune_gym.envs.make import compression_env
from prune_gym.envs.replay import environment_of
from prune_gym.errors import UserError
from prune_gym.profiling.measured_latency import MeasuredLatency
from prune_gym.search_space.strategy import strategy_from_dict


@pytest.fixture
def task(tiny_data):
    return {"network": make("residual"), "data": tiny_data, "latency": None, "round_to": 1}


def decided(task, **limits):
    decisions = compression_env(**task, **limits).problem.decisions
    return {(each.kind, each.name): each for each in decisions}


EVERY = ["stem.0", "inner.0", "down.0"]


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({}, EVERY),
        ({"exclude": ["inner"]}, ["stem.0", "down.0"]),
        ({"exclude": ["inner.*"]}, ["stem.0", "down.0"]),
        ({"exclude": ["back.0"]}, ["inner.0", "down.0"]),  # it is cut together with the stem
        ({"exclude": ["out"]}, EVERY),  # its outputs are the classes; its inputs are not its own
        ({"include": ["inner", "s*"]}, ["inner.0"]),  # the stem would need back.0
        ({"include": ["stem", "inner", "back"]}, ["stem.0", "inner.0"]),
        ({"include": ["*"], "exclude": ["stem"]}, ["inner.0", "down.0"]),
    ],
)
def test_which_groups_have_a_decision(task, limits, names):
    assert [name for _, name in decided(task, **limits)] == names


def test_what_is_excluded_stays_whole(task):
    env = compression_env(**task, exclude=["inner"])
    strategy = play(env, constant(-1.0))[2][-1]["strategy"]
    small = env.problem.apply(strategy)
    assert small.get_submodule("inner.0").out_channels == 10
    assert small.get_submodule("stem.0").out_channels == 1
    assert env.problem.validate(strategy).reproduced


@pytest.mark.parametrize("kind", ["density", "weight_bits", "activation_bits", "variational"])
def test_layers_of_their_own(task, kind):
    every = {name for _, name in decided(task, decide=[kind])}
    assert every - {name for _, name in decided(task, decide=[kind], exclude=["out", "i*"])} == {
        "out",
        "inner.0",
    }


def test_one_density_of_the_layers_that_may_change(task):
    env = compression_env(**task, decide=["global_density"], exclude=["stem"])
    density = env.problem.space.configure(env.problem.space.lower[None]).density[0]
    assert density.tolist() == [1.0] + [0.1] * (len(density) - 1)


def test_blocks(task):
    kinds = {"decide": ["block", "channels"]}
    assert ("block", "inner.0") in decided(task, **kinds)
    assert ("block", "inner.0") not in decided(task, **kinds, exclude=["back"])
    assert ("block", "inner.0") in decided(task, **kinds, include=["inner", "back"])


@pytest.mark.parametrize(
    ("min_keep", "least"),
    [
        (0.5, [4, 5, 4]),
        ({"inner": 0.5}, [1, 5, 1]),
        ({"*": 0.5}, [4, 5, 4]),
        ({"*": 0.5, "inner": 0.2}, [4, 2, 4]),  # the last pattern that matches
        ({"back": 1}, [8, 2, 1]),  # with the stem
    ],
)
def test_least_shares_by_name(task, min_keep, least):
    decisions = compression_env(**task, min_keep=min_keep).problem.decisions
    assert [each.options[0] for each in decisions] == least


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"exclude": ["iner.*"]}, r"exclude: 'iner\.\*'.*inner\.0"),
        ({"include": ["stem", "layer1"]}, "include: 'layer1'"),
        ({"min_keep": {"bakc": 0.5}}, r"min_keep: 'bakc'.*back\.0"),
        ({"exclude": "stem"}, r"exclude: .*\['stem'\]"),
        ({"min_keep": {"stem": 2}}, "min_keep: .*got 2"),
        ({"exclude": ["*"]}, "exclude and include .*Residual"),
        ({"library": "x", "exclude": ["stem"]}, "exclude and include out"),
        ({"batch_size": 0}, "batch_size: .*got 0"),
    ],
)
def test_mistakes_are_named(task, limits, message):
    with pytest.raises(UserError, match=message):
        compression_env(**task, **limits)


def test_a_strategy_replays_them():
    limits = {"exclude": ["features.0"], "min_keep": {"features.1*": 0.5}, "batch_size": 4}
    env = gym.make("ChannelPrune-VGG16-v0", latency=None, **limits).unwrapped
    plain = json.loads(json.dumps(play(env, constant(-1.0))[2][-1]["strategy"]))
    assert limits.items() <= plain["env_kwargs"].items()
    assert all(not each["name"].startswith("features.0.") for each in plain["decisions"])
    again = environment_of(strategy_from_dict(plain))
    assert again.problem.validate(plain).reproduced


def test_memory_holds_the_activations_of_a_batch(task):
    one, four = (compression_env(**task, batch_size=n).problem for n in (1, 4))
    memory = one.costs["memory"]
    weights = memory.weights(one.original_configuration)[0]
    activations = memory.activations(one.original_configuration)[0]
    assert four.original["memory_bytes"] == weights + 4 * activations
    assert four.original["flops"] == one.original["flops"]


def test_latency_is_of_the_batch(task):
    with pytest.raises(UserError, match="got 4.*--batch 4"):
        gym.make("ChannelPrune-VGG16-v0", batch_size=4)
    problem = compression_env(**task | {"latency": "measured"}, batch_size=64).problem
    assert isinstance(problem.costs["latency"], MeasuredLatency)
    one = compression_env(**task | {"latency": "measured"}).problem
    times = [p.costs["latency"](p.original_configuration) for p in (one, problem)]
    assert np.less(*times)
