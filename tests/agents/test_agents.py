import functools

import numpy as np
import pytest
from playing import Recorded
from stable_baselines3.common.logger import Logger

from prune_gym.agents import AGENTS, Settings, find_agent, takes_priorities
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError


def search(name, task, episodes=8, seed=0, priorities=None):
    env = Recorded(compression_env(**task))
    trained = find_agent(name)(env, Settings(episodes, seed, priorities, Logger(None, [])))
    return env, trained


def episodes_of(name):
    """Agents that plan find the same few best strategies first, whatever the seed."""
    return 14 if name in ("ehvi", "ehvi-envelope-ddpg", "sensitivity") else 8


@pytest.fixture(scope="module")
def searched(tiny_task):
    """Return a function that returns the search of an agent; each is made once."""
    return functools.cache(lambda name: search(name, tiny_task, episodes_of(name)))


OTHERS = [
    "sb3:SAC",
    "sb3:PPO",
    "sb3:A2C",
    "sb3-conditioned:SAC",
    "sb3-conditioned:PPO",
    "optuna:tpe",
]


@pytest.mark.parametrize("name", [*AGENTS, *OTHERS])
def test_every_agent_plays_the_asked_number_of_episodes(name, searched):
    assert len(searched(name)[0].values) == episodes_of(name)


@pytest.mark.parametrize("name", ["random", "uniform", "sb3:DQN", "sb3:PPO", "sb3-conditioned:DQN"])
def test_agents_on_discrete_actions(name, tiny_task):
    env, _ = search(name, tiny_task | {"discrete": 5})
    assert len(env.values) == 8
    actions = {action for episode in env.actions for action in episode}
    assert actions <= set(range(5)) and len(actions) > 1


@pytest.mark.parametrize("name", [*AGENTS, "sb3:TD3", "sb3-conditioned:SAC", "optuna:tpe"])
def test_a_seed_determines_a_search(name, searched, tiny_task):
    again, other = (search(name, tiny_task, episodes_of(name), seed)[0] for seed in (0, 1))
    one = searched(name)[0].values
    assert one == again.values
    assert (one == other.values) == (name == "uniform")


def test_random_actions_differ_between_steps_and_episodes(tiny_task):
    env, trained = search("random", tiny_task)
    actions = [action for episode in env.actions for action in episode]
    assert len(set(actions)) == len(actions) == 24 and trained is None
    assert min(actions) < -0.3 and max(actions) > 0.3


@pytest.mark.parametrize("episodes", [1, 2, 3, 8, 9])
def test_uniform_sweeps_the_range_with_constant_actions(episodes, tiny_task):
    env, _ = search("uniform", tiny_task, episodes)
    assert all(len(set(episode)) == 1 for episode in env.actions)
    values = [episode[0] for episode in env.actions]
    if episodes > 1:
        np.testing.assert_allclose(sorted(values), np.linspace(-1, 1, episodes), atol=1e-6)
    if episodes == 9:
        assert max(abs(a - b) for a, b in zip(values, values[1:], strict=False)) > 0.5


@pytest.mark.ci
def test_random_ratios_cover_more_sizes_than_random_actions(tiny_task):
    van_der_corput = {}
    for name in ("random", "random-ratio"):
        env, trained = search(name, tiny_task, episodes=80)
        problem = env.unwrapped.problem
        flops = problem.costs["flops"](problem.space.configure(np.array(env.values)))
        van_der_corput[name] = np.std(flops / problem.original["flops"])
        assert trained is None
    assert van_der_corput["random-ratio"] > 1.25 * van_der_corput["random"]


def test_random_ratios_differ_between_episodes_more_than_within_one(tiny_task):
    env, _ = search("random-ratio", tiny_task, episodes=60)
    actions = np.array(env.actions)
    assert np.abs(actions).max() <= 1 and len(np.unique(actions)) > 100
    assert actions.mean(axis=1).std() > 1.5 * actions.std(axis=1).mean()


@pytest.mark.parametrize(
    "name",
    [
        "amc",
        "ehvi-envelope-ddpg",
        "nsga2",
        "optuna:tpe",
        "random-ratio",
        "sb3:SAC",
        "sb3-conditioned:TD3",
    ],
)
def test_continuous_agents_say_what_they_need(name, tiny_task):
    with pytest.raises(UserError, match=f"{name} .*Discrete.5.*-Discrete"):
        search(name, tiny_task | {"discrete": 5})


def test_discrete_agents_say_what_they_need(tiny_task):
    with pytest.raises(UserError, match="sb3:DQN .*Box.*-Discrete"):
        search("sb3:DQN", tiny_task)


@pytest.mark.parametrize("name", ["ehvi-envelope-ddpg", "envelope-ddpg", "sb3:PPO", "sb3:SAC"])
def test_a_saved_agent_acts_as_before(name, searched, tmp_path):
    _, trained = searched(name)
    trained.save(tmp_path / "agent.zip")
    again = type(trained).load(tmp_path / "agent.zip")
    observation = trained.observation_space.sample()
    acts = [each.predict(observation, deterministic=True)[0] for each in (trained, again)]
    np.testing.assert_array_equal(*acts)
    assert np.abs(acts[0]).max() <= 1


@pytest.mark.parametrize("name", [*AGENTS, *OTHERS])
def test_the_agents_that_are_said_to_take_priorities_look_at_them(name, tiny_task):
    if takes_priorities(name):
        with pytest.raises(ValueError, match="did you mean 'flops'"):
            search(name, tiny_task, episodes=3, priorities={"flop": 1.0})
        episodes = len(search(name, tiny_task, episodes=3, priorities={"flops": 1.0})[0].values)
    else:
        episodes = len(search(name, tiny_task, episodes=3, priorities={"flop": 1.0})[0].values)
    assert episodes == 3
