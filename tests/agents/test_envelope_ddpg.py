from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from prune_gym.agents.envelope_ddpg.buffers import VectorReplayBuffer
from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG
from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import PreferenceConditioned
from prune_gym.errors import UserError


class Trade(gym.Env):
    """Two steps; each divides one unit between two objectives: a reward of (x, 1 - x^2)."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    objectives = (SimpleNamespace(name="first"), SimpleNamespace(name="second"))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        share = (float(action[0]) + 1) / 2
        reward = np.array([share, 1 - share**2], np.float32) / 2
        return np.full(1, self.steps / 2, np.float32), reward, self.steps == 2, False, {}


def learned(seed=0, steps=400):
    env = PreferenceConditioned(Trade(), {"first": 1, "second": 1})
    return EnvelopeDDPG(env=env, learning_starts=100, seed=seed).learn(steps)


@pytest.fixture(scope="module")
def agent():
    return learned()


def ask(agent, first, observation=0.0):
    preference = {"first": first, "second": 1 - first}
    return float(agent.predict(np.array([observation], np.float32), preference)[0][0])


@pytest.mark.ci
def test_one_agent_answers_for_every_preference(agent):
    """The best share for a weight w of the first objective is w / (2 (1 - w)), at most 1."""
    answers = [(ask(agent, first) + 1) / 2 for first in (0.05, 0.5, 0.95)]
    assert answers[0] < 0.3 and answers[2] > 0.8
    assert answers[0] < answers[1] < answers[2] + 1e-6
    assert 0.25 < answers[1] < 0.85


def test_the_policys_name_is_that_of_any_sb3_class(tiny):
    agent = EnvelopeDDPG("MlpPolicy", PreferenceConditioned(tiny), learning_starts=3, seed=0)
    assert agent.learn(6).predict(tiny.reset()[0], {"accuracy": 1.0})[0].shape == (1,)


@pytest.mark.ci
def test_a_saturated_actor_recovers():
    """Far out tanh is flat: without its own gradient there the actor answers -1 for ever."""
    agent = learned()
    with torch.no_grad():
        agent.actor.mu[-2].bias.fill_(-40.0)
    assert ask(agent, 0.05) == ask(agent, 0.95) == -1
    agent.learn(600, reset_num_timesteps=False)
    assert ask(agent, 0.05) < 0 < ask(agent, 0.95)


def test_preferences_by_name_by_order_and_in_the_observation(agent):
    observation = np.zeros(1, np.float32)
    by_name, _ = agent.predict(observation, {"second": 3.0, "first": 1.0})
    by_order, _ = agent.predict(observation, [0.25, 0.75])
    observed, _ = agent.predict(np.array([0, 0.25, 0.75], np.float32))
    assert by_name == by_order == observed
    batch, _ = agent.predict(np.zeros((5, 1), np.float32), [0.25, 0.75])
    assert batch.shape == (5, 1)
    np.testing.assert_allclose(batch, by_name[0], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="unknown objective 'frist'; did you mean 'first'"):
        agent.predict(observation, {"frist": 1.0})


def test_save_and_load_give_the_same_actions(agent, tmp_path):
    agent.save(tmp_path / "agent")
    env = PreferenceConditioned(Trade(), {"first": 1, "second": 1})
    for again in (
        EnvelopeDDPG.load(tmp_path / "agent"),
        EnvelopeDDPG.load(tmp_path / "agent", env),
    ):
        assert [ask(again, w) for w in (0.1, 0.9)] == [ask(agent, w) for w in (0.1, 0.9)]
    before = ask(again, 0.5)
    again.learn(150)
    assert ask(again, 0.5) != before


@pytest.mark.ci
def test_a_seed_determines_the_agent(agent):
    again, other = learned(steps=160), learned(seed=1, steps=160)
    same = learned(steps=160)
    assert ask(again, 0.3) == ask(same, 0.3) != ask(other, 0.3)


def test_the_envelope_target_against_a_brute_force(agent):
    """y = r + Q'_i(s', mu'(s', w*), w*): w* among the sampled w' and w itself, i the smaller."""
    rng = np.random.default_rng(0)
    size, k = 6, 2

    def random(*shape):
        return torch.tensor(rng.random(shape), dtype=torch.float32)

    dones = torch.tensor([[0.0], [0.0], [1.0], [0.0], [1.0], [0.0]])
    states = torch.cat([random(size, 1), random(size, k)], dim=1)
    batch = ReplayBufferSamples(states, random(size, 1), random(size, 3), dones, random(size, k))
    w = torch.distributions.Dirichlet(torch.ones(k)).sample((size * agent.relabelled,))
    np.random.seed(7)
    target = agent.envelope_target(batch, w)
    np.random.seed(7)
    others = agent.sample_preferences(agent.envelope)

    def value(state, w_asked, w_seen):
        """The vector of the critic that promises less to ``w_seen``."""
        row = torch.cat([state[:1], w_asked])[None]
        with torch.no_grad():
            both = [q[0] for q in agent.critic_target(row, agent.actor_target(row))]
        return min(both, key=lambda q: float(q @ w_seen))

    for row in range(size * agent.relabelled):
        i = row % size
        expected = batch.rewards[i].clone()
        if not dones[i]:
            state = batch.next_observations[i]
            candidates = [value(state, each, w[row]) for each in (w[row], *others)]
            expected += max(candidates, key=lambda q: float(q @ w[row]))
        torch.testing.assert_close(target[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.ci
def test_learns_on_a_real_network(tiny_task):
    env = PreferenceConditioned(compression_env(**tiny_task))
    agent = EnvelopeDDPG(env=env, learning_starts=60, seed=0).learn(240)

    def result(preference):
        core = env.unwrapped
        (observation, _), terminated = core.reset(), False
        while not terminated:
            action = agent.predict(observation, preference)[0]
            observation, _, terminated, _, info = core.step(action)
        return info

    accurate, cheap = result({"accuracy": 1.0}), result({"flops": 1.0, "params": 1.0})
    assert cheap["flops"] < accurate["flops"]
    assert accurate["accuracy"] >= cheap["accuracy"]


def test_an_environment_without_preferences_is_refused(tiny):
    with pytest.raises(UserError, match="PreferenceConditioned"):
        EnvelopeDDPG(env=tiny)


def test_several_environments_without_preferences_are_refused(tiny_task):
    envs = DummyVecEnv([lambda: compression_env(**tiny_task)] * 2)
    with pytest.raises(UserError, match="PreferenceConditioned"):
        EnvelopeDDPG(env=envs)


def of_two(steps, **options):
    """Return an agent that has learned on two environments at once."""
    priorities = {"first": 1, "second": 1}
    envs = DummyVecEnv([lambda: PreferenceConditioned(Trade(), priorities)] * 2)
    return EnvelopeDDPG(env=envs, seed=0, **options).learn(steps)


@pytest.mark.ci
def test_two_environments_at_once_are_learned_from():
    agent = of_two(600, learning_starts=100, gradient_steps=4)
    answers = [(ask(agent, first) + 1) / 2 for first in (0.05, 0.95)]
    assert answers[0] < 0.3 and answers[1] > 0.8


def test_each_of_two_environments_has_its_own_rewards():
    agent = of_two(40, learning_starts=40)
    buffer, k = agent.replay_buffer, 2
    size = buffer.pos
    assert size == 20
    seen = buffer.observations[:size, :, -k:]
    np.testing.assert_allclose(
        (seen * buffer.vectors[:size]).sum(-1), buffer.rewards[:size], rtol=1e-5
    )
    assert (buffer.vectors[:size, 0] != buffer.vectors[:size, 1]).any()
    # By hand: a reward of (x, 1 - x^2) / 2 for the share x = (a + 1) / 2.
    share = (buffer.actions[:size] + 1) / 2
    by_hand = np.concatenate([share, 1 - share**2], axis=-1) / 2
    np.testing.assert_allclose(buffer.vectors[:size], by_hand, rtol=1e-4, atol=1e-6)


def test_a_sample_is_one_transition_of_one_environment():
    agent = of_two(40, learning_starts=40)
    buffer = agent.replay_buffer
    number = np.arange(40, dtype=np.float32).reshape(20, 2, 1)
    for array in (buffer.observations, buffer.next_observations, buffer.actions, buffer.vectors):
        array[:20] = number
    batch = buffer.sample(200)
    drawn = batch.rewards[:, :1]
    for part in (batch.observations, batch.next_observations, batch.actions, batch.rewards):
        assert (part == drawn).all()
    assert len(drawn.unique()) > 30


def test_learns_on_two_real_environments(tiny_task):
    def make():
        return PreferenceConditioned(compression_env(**tiny_task))

    agent = EnvelopeDDPG(env=DummyVecEnv([make, make]), learning_starts=30, seed=0)
    before = [parameter.detach().clone() for parameter in agent.actor.parameters()]
    agent.learn(60)
    after = list(agent.actor.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert agent.num_timesteps == 60 and agent.replay_buffer.pos == 30
    np.testing.assert_array_equal(agent.replay_buffer.dones[:30].sum(0), [10, 10])


def trade():
    return PreferenceConditioned(Trade(), {"first": 3, "second": 1})


def test_environments_of_other_processes():
    envs = SubprocVecEnv([trade, trade])
    try:
        agent = EnvelopeDDPG(env=envs, learning_starts=10, seed=0).learn(20)
        assert agent.names == ["first", "second"]
        np.testing.assert_allclose(agent.concentration, [1.5, 0.5])
        assert agent.replay_buffer.vectors[:10].any(axis=(0, 2)).all()
    finally:
        envs.close()


def test_a_replay_buffer_is_extended_as_if_transition_by_transition():
    box, size = gym.spaces.Box(0, 1, (2,), np.float32), 7
    rng = np.random.default_rng(0)
    one, other = (VectorReplayBuffer(size, box, box, reward_dim=3) for _ in range(2))
    for count in (5, 4, 6):  # past the end twice
        seen, after, actions = rng.random((3, count, 2))
        vectors, ended = rng.random((count, 3)), rng.random(count) < 0.5
        one.extend(seen, after, actions, vectors, ended)
        for row in range(count):
            info = [{"vector_reward": vectors[row]}]
            other.add(seen[row], after[row], actions[row], np.zeros(1), ended[row : row + 1], info)
        assert one.size() == other.size()
    for name in ("observations", "next_observations", "actions", "vectors", "dones", "pos"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
