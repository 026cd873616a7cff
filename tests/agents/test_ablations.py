"""Ablations: the part that a name switches off is off, and every one plays its evaluations."""

import numpy as np
import pytest
import torch
from playing import Recorded
from stable_baselines3.common.logger import Logger

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.ablations import PARTS, SEARCHES
from prune_gym.agents.bayesian.acquisition import Acquisition
from prune_gym.agents.bayesian.surrogate import AccuracyModel
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG
from prune_gym.agents.sensitivity.sensitivity import planned
from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.errors import UserError


def searched(name, env, episodes):
    env = Recorded(env)
    trained = find_agent(f"ablation:{name}")(env, Settings(episodes, 0, None, Logger(None, [])))
    return env.unwrapped.problem, np.array(env.values), trained


@pytest.mark.parametrize("name", SEARCHES)
def test_every_ablation_starts_as_it_says_and_plays_all_its_evaluations(name, tiny_task):
    problem, values, trained = searched(name, compression_env(**tiny_task), 5)
    assert len(values) == 5
    if name in ("no-planned-start", "ehvi-no-sensitivities"):
        first = [problem.space.decode(row) for row in initial_design(5, len(problem.space), 0)]
    else:
        first = planned(problem, 3, seed=0)
    np.testing.assert_array_equal(values[: len(first)], first)
    assert (trained is None) == (name not in PARTS)
    if trained is not None:
        assert (trained._n_updates == 0) == (name == "no-learning")


def test_unknown_ablations_get_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'no-learning'"):
        find_agent("ablation:no-lerning")


def test_ablations_need_costs_that_are_computed(tiny_task):
    measured = {"latency": "measured", "objectives": ("accuracy", "latency", "flops")}
    clocked = compression_env(**tiny_task | measured)
    with pytest.raises(UserError, match="latency='measured'"):
        searched("no-homotopy", clocked, 2)


def test_without_sensitivities_none_are_used(tiny_task):
    """Neither the model nor the candidates change where the sensitivities do."""
    env = compression_env(**tiny_task)
    space = env.problem.space
    model = AccuracyModel(space, chance=0.1, sensitivities=False)
    values = np.array([space.upper, space.lower])
    assert model.describe(values)[0].tolist() == [[0.0] * len(space), [1.0] * len(space)]
    model.fit(values, np.array([0.9, 0.3]))
    odds, _ = model.predict(values)
    assert odds[0] > odds[1]
    acquisition = Acquisition(env.problem, 0, sensitivities=False)
    acquisition.observe(values, np.array([0.9, 0.3]))
    assert not (acquisition.suggest(np.empty((0, len(space)))) == values).all(axis=1).any()


@pytest.fixture
def batch(tiny_task):
    """An agent that has played without learning, and a batch of its transitions."""
    env = PreferenceConditioned(compression_env(**tiny_task))
    agent = EnvelopeDDPG(env=env, seed=0, learning_starts=100, relabelled=0, envelope=0)
    agent.learn(12)
    return agent, agent.replay_buffer.sample(6)


def test_without_the_envelope_the_target_is_that_of_the_own_preference(batch):
    agent, sampled = batch
    k = len(agent.names)
    w = sampled.observations[:, -k:]
    target = agent.envelope_target(sampled, w)
    with torch.no_grad():
        state = torch.cat([sampled.next_observations[:, :-k], w], dim=1)
        one, other = agent.critic_target(state, agent.actor_target(state))
    first = (one * w).sum(1, keepdim=True) <= (other * w).sum(1, keepdim=True)
    smaller = torch.where(first, one, other)
    torch.testing.assert_close(target, sampled.rewards + (1 - sampled.dones) * smaller)


@pytest.mark.parametrize(("homotopy", "expected"), [(True, True), (False, False)])
def test_lambda_stays_zero_without_the_homotopy(homotopy, expected, tiny_task):
    env = PreferenceConditioned(compression_env(**tiny_task))
    agent = EnvelopeDDPG(env=env, seed=0, learning_starts=3, relabelled=0, homotopy=homotopy)
    agent.set_logger(logger := Logger(None, []))
    agent.learn(9, log_interval=1000)
    assert (logger.name_to_value["train/homotopy_lambda"] > 0) == expected
