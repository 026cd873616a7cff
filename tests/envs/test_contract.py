import copy
import json
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import mo_gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from playing import constant, play, strict_checks
from real_data import why_no_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import prune_gym
from prune_gym.envs.make import compression_env
from prune_gym.envs.observation import FEATURES
from prune_gym.envs.wrappers import ScalarReward

# One network on the embedded data thoroughly; tests/test_every_id.py has the other ids.
BLUE = (31, 119, 180)  # bars of the first kind of decision
IDS = [
    pytest.param(
        env_id, marks=pytest.mark.skipif(bool(why_no_env(env_id)), reason=why_no_env(env_id))
    )
    for env_id in prune_gym.env_ids()
    if env_id.startswith("ChannelPrune-VGG16") and "CIFAR10" not in env_id
]
VECTOR_IDS = [param for param in IDS if "Scalar" not in param.values[0]]
SCALAR_IDS = [param for param in IDS if "Scalar" in param.values[0]]
METRICS = {
    *("accuracy", "flops", "params", "latency_ms", "memory_bytes"),
    *("energy_mj", "size_bytes"),
}


def smallest(env):
    """The action that asks for the fewest channels, as candidates of small widths are quick."""
    return (lambda step: 0) if "Discrete" in env.spec.id else constant(-1.0)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_check_env(env_id):
    with strict_checks():
        check_env(gym.make(env_id).unwrapped)
        check_env(gym.make(env_id))


@pytest.mark.parametrize("env_id", SCALAR_IDS)
def test_sb3_check_env_without_a_warning(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3_check_env(gym.make(env_id))


@pytest.mark.parametrize("env_id", VECTOR_IDS)
def test_mo_gymnasium(env_id):
    env = mo_gymnasium.make(env_id)
    assert env.unwrapped.reward_space.dtype == np.float32
    assert env.unwrapped.reward_space.shape == (env.unwrapped.reward_dim,) == (4,)
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    linear = mo_gymnasium.wrappers.LinearReward(env, weight=weights)
    linear.reset(seed=0)
    terminated = False
    while not terminated:
        action = smallest(env)(0)
        _, reward, terminated, _, info = linear.step(action)
        assert info["vector_reward"].dtype == np.float32
        assert env.unwrapped.reward_space.contains(info["vector_reward"])
        assert reward == pytest.approx(weights @ info["vector_reward"])


@pytest.mark.parametrize("env_id", IDS)
def test_same_seed_same_episode(env_id):
    # Small candidates are quick ones, and are as random.
    env, again = (gym.make(env_id, budgets={"flops": 0.05}) for _ in range(2))
    obs, rewards, infos = play(env, seed=3)
    again.unwrapped.problem.evaluator.cache.clear()  # shared; accuracy is to be computed twice
    obs_2, rewards_2, infos_2 = play(again, seed=3)
    np.testing.assert_array_equal(obs, obs_2)
    np.testing.assert_array_equal(rewards, rewards_2)
    assert infos[-1]["strategy"] == infos_2[-1]["strategy"]


@pytest.mark.parametrize("env_id", IDS)
def test_pickle_is_small_and_plays_the_same(env_id):
    env = gym.make(env_id)
    env.reset()
    env.step(smallest(env)(0))
    content = pickle.dumps(env)
    assert len(content) < 2**20
    again = pickle.loads(content)
    ends = []
    for each in (env, again):
        each.unwrapped.problem.evaluator.cache.clear()
        terminated, steps = False, []
        while not terminated:
            obs, reward, terminated, _, info = each.step(smallest(env)(1))
            steps.append((obs.tolist(), np.asarray(reward).tolist()))
        ends.append((steps, info["strategy"]))
    assert ends[0] == ends[1] and len(steps) == len(env.unwrapped.problem.decisions) - 1


@pytest.mark.parametrize("env_id", IDS)
def test_spec_survives_json(env_id):
    env = gym.make(env_id, budgets={"flops": 0.5}, objectives=["accuracy", "flops"])
    spec = EnvSpec.from_json(env.spec.to_json())
    again = gym.make(spec)
    assert type(again) is type(env)
    assert [o.name for o in again.unwrapped.objectives] == ["accuracy", "flops"]
    assert again.spec.kwargs["budgets"] == {"flops": 0.5}


def test_spec_of_a_wrapper_with_weights_survives_json(env):
    wrapped = ScalarReward(env, {"accuracy": 0.7, "flops": 0.3})
    again = gym.make(EnvSpec.from_json(wrapped.spec.to_json()))
    action = constant(-1.0)
    assert play(again, action)[1].tolist() == play(wrapped, action)[1].tolist()


@pytest.mark.parametrize("env_id", VECTOR_IDS)
def test_make_vec(env_id):
    envs = gym.make_vec(env_id, num_envs=2)
    single = gym.make(env_id)
    _, rewards, infos = play(single, smallest(single))
    envs.reset(seed=0)
    action = np.stack([smallest(single)(0)] * 2)
    for step, expected in enumerate(rewards):
        obs, reward, terminated, truncated, info = envs.step(action)
        assert obs.shape == (2, *single.observation_space.shape) and obs.dtype == np.float32
        np.testing.assert_array_equal(reward, [expected] * 2)
        assert reward.dtype == np.float32 and not truncated.any()
        assert terminated.all() == (step == len(rewards) - 1)
    assert info["accuracy"].tolist() == [infos[-1]["accuracy"]] * 2
    _, reward, terminated, _, _ = envs.step(action)  # resets
    assert not reward.any() and not terminated.any()


@pytest.mark.parametrize("env_id", VECTOR_IDS)
def test_strategies_of_make_vec_are_replayed(env_id):
    """Two environments that decide differently, with budgets."""
    envs = gym.make_vec(env_id, num_envs=2, budgets={"flops": 0.3})
    discrete = isinstance(envs.single_action_space, gym.spaces.Discrete)
    action = np.array([0, 1]) if discrete else np.array([[-1.0], [-0.8]], np.float32)
    envs.reset(seed=0)
    terminated = np.zeros(2, bool)
    while not terminated.any():
        _, _, terminated, _, infos = envs.step(action)
        assert ("strategy" in infos) == terminated.all() == terminated.any()
    strategies = infos["strategy"]
    assert strategies.dtype == object and strategies.shape == (2,)
    assert infos["_strategy"].tolist() == [True, True]
    for number, strategy in enumerate(strategies):
        assert strategy["env_id"] == env_id
        assert strategy["env_kwargs"]["budgets"] == {"flops": 0.3}
        assert {"num_envs", "vectorization_mode"}.isdisjoint(strategy["env_kwargs"])
        assert strategy["metrics"]["accuracy"] == infos["accuracy"][number]
        again = gym.make(strategy["env_id"], **json.loads(json.dumps(strategy["env_kwargs"])))
        assert again.unwrapped.problem.validate(strategy).reproduced
        single = play(again, lambda step, number=number: action[number])[2][-1]["strategy"]
        assert single == strategy
    assert strategies[0]["decisions"] != strategies[1]["decisions"]


@pytest.mark.parametrize("env_id", VECTOR_IDS)
def test_nothing_returned_shares_memory(env_id):
    env = gym.make(env_id, budgets={"flops": 0.5})
    arrays = [env.reset()[0]]
    terminated = False
    while not terminated:
        obs, reward, terminated, _, info = env.step(smallest(env)(0))
        arrays += [obs, reward, *(v for v in info.values() if isinstance(v, np.ndarray))]
    for i, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[:i])
    before = copy.deepcopy(info["strategy"])
    again = play(env, smallest(env))[2][-1]["strategy"]
    assert again == before
    again["decisions"][0]["value"] = again["metrics"]["accuracy"] = -1
    again["env_kwargs"]["budgets"]["flops"] = again["env_kwargs"]["data"] = -1
    again["decisions"].pop()
    assert info["strategy"] == before
    assert play(env, smallest(env))[2][-1]["strategy"] == before
    assert env.spec.kwargs["budgets"] == {"flops": 0.5}


@pytest.mark.parametrize("env_id", IDS)
def test_the_end_of_an_episode(env_id):
    env = gym.make(env_id)
    core = env.unwrapped
    env.reset()
    for step in range(len(core.problem.decisions)):
        _, _, terminated, truncated, info = env.step(smallest(env)(step))
        last = step == len(core.problem.decisions) - 1
        assert terminated is last and truncated is False
        assert METRICS.isdisjoint(info) or last
    assert METRICS | {"strategy"} <= info.keys()
    assert all(type(info[metric]) is float for metric in METRICS)
    json.dumps(info["strategy"])
    assert info["strategy"]["env_id"] == env_id
    kept = [decision["value"] for decision in info["strategy"]["decisions"]]
    assert kept == [decision.options[0] for decision in core.problem.decisions]


@pytest.mark.parametrize("env_id", IDS)
def test_observations_are_of_the_declared_kind(env_id):
    env = gym.make(env_id)
    observations, _, _ = play(env)
    assert all(env.observation_space.contains(observation) for observation in observations)
    assert env.observation_space.low.min() == 0 and env.observation_space.high.max() == 1
    assert len(np.unique(observations, axis=0)) == len(observations)


def test_every_network_has_the_same_observation_space(env, tiny):
    assert tiny.observation_space == env.observation_space


def test_registration_is_idempotent():
    before = dict(gym.registry)
    prune_gym.register_envs()
    assert dict(gym.registry) == before
    gym.register_envs(prune_gym)
    assert set(prune_gym.env_ids()) <= gym.registry.keys()


def test_module_prefix_in_a_fresh_process_and_no_torch_on_import(subprocess_env):
    code = (
        "import sys, gymnasium as gym, prune_gym\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "print(len(prune_gym.env_ids()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True
    )
    assert out.returncode == 0 and int(out.stdout) == len(prune_gym.env_ids()), out.stderr
    code = (
        "import gymnasium as gym\n"
        "env = gym.make('prune_gym:ChannelPrune-VGG16-v0')\n"
        "print(env.reset()[0].shape)"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=subprocess_env,
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0 and out.stdout.strip() == f"({len(FEATURES)},)", out.stderr


def test_no_attribute_that_sb3_takes_for_a_goal_env(env):
    assert not hasattr(env.unwrapped, "compute_reward")


def test_global_random_state_is_neither_read_nor_set(tiny):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = play(tiny, seed=5)[1]
    tiny.problem.evaluator.cache.clear()
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    np.testing.assert_array_equal(play(tiny, seed=5)[1], first)


def test_render_ansi(tiny_task):
    env = compression_env(**tiny_task, render_mode="ansi")
    env.reset()
    env.step(np.array([1.0], np.float32))
    assert "12 of 12" in env.render() and "flops 100.0%" in env.render()


def test_render_picture(tiny_task):
    env = compression_env(**tiny_task, render_mode="rgb_array")
    env.reset()
    pictures = [env.render()]
    for action in (-1.0, 1.0):
        env.step(np.array([action], np.float32))
        pictures.append(env.render())
    assert {picture.shape for picture in pictures} == {(420, 640, 3)}
    assert all(picture.dtype == np.uint8 for picture in pictures)
    legend, first, second = (int((picture == BLUE).all(axis=2).sum()) for picture in pictures)
    decision = env.problem.decisions[0]
    share = decision.options[0] / decision.original  # of the second one, which keeps all
    assert (first - legend) / (second - first) == pytest.approx(share, rel=0.1)


def test_render_human_prints_every_step(tiny_task, capsys):
    env = compression_env(**tiny_task, render_mode="human")
    env.reset()
    for _ in env.problem.decisions:
        env.step(np.array([1.0], np.float32))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(env.problem.decisions) and env.render() is None
    for line, decision in zip(lines, env.problem.decisions, strict=True):
        assert decision.name in line and "flops 100.0%" in line


def test_own_network_pickles(tiny):
    action = constant(0.0)
    expected = play(tiny, action)[1]
    again = pickle.loads(pickle.dumps(tiny))
    assert not len(again.problem.evaluator.cache)
    np.testing.assert_array_equal(play(again, action)[1], expected)
