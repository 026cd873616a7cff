"""Every registered id keeps the environment's contract."""

import dataclasses
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import play, strict_checks
from real_data import why_no_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from torch import nn

import prune_gym
from envs_registry import ENVS, VERSION
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.datasets import Split
from prune_gym.evaluation import task

IMAGES = 30
SMALL = ("resnet20", "vit_tiny", "vgg6", "yolov3_eighth")  # networks


def name_of(env_id):
    base = env_id.removesuffix(f"-{VERSION}")
    return base.removesuffix("-Scalar").removesuffix("-Discrete")


def parameter(env_id, large=True):
    """Return an id with what skips it; without ``large``, those of large networks are for CI."""
    network = ENVS[name_of(env_id)].get("network")
    why = why_no_env(env_id) if network else "its caller gives the task"
    marks = [pytest.mark.skipif(bool(why), reason=why)]
    if not large and network not in SMALL:
        marks.append(pytest.mark.ci)
    return pytest.param(env_id, marks=marks)


PLAIN = [f"{name}-{VERSION}" for name in ENVS]
IDS = [parameter(env_id, large=env_id in PLAIN) for env_id in prune_gym.env_ids()]
PLAIN_IDS = [parameter(env_id) for env_id in PLAIN]
SMALL_IDS = [parameter(env_id, large=False) for env_id in PLAIN]


@pytest.fixture(autouse=True, scope="module")
def evaluators_of_this_module():
    """Named evaluators are shared by the process: other tests must not see those of few images."""
    task.forget_evaluators()
    yield
    task.forget_evaluators()


def make(env_id, **kwargs):
    """Return an environment that scores on few images without repair: there are many ids."""
    return with_few_images(gym.make(env_id, repair="none", **kwargs))


def with_few_images(env):
    """Let an environment score on few images; the evaluator of a table is not shared."""
    evaluator = env.unwrapped.problem.evaluator
    search = evaluator.data.search
    if len(search) > IMAGES:
        few = (
            Split(search.images[:IMAGES].copy(), search.labels[:IMAGES].copy())
            if isinstance(search, Split)
            else search.select(np.arange(IMAGES))
        )
        evaluator.data = dataclasses.replace(evaluator.data, search=few)
    return env


@pytest.mark.parametrize("env_id", IDS)
def test_the_checkers_pass(env_id):
    with strict_checks():
        check_env(make(env_id))
        if "Scalar" in env_id:
            sb3_check_env(make(env_id))


@pytest.mark.parametrize("env_id", PLAIN_IDS)
def test_an_episode(env_id):
    env = make(env_id)
    observations, rewards, infos = play(env, seed=1)
    info, core = infos[-1], env.unwrapped
    assert all(env.observation_space.contains(observation) for observation in observations)
    saved = [1 - info[o.metric] / core.problem.original[o.metric] for o in core.objectives[1:]]
    np.testing.assert_allclose(rewards[:, 1:].sum(0), saved, atol=1e-5)
    check_the_candidate(core, info)
    strategy = json.loads(json.dumps(info["strategy"]))
    assert core.problem.validate(strategy).reproduced

    copy = pickle.dumps(make(EnvSpec.from_json(env.spec.to_json())))
    again = with_few_images(pickle.loads(copy))
    again.unwrapped.problem.evaluator.cache.clear()
    observations_again, rewards_again, infos_again = play(again, seed=1)
    np.testing.assert_array_equal(observations_again, observations)
    np.testing.assert_array_equal(rewards_again, rewards)
    assert infos_again[-1]["strategy"]["decisions"] == info["strategy"]["decisions"]


def check_the_candidate(core, info):
    """The costs are those of the network that the strategy yields."""
    candidate = core.problem.apply(info["strategy"])
    modules = [
        m for m in candidate.modules() if isinstance(m, nn.Conv2d | nn.Linear | QuantizedLayer)
    ]
    nonzero = sum(int(m.weight.count_nonzero()) for m in modules)
    kept = core.problem.evaluator.table.nonzeros(core.problem.configure(info["strategy"])).sum()
    if any(isinstance(module, QuantizedLayer) for module in modules):
        assert nonzero <= kept  # few bits round small weights to zero
        return
    originally = (
        m.weight for m in core.problem.evaluator.network.modules() if hasattr(m, "weight")
    )
    by_chance = sum(weight.numel() - int(weight.count_nonzero()) for weight in originally)
    assert kept - by_chance <= nonzero <= kept
    pruned = sum(m.weight.numel() for m in modules) - kept
    assert sum(p.numel() for p in candidate.parameters()) - pruned == info["params"]


@pytest.mark.parametrize("env_id", SMALL_IDS)
@given(share=st.floats(0.5, 0.99), seed=st.integers(0, 2**16))
@settings(max_examples=3, deadline=None)
def test_budgets_are_kept(env_id, share, seed):
    name = make(env_id).unwrapped.objectives[-1].name
    env = make(env_id, budgets={name: share}).unwrapped
    info, metric = play(env, seed=seed)[2][-1], env.problem.costs[name].metric
    assert info[metric] <= share * env.problem.original[metric] * (1 + 1e-12)
