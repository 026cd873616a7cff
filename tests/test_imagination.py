"""Imagined episodes and the choice of what to evaluate next."""

import gymnasium as gym
import numpy as np
import pytest

from agents.imagining_ddpg import ImaginingDDPG
from agents.parts.accuracy_model import AccuracyModel, from_log_odds, log_odds
from agents.parts.imagination import Imagination
from prune_gym.env import CompressionEnv
from prune_gym.imagined import imagine
from prune_gym.pareto import hypervolume
from prune_gym.wrappers import PreferenceConditioned

ID = "ChannelPrune-Table-v0"


@pytest.fixture(scope="module")
def table():
    """The environment, the values of all strategies and their accuracies."""
    env = gym.make(ID).unwrapped
    values = env.strategies()
    column = [objective.name for objective in env.objectives].index("accuracy")
    return env, values, env.returns(values)[:, column]


def test_imagined_episodes_are_the_real_ones_without_evaluation(tiny_task):
    env = CompressionEnv(**tiny_task, budgets={"flops": 0.6})
    env.evaluator.memo.clear()
    rng = np.random.default_rng(0)
    played = rng.uniform(-1, 1, (8, len(env.decisions)))
    step = np.zeros(8, int)

    def act(observations, episodes):
        actions = played[episodes, step[episodes]]
        step[episodes] += 1
        return actions[:, None]

    imagined = imagine(env, act, 8)
    values = imagined.values
    assert not env.evaluator.memo
    for row, actions in zip(values, played, strict=True):
        env.reset()
        for action in actions:
            *_, info = env.step(np.array([action], np.float32))
        assert [each["value"] for each in info["strategy"]["decisions"]] == list(row)
    assert env.within_budgets(values).all()
    saved = np.array([imagined.rewards[imagined.episode == e].sum(axis=0) for e in range(8)])
    np.testing.assert_allclose(saved, env.savings(values), atol=1e-6)
    assert imagined.ended.sum() == 8 and imagined.observations.dtype == np.float32


def test_savings_are_the_returns_but_for_accuracy(table):
    env, values, accuracies = table
    returns = env.savings(values[::97])
    returns[:, 0] = accuracies[::97]
    np.testing.assert_allclose(returns, env.returns(values[::97]), atol=1e-12)


def test_the_model_predicts_strategies_that_it_has_not_seen(table):
    env, values, accuracies = table
    order = np.random.default_rng(0).permutation(len(values))
    seen, others = order[:100], order[100:1100]
    model = AccuracyModel(env.decisions)
    model.fit(values[seen], accuracies[seen])
    mean, deviation = model.predict(values[others])
    error = from_log_odds(mean) - accuracies[others]
    assert np.sqrt((error**2).mean()) < 0.5 * accuracies[others].std()
    within = np.abs(mean - log_odds(accuracies[others])) < 2 * deviation
    assert 0.5 < within.mean()
    close, sure = model.predict(values[seen])
    np.testing.assert_allclose(from_log_odds(close), accuracies[seen], atol=0.05)
    assert sure.mean() < deviation.mean()


def test_log_odds_of_certain_accuracies_are_finite():
    accuracies = np.array([0.0, 0.1, 0.5, 0.97, 1.0])
    odds = log_odds(accuracies)
    assert np.isfinite(odds).all() and odds[2] == 0 and (np.diff(odds) > 0).all()
    np.testing.assert_allclose(from_log_odds(odds), accuracies, atol=1e-12)
    assert from_log_odds(np.array([-50.0, 50.0])).tolist() == [0, 1]


def test_what_is_chosen_is_new_within_the_budgets_and_promises_most(table):
    _, values, accuracies = table
    env = gym.make(ID, budgets={"flops": 0.5}).unwrapped
    within = env.within_budgets(values)
    values, accuracies = values[within], accuracies[within]
    imagination = Imagination(env, seed=0)
    seen = np.random.default_rng(1).permutation(len(values))[:40]
    imagination.learn(values[seen], accuracies[seen])
    returns = env.returns(values[seen])
    gains = {}
    for _ in range(5):
        chosen = imagination.choose(values[:3])
        assert env.within_budgets(chosen[None]).all()
        assert not (imagination.values == chosen).all(axis=1).any()
        found = env.returns(chosen[None])
        gains[len(returns)] = hypervolume(np.concatenate([returns, found]), env.reference_point)
        returns = np.concatenate([returns, found])
        imagination.learn(chosen[None], found[:, 0])
    before = hypervolume(env.returns(values[seen]), env.reference_point)
    random = env.returns(values[np.random.default_rng(2).permutation(len(values))[:5]])
    by_chance = hypervolume(
        np.concatenate([env.returns(values[seen]), random]), env.reference_point
    )
    assert hypervolume(returns, env.reference_point) - before > by_chance - before


def test_a_small_space_can_be_exhausted(tiny_task):
    """With nothing new left to evaluate, an old strategy is played again."""
    env = CompressionEnv(**tiny_task, min_keep=1.0)
    imagination = Imagination(env, seed=0)
    only = env.plan.full[None]
    imagination.learn(only, np.array([0.5]))
    assert (imagination.choose(only) == only[0]).all()


def test_the_agent_learns_from_python_and_goes_on(tiny_task, tmp_path):
    env = PreferenceConditioned(CompressionEnv(**tiny_task))
    agent = ImaginingDDPG(env=env, learning_starts=0, seed=0).learn(9)
    assert agent._imagination.accuracies.shape == (2,)  # before the third of three episodes
    agent.save(tmp_path / "agent.zip")
    again = ImaginingDDPG.load(tmp_path / "agent.zip", env=env).learn(6)
    assert again.predict(env.unwrapped.reset()[0], {"flops": 1.0})[0].shape == (1,)
