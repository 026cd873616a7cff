"""A policy learned on one network runs on another as it is."""

import numpy as np
import pytest
from nets import make

from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG
from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.experiments.benchmark.preferences import preference_grid, proposals


@pytest.fixture(scope="module")
def agent(tiny_task):
    """An agent that has learned on three plain convolutions."""
    env = PreferenceConditioned(compression_env(**tiny_task))
    return EnvelopeDDPG(env=env, learning_starts=6, seed=0).learn(15)


@pytest.fixture(scope="module", params=["residual", "depthwise", "concat"])
def other(request, tiny_task):
    return compression_env(**{**tiny_task, "network": make(request.param)})


def widths(env, agent, preference):
    (obs, _), terminated = env.reset(), False
    while not terminated:
        obs, _, terminated, _, info = env.step(agent.predict(obs, preference)[0])
    return [decision["value"] for decision in info["strategy"]["decisions"]]


def test_an_agent_of_one_network_prunes_another(agent, other, tiny_task, tmp_path):
    home = compression_env(**tiny_task)
    assert len(home.problem.decisions) == 3 and other.observation_space == home.observation_space
    grid = preference_grid(other.reward_dim, 2)
    source, returns = proposals(other, agent, np.empty((0, other.reward_dim)), grid)
    assert source == "policy" and returns.shape == grid.shape and np.isfinite(returns).all()
    agent.save(tmp_path / "agent.zip")
    loaded = EnvelopeDDPG.load(tmp_path / "agent.zip")
    for preference in grid:
        chosen = widths(other, agent, preference)
        assert len(chosen) == len(other.problem.decisions)
        assert widths(other, loaded, preference) == chosen


def test_it_sees_the_network_it_is_on(agent, other, tiny_task):
    """Its actions on the first decision are those of another observation."""
    preference = np.full(other.reward_dim, 1 / other.reward_dim)
    here, home = (env.reset()[0] for env in (other, compression_env(**tiny_task)))
    assert not np.array_equal(here, home)
    assert agent.predict(here, preference)[0] != agent.predict(home, preference)[0]
