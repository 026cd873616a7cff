"""Generations whose accuracies are evaluated side by side, before they are played."""

import os

import gymnasium as gym
import pytest
from nets import make as make_net
from places import HELPERS, ROOT
from stable_baselines3.common.logger import Logger
from tiny_envs import TINY

from prune_gym._utils.parallel import workers
from prune_gym.agents import Settings, find_agent
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.rollout import play_all
from prune_gym.envs.make import compression_env
from prune_gym.evaluation.accuracy_cache import AccuracyCache

SETTINGS = Settings(12, 0, None, Logger(None, []))


class Played(gym.Wrapper):
    """Keeps what every finished episode came to, and evaluates anew."""

    def __init__(self, env):
        super().__init__(env)
        self.infos, self.evaluator = [], env.unwrapped.problem.evaluator
        self.evaluator.cache = AccuracyCache()

    def step(self, action):
        result = self.env.step(action)
        if result[2]:
            self.infos.append(result[4])
        return result


@pytest.fixture
def importable(monkeypatch):
    """Let workers import the tests' networks."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HELPERS}")


@pytest.fixture
def by_name():
    env = Played(gym.make(TINY, budgets={"flops": 0.5}))  # it moves actions
    yield env
    env.evaluator.cache = AccuracyCache()


@pytest.fixture
def of_ones_own(tiny_data):
    options = {"decide": ("block", "channels"), "objectives": ("accuracy", "flops")}
    net = make_net("residual")
    return Played(compression_env(net, tiny_data, latency=None, round_to=1, **options))


@pytest.mark.parametrize("made", ["by_name", "of_ones_own"])
@pytest.mark.parametrize("agent", ["nsga2", "jcw", "emomc"])
def test_workers_change_nothing(agent, made, request, importable, monkeypatch):
    env = request.getfixturevalue(made)
    find_agent(agent)(env, SETTINGS)
    infos, known = env.infos, env.evaluator.cache
    assert len(infos) == 12
    env.infos, env.evaluator.cache = [], AccuracyCache()
    # Nothing is evaluated here, and nothing that is not played.
    monkeypatch.setattr(env.evaluator, "score", None)
    with workers(2, None):
        find_agent(agent)(env, SETTINGS)
    assert env.infos == infos and len(env.evaluator.cache) == len(known)


def test_what_is_known_is_not_evaluated_ahead(by_name, importable):
    actions = initial_design(20, len(by_name.unwrapped.problem.decisions), 0)
    _, infos = play_all(by_name, actions)
    keys = [by_name.unwrapped.problem.configure(info["strategy"]).key() for info in infos]
    by_name.evaluator.cache = AccuracyCache(dict.fromkeys(keys, 0.125))
    with workers(2, None):
        returns, infos = play_all(by_name, actions)
    assert {info["accuracy"] for info in infos} == {0.125} == set(returns[:, 0])
