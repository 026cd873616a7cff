"""Every kind of decision, alone and together, through the environment."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import make
from playing import constant, play
from torch import nn

from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.compression.repair import REPAIRS
from prune_gym.compression.unstructured import sparsify
from prune_gym.envs.make import compression_env
from prune_gym.envs.observation import FEATURES
from prune_gym.errors import UserError
from prune_gym.search_space import KINDS

INFORMED = ("channels", "variational")
ALL = ("block", "channels", "density", "weight_bits", "activation_bits")
COMBINATIONS = [
    *((kind,) for kind in KINDS),  # alone
    ("channels", "density"),
    INFORMED,
    ("block", "channels"),
    ("global_density", "weight_bits"),
    ("weight_bits", "activation_bits"),
    ALL,
]
OBJECTIVES = ("accuracy", "flops", "memory", "energy", "size")


@pytest.fixture(scope="session")
def task(tiny_data):
    return {
        "network": make("residual"),
        "data": tiny_data,
        "latency": None,
        "objectives": OBJECTIVES,
        "round_to": 1,
        "bits": (1, 2, 4, 8, 32),
    }


@pytest.fixture(scope="session")
def whole(task):
    return compression_env(**task, decide=ALL)


@pytest.mark.parametrize("decide", COMBINATIONS, ids="+".join)
def test_an_episode_of_every_kind(task, decide):
    env = compression_env(**task, decide=decide)
    assert {decision.kind for decision in env.problem.decisions} == set(decide)
    original = env.problem.original
    for action in (None, constant(1.0), constant(-1.0)):
        observations, rewards, infos = play(env, action)
        assert observations.shape[1] == len(FEATURES)
        assert all(observation in env.observation_space for observation in observations)
        info = infos[-1]
        saved = [1 - info[o.metric] / original[o.metric] for o in env.objectives[1:]]
        np.testing.assert_allclose(rewards[:, 1:].sum(0), saved, atol=1e-6)
        plain = json.loads(json.dumps(info["strategy"]))
        assert env.problem.validate(plain).reproduced
        assert env.problem.apply(plain)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("decide", COMBINATIONS, ids="+".join)
def test_the_largest_action_keeps_the_network(task, decide):
    env = compression_env(**task, decide=decide)
    info = play(env, constant(1.0))[2][-1]
    for name, value in env.problem.original.items():
        assert info[name] == pytest.approx(value)


@pytest.mark.parametrize("decide", COMBINATIONS, ids="+".join)
def test_the_smallest_action_saves_most_of_every_cost(task, decide):
    env = compression_env(**task, decide=decide)
    least = play(env, constant(-1.0))[2][-1]
    for seed in range(3):
        info = play(env, seed=seed)[2][-1]
        for cost in env.problem.costs.values():
            # A quantized input takes a scale more on the disk than a float one.
            scales = 4 * len(env.problem.decisions) * (cost.name == "size")
            assert least[cost.metric] <= info[cost.metric] * (1 + 1e-12) + scales


@given(
    limits=st.dictionaries(
        st.sampled_from(["flops", "params", "memory", "energy", "size"]),
        st.floats(0.2, 1.0),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_budgets_are_never_exceeded(task, limits, seed):
    try:
        env = compression_env(**task, decide=ALL, budgets=limits)
    except ValueError as error:
        assert "no strategy meets the budgets" in str(error)
        return
    original, info = env.problem.original, play(env, seed=seed)[2][-1]
    for name, limit in limits.items():
        metric = env.problem.costs[name].metric
        assert info[metric] <= limit * original[metric] * (1 + 1e-12)


def test_a_skipped_block_spends_no_further_decisions(whole):
    names = [(decision.kind, decision.name) for decision in whole.problem.decisions]
    inside = [d for d in whole.problem.decisions if d.parent_block == 0]
    assert names[2][0] != "block" or inside
    block = next(i for i, (kind, _) in enumerate(names) if kind == "block")

    def skip(step):
        return np.array([-1.0 if step == block else 1.0], dtype=np.float32)

    _, _, infos = play(whole, skip)
    made = [(d["kind"], d["name"]) for d in infos[-1]["strategy"]["decisions"]]
    assert made == [
        name for name, d in zip(names, whole.problem.decisions, strict=True) if d.parent_block != 0
    ]
    assert len(infos) == len(names) - len(inside) and inside


@pytest.mark.parametrize(
    ("round_to", "reduced", "grouped"),
    [(4, [1, 2, 3], [1, 2]), (8, [2, 3], [2]), (1, [1, 2, 3], [1, 2])],
)
def test_a_multiple_of_all_the_channels_that_are_cut_alike(task, round_to, reduced, grouped):
    """A channel of either stands for four, one in each group of the convolution."""
    env = compression_env(**{**task, "network": make("grouped"), "round_to": round_to})
    options = {decision.name: decision.options.tolist() for decision in env.problem.decisions}
    assert (options["reduce.0"], options["grouped.0"]) == (reduced, grouped)


@pytest.fixture(scope="module")
def nested(task):
    return compression_env(**{**task, "network": make("nested")}, decide=ALL)


def test_blocks_of_one_module_and_in_one_another(nested):
    blocks = [d for d in nested.problem.decisions if d.kind == "block"]
    assert len({block.name for block in blocks}) == len(blocks) == 3
    whole = blocks[0]  # is decided before those in it
    assert [block.parent_block for block in blocks] == [-1, *whole.columns, *whole.columns]

    def skip(name):
        return lambda step: np.float32([-1 if nested.problem.decisions[step].name == name else 1])

    _, _, infos = play(nested, skip(whole.name))
    made = {d["name"] for d in infos[-1]["strategy"]["decisions"]}
    assert "stem.0" in made and whole.name in made
    assert not any(name.startswith(("inner", "back")) and name != whole.name for name in made)
    assert nested.problem.apply(infos[-1]["strategy"])(torch.zeros(1, 3, 8, 8)).shape == (1, 4)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_strategies_of_nested_blocks_are_applied_and_settled(nested, seed):
    info = play(nested, seed=seed)[2][-1]
    assert nested.problem.validate(info["strategy"]).reproduced
    values = nested.problem.values_of(info["strategy"])
    np.testing.assert_array_equal(nested.problem.space.canonicalise(values[None])[0], values)


def test_a_skipped_block_is_gone_from_the_network(whole, task):
    env = compression_env(**task, decide=("block",))
    info = play(env, constant(-1.0))[2][-1]
    candidate = env.problem.apply(info["strategy"])
    net = copy.deepcopy(task["network"]).eval()
    lost = sum(p.numel() for name in ("inner", "back") for p in getattr(net, name).parameters())
    count = sum(p.numel() for p in candidate.parameters())
    assert count == sum(p.numel() for p in net.parameters()) - lost == info["params"]


@pytest.mark.parametrize("repair", REPAIRS)
def test_a_network_without_a_block_is_an_original_like_any_other(task, repair):
    whole = compression_env(**task, decide=("block",))
    small = whole.problem.apply(play(whole, constant(-1.0))[2][-1]["strategy"])
    env = compression_env(**task | {"network": small}, repair=repair)
    images = env.problem.evaluator.images
    everything = env.problem.apply(play(env, constant(1.0))[2][-1]["strategy"])
    with torch.inference_mode():
        np.testing.assert_allclose(everything(images), small(images), atol=1e-4)
    assert play(env, constant(-0.3))[2][-1]["params"] < env.problem.original["params"]


def test_densities_are_those_of_the_network(task):
    env = compression_env(**task, decide=("channels", "density"), repair="none")
    for seed in range(3):
        info = play(env, seed=seed)[2][-1]
        candidate = env.problem.apply(info["strategy"])
        weights = [m.weight for m in candidate.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        zeros = sum(int((weight == 0).sum()) for weight in weights)
        assert sum(p.numel() for p in candidate.parameters()) - zeros == info["params"]


def test_bits_are_those_of_the_network(task):
    env = compression_env(**task, decide=("weight_bits", "activation_bits"))
    info = play(env, seed=3)[2][-1]
    layers = {
        name: module
        for name, module in env.problem.apply(info["strategy"]).named_modules()
        if isinstance(module, QuantizedLayer)
    }
    for decision in info["strategy"]["decisions"]:
        bits = getattr(layers[decision["name"]], decision["kind"])
        assert bits == decision["value"]
    for layer in layers.values():
        if layer.weight_bits < 32:
            assert len(layer.weight[0].unique()) <= 2**layer.weight_bits


def test_granularity_counts_single_weights(task):
    """The branch's 8 output channels share masks by fours, or each weight goes alone."""
    for granularity, shared in ((4, True), (1, False)):
        env = compression_env(**task, decide=("density",), granularity=granularity)
        info = play(env, constant(-0.5))[2][-1]
        kept = env.problem.apply(info["strategy"]).get_submodule("back.0").weight != 0
        masks = kept.view(-1, 4, *kept.shape[1:])
        assert bool((masks == masks[:, :1]).all()) is shared
        assert info["params"] < env.problem.original["params"]


def sparse(task, block_size, chance=0):
    """Return the task about a network at density 0.3, with ``chance`` more zeros in a layer."""
    table = compression_env(**task).problem.evaluator.table
    table = dataclasses.replace(table, block_size=block_size)
    network = sparsify(make("residual"), table, np.full(len(table.weighted), 0.3))
    weight = network.get_submodule("back.0").weight
    for place in weight.nonzero()[:chance]:
        weight[tuple(place)] = 0
    return task | {"network": network, "repair": "none"}


@pytest.mark.parametrize("block_size", [1, 4])
def test_what_is_zero_already_saves_nothing(task, block_size):
    before = compression_env(**task, decide=("density",)).problem.original["params"]
    env = compression_env(**sparse(task, block_size), decide=("density",))
    network = env.problem.evaluator.network
    zeros = sum(int((m.weight == 0).sum()) for m in network.modules() if hasattr(m, "weight"))
    assert env.problem.original["params"] == before - zeros < before
    for density, saves in ((1.0, False), (0.5, False), (0.3, False), (0.2, True)):
        action = 2 * (density - 0.1) / 0.9 - 1
        info = play(env, constant(action))[2][-1]
        assert (info["params"] < env.problem.original["params"]) is saves
        left = [
            m.weight for m in env.problem.apply(info["strategy"]).modules() if hasattr(m, "weight")
        ]
        assert info["params"] == before - sum(int((weight == 0).sum()) for weight in left)


def test_a_zero_by_chance_does_not_end_the_masks(task):
    few, many = (compression_env(**sparse(task, 4, chance)) for chance in (1, 100))
    whole = compression_env(**sparse(task, 4))
    assert few.problem.evaluator.table.block_size == 4
    assert few.problem.original["params"] == whole.problem.original["params"]
    assert many.problem.evaluator.table.block_size == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decide": ("channel",)}, "did you mean 'channels'"),
        ({"decide": ()}, r"got \(\)"),
        ({"decide": ("density", "global_density")}, "decide: .*density and "),
        ({"decide": ("channels", "channels")}, r"got \('channels', 'channels'\)"),
        ({"min_density": 0.0}, "min_density: "),
        ({"bits": (9,)}, "bits: "),
        ({"granularity": 0}, "granularity: "),
    ],
)
def test_rules_out_of_range(task, arguments, message):
    with pytest.raises(UserError, match=message):
        compression_env(**(task | arguments))


def test_a_network_without_blocks_is_told_so(tiny_task):
    with pytest.raises(UserError, match="block"):
        compression_env(**tiny_task, decide=("block",))


def test_the_branches_of_a_large_network_are_measured_on_fewer_images(task, monkeypatch):
    whole = compression_env(**task, decide=("block",)).problem.decisions
    monkeypatch.setattr("prune_gym.compression.sensitivity.MULTIPLY_ADDS", 1)
    fewer = compression_env(**task, decide=("block",)).problem.decisions
    for one, other in zip(whole, fewer, strict=True):
        assert other.sensitivity == pytest.approx(one.sensitivity, rel=0.1)
        assert (other.sensitivity != one.sensitivity).any()


def test_the_branches_of_a_network_are_measured_once(whole):
    """Every further environment of a named network asks again."""
    evaluator, ran = whole.problem.evaluator, []
    first = next(each for each in evaluator.network.modules() if isinstance(each, nn.Conv2d))
    hook = first.register_forward_hook(lambda *_: ran.append(1))
    shares = evaluator.statistics.branch_shares()
    hook.remove()
    assert not ran
    own = [each for each in whole.problem.decisions if each.kind == "block"]
    assert sorted(float(each.sensitivity[0]) for each in own) == sorted(shares)
