"""``ChannelPrune-Table-v0``: every strategy was evaluated, so the true front is known."""

import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from prune_gym.envs.tabulated import NotTabulatedError, TabulatedEnv, tabulated_env
from prune_gym.errors import UserError
from prune_gym.objectives.pareto import hypervolume, non_dominated

ID = "ChannelPrune-Table-v0"


@pytest.fixture(scope="module")
def env():
    return gym.make(ID).unwrapped


def episode(env, values, gamma=1.0):
    """Play a strategy; returns its discounted return and the terminal info."""
    env.reset()
    total, discount = np.zeros(env.reward_dim), 1.0
    for decision, value in zip(env.problem.decisions, values, strict=True):
        _, reward, *_, info = env.step(np.array([decision.encode(value)], np.float32))
        total += discount * reward
        discount *= gamma
    assert [each["value"] for each in info["strategy"]["decisions"]] == list(values)
    return total, info


def test_every_strategy_is_there(env):
    strategies = env.strategies()
    assert len(strategies) == np.prod([len(decision.options) for decision in env.problem.decisions])
    assert len(np.unique(strategies, axis=0)) == len(strategies) == 8192


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("reward", ["incremental", "terminal"])
def test_returns_are_those_of_the_episodes(gamma, reward):
    env = gym.make(ID, reward=reward).unwrapped
    rows = env.strategies()[::1111]
    expected = [episode(env, row, gamma)[0] for row in rows]
    np.testing.assert_allclose(env.returns(rows, gamma), expected, atol=1e-6)


def test_no_strategy_dominates_the_front(env):
    front, returns = np.array(env.pareto_front(1.0)), env.returns(env.strategies())
    assert 10 < len(front) < len(returns)
    assert non_dominated(front).all()
    reference = env.problem.reference_point
    assert hypervolume(front, reference) == pytest.approx(hypervolume(returns, reference))
    fewer = hypervolume(front[1:], reference)
    assert fewer <= hypervolume(front, reference)


def test_accuracies_of_the_table_are_those_of_the_candidates(env):
    """Another processor may see a few images of the 2,000 differently."""
    for row in env.strategies()[[0, 4000, 8191]]:
        _, info = episode(env, row)
        assert env.problem.validate(info["strategy"]).reproduced


def test_the_front_within_a_budget(env):
    tight = gym.make(ID, budgets={"flops": 0.4}).unwrapped
    within = tight.strategies()
    assert 0 < len(within) < len(env.strategies())
    flops = tight.problem.costs["flops"]
    shares = flops(tight.problem.space.configure(within)) / tight.problem.original["flops"]
    assert shares.max() <= 0.4
    saved = np.array(tight.pareto_front(1.0))[:, [o.name for o in tight.objectives].index("flops")]
    assert (saved >= 0.6 - 1e-9).all()


OTHERS = [{"round_to": 2, "min_keep": 0.8}, {"repair": "batch_norm"}, {"decide": ("weight_bits",)}]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_what_the_table_does_not_hold_is_evaluated(other):
    env = gym.make(ID, **other).unwrapped
    smallest = env.problem.space.lower
    with pytest.raises(NotTabulatedError):
        env.returns(np.stack([smallest, env.problem.space.upper]))
    known = len(env.problem.evaluator.cache)
    _, info = episode(env, smallest)
    assert len(env.problem.evaluator.cache) == known + 1
    assert env.problem.validate(info["strategy"]).reproduced


def test_a_table_of_another_network_is_refused():
    with pytest.raises(UserError, match="vgg6-digits .* vgg16-digits"):
        gym.make(ID, network="vgg16")
    with pytest.raises(UserError, match="vgg16-digits.* table"):
        tabulated_env("vgg16-digits", network="vgg16", data="digits", latency=None)


def test_several_at_once():
    envs = gym.make_vec(ID, num_envs=2)
    envs.reset(seed=0)
    assert isinstance(envs.envs[0].unwrapped, TabulatedEnv)
    _, rewards, *_ = envs.step(np.zeros((2, 1), np.float32))
    assert rewards.shape == (2, 3)


def test_another_process_has_the_table_too():
    ask = "import pickle, sys; env = pickle.load(sys.stdin.buffer); print(len(env.pareto_front()))"
    env = gym.make("ChannelPrune-Table-v0").unwrapped
    command = [sys.executable, "-c", ask]
    asked = subprocess.run(command, input=pickle.dumps(env), capture_output=True, check=True)
    assert int(asked.stdout) == len(env.pareto_front())
