"""Agents of morl-baselines, where the extra is installed."""

import sys

import numpy as np
import pytest
from playing import Recorded
from stable_baselines3.common.logger import Logger

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.envs.make import compression_env
from prune_gym.errors import MissingExtraError

EPISODES, SEED = 12, 3
NAMES = ("CAPQL", "GPI-LS", "MORLD", "PCN")


def searched(name, task):
    pytest.importorskip("morl_baselines", reason="the extra morl is not installed")
    env = Recorded(compression_env(**task))
    trained = find_agent(f"morl:{name}")(env, Settings(EPISODES, SEED, None, Logger(None, [])))
    return env, trained


@pytest.mark.parametrize("name", NAMES)
def test_every_episode_is_charged_and_a_seed_repeats_them(name, tiny_task):
    before = np.random.get_state()[1].copy()
    first, second = (searched(name, tiny_task)[0].values for _ in range(2))
    assert len(first) == EPISODES
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("name", NAMES)
def test_the_shared_design_comes_first(name, tiny_task):
    env, _ = searched(name, tiny_task)
    space = env.unwrapped.problem.space
    design = space.decode(initial_design(EPISODES, len(space), SEED)[:1])[0]
    played = [row.tolist() for row in np.array(env.values)]
    # GPI-LS tests its untrained policy before it learns.
    assert design.tolist() in (played if name == "GPI-LS" else played[:1])


@pytest.mark.parametrize("name", ("CAPQL", "GPI-LS"))
def test_policies_answer_for_preferences_and_are_saved(name, tiny_task, tmp_path):
    env, trained = searched(name, tiny_task)
    preference = np.full(len(trained.names), 1 / len(trained.names))
    action, _ = trained.predict(env.reset(seed=0)[0], preference)
    assert env.action_space.contains(np.asarray(action, dtype=np.float32))
    trained.save(tmp_path / "agent.safetensors")
    assert (tmp_path / "agent.safetensors").is_file()


def test_unknown_algorithms_get_the_nearest():
    pytest.importorskip("morl_baselines", reason="the extra morl is not installed")
    with pytest.raises(ValueError, match="did you mean 'CAPQL'"):
        find_agent("morl:CAPQ")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "morl_baselines.multi_policy.capql.capql", None)
    monkeypatch.delitem(sys.modules, "prune_gym.agents.morl", raising=False)
    with pytest.raises(MissingExtraError, match=r"prune-gym\[morl\]"):
        find_agent("morl:CAPQL")
