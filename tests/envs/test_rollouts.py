"""Episodes without evaluation: as one batch, one by one, and those of the environment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import PROBLEMS, make_problem

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.episodes import EpisodeBatch
from prune_gym.envs.rollouts import decode_within_budgets, rollout

REWARDS = ("incremental", "terminal")
EPISODES = 6
LAWS = settings(max_examples=5, deadline=None)
SEEDS = st.integers(0, 2**16)


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request, tiny_data):
    return make_problem(request.param, tiny_data)


def random_actions(problem, seed):
    """Return actions of whole episodes, ``float32 (episodes, decisions)``; blocks are skipped."""
    rng = np.random.default_rng(seed)
    shape = (EPISODES, len(problem.decisions))
    ends = rng.choice([-1.0, 1.0], shape)
    return np.where(rng.random(shape) < 0.4, ends, rng.uniform(-1, 1, shape)).astype(np.float32)


def stepped_alone(problem, actions, reward):
    """Return the observations and rewards of one episode, the first observation before them."""
    batch = EpisodeBatch(problem, 1, reward)
    observations, rewards = [batch.restart(1)[0]], []
    while not batch.ended[0]:
        seen, paid = batch.step(actions[batch.index])
        observations.append(seen[0])
        rewards.append(paid[0])
    return np.array(observations), np.array(rewards), batch.values[0]


@pytest.mark.parametrize("reward", REWARDS)
@given(seed=SEEDS)
@LAWS
def test_a_batch_of_episodes_is_each_of_them(problem, reward, seed):
    actions = random_actions(problem, seed)
    batch, alive = EpisodeBatch(problem, EPISODES, reward), np.arange(EPISODES)
    observations = [[row] for row in batch.restart(EPISODES)]
    rewards, values = [[] for _ in alive], np.empty(actions.shape)
    while len(alive):
        seen, paid = batch.step(actions[alive, batch.index])
        for row, episode in enumerate(alive):
            observations[episode].append(seen[row])
            rewards[episode].append(paid[row])
        values[alive[batch.ended]] = batch.values[batch.ended]
        alive = alive[~batch.ended]
        batch.keep(~batch.ended)
    for episode, row in enumerate(actions):
        alone = stepped_alone(problem, row, reward)
        assert alone[0].dtype == alone[1].dtype == np.float32
        np.testing.assert_array_equal(np.array(observations[episode]), alone[0])
        np.testing.assert_array_equal(np.array(rewards[episode]), alone[1])
        np.testing.assert_array_equal(values[episode], alone[2])


def in_the_environment(problem, actions, reward):
    """Play one episode; returns observations, rewards, decisions made, and the last info."""
    env = CompressionEnv(problem, reward=reward)
    observations, rewards, made, terminated = [env.reset()[0]], [], [], False
    while not terminated:
        made.append(env.next_decision)
        observation, paid, terminated, _, info = env.step(actions[env.next_decision][None])
        observations.append(observation)
        rewards.append(paid)
    return np.array(observations), np.array(rewards), made, info


@pytest.mark.parametrize("reward", REWARDS)
@given(seed=SEEDS)
@LAWS
def test_a_rollout_is_what_the_environment_plays(problem, reward, seed):
    actions, count = random_actions(problem, seed), len(problem.decisions)

    def act(observations, episodes):
        """Play the actions; an observation begins with the share of the decisions made."""
        index = np.rint(observations[:, 0] * count).astype(int)
        return actions[episodes, index][:, None]

    found = rollout(problem, act, EPISODES, reward)
    names = [objective.name for objective in problem.objectives]
    costs = [column for column, name in enumerate(names) if name != "accuracy"]
    assert not found.rewards[:, names.index("accuracy")].any()
    for episode, row in enumerate(actions):
        observations, rewards, made, info = in_the_environment(problem, row, reward)
        own = found.episode == episode
        assert found.decision[own].tolist() == made
        np.testing.assert_array_equal(found.observations[own], observations[:-1])
        np.testing.assert_array_equal(found.next_observations[own], observations[1:])
        np.testing.assert_array_equal(found.rewards[own][:, costs], rewards[:, costs])
        np.testing.assert_array_equal(found.actions[own][:, 0], row[made])
        assert found.ended[own].tolist() == [False] * (len(made) - 1) + [True]
        values = problem.values_of(info["strategy"])
        np.testing.assert_array_equal(found.values[episode], values)


@given(seed=SEEDS)
@LAWS
def test_decoding_within_budgets_is_what_an_episode_makes_of_actions(problem, seed):
    actions = random_actions(problem, seed)
    values = decode_within_budgets(problem, actions)
    alone = [stepped_alone(problem, row, "incremental")[2] for row in actions]
    np.testing.assert_array_equal(values, alone)
    assert problem.feasible(values).all()
    # What every budget allows stays as it was asked for.
    free = problem.space.canonicalise(problem.space.decode(actions))
    if not problem.budgets.limits:
        np.testing.assert_array_equal(values, free)


def test_a_rollout_measures_no_accuracy(problem):
    problem.evaluator.cache.clear()
    rollout(problem, lambda seen, _: np.zeros((len(seen), 1)), EPISODES)
    assert len(problem.evaluator.cache) == 0
