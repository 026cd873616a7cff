"""Other libraries' agents, loops and wrappers, used as their users do; nothing of ours but ids."""

import json
import subprocess
import sys

import gymnasium as gym
import mo_gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as vector_wrappers
from mo_gymnasium.wrappers.vector import MORecordEpisodeStatistics, MOSyncVectorEnv
from torch import nn
from torch.nn import functional as F

from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import ScalarReward

DECISIONS, OBJECTIVES = 3, 4


@pytest.fixture(scope="module", autouse=True)
def tiny_ids(tiny_task):
    """Register the tiny task, with a vector reward and with a scalar one."""

    def vector(**kwargs):
        return compression_env(**tiny_task | kwargs)

    def scalar(**kwargs):
        return ScalarReward(vector(**kwargs), {"accuracy": 0.2, "flops": 0.8})

    gym.register("Outside-v0", vector, disable_env_checker=True)
    gym.register("Outside-Scalar-v0", scalar)
    yield
    for name in ("Outside-v0", "Outside-Scalar-v0"):
        del gym.registry[name]


def final_returns(env, actions):
    """Play episodes of one action each; returns the statistics of each."""
    found = []
    for action in actions:
        env.reset(seed=0)
        terminated = False
        while not terminated:
            _, _, terminated, _, info = env.step(np.array([action], np.float32))
        found.append(info["episode"])
    return found


def test_mo_gymnasium_records_vector_returns():
    env = mo_gymnasium.wrappers.MORecordEpisodeStatistics(
        mo_gymnasium.make("Outside-v0"), gamma=0.5
    )
    least, most = final_returns(env, [-1.0, 1.0])
    assert least["r"].shape == (OBJECTIVES,) and least["l"] == DECISIONS
    assert (least["r"][1:] > most["r"][1:]).all() and np.allclose(most["r"][1:], 0)
    assert (least["dr"][1:] < least["r"][1:]).all()  # discounted, and every step saves something


def test_mo_gymnasium_normalises_and_clips():
    env = mo_gymnasium.make("Outside-v0")
    for index in range(OBJECTIVES):
        env = mo_gymnasium.wrappers.MOClipReward(env, idx=index, min_r=-0.2, max_r=0.2)
    env.reset(seed=0)
    rewards = [env.step(np.array([-1.0], np.float32))[1] for _ in range(DECISIONS)]
    assert np.max(rewards) == np.float32(0.2) and len({id(reward) for reward in rewards}) == 3
    env = mo_gymnasium.wrappers.MONormalizeReward(mo_gymnasium.make("Outside-v0"), idx=1)
    env.reset(seed=0)
    plain = mo_gymnasium.make("Outside-v0")
    plain.reset(seed=0)
    action = np.array([-1.0], np.float32)
    changed, as_it_was = env.step(action)[1], plain.step(action)[1]
    assert changed[1] != as_it_was[1] and (np.delete(changed, 1) == np.delete(as_it_was, 1)).all()


def test_mo_gymnasium_vector_environments():
    envs = MORecordEpisodeStatistics(
        MOSyncVectorEnv([lambda: gym.make("Outside-v0")] * 2), gamma=1.0
    )
    envs.reset(seed=0)
    total = np.zeros((2, OBJECTIVES))
    for _ in range(DECISIONS):
        _, rewards, terminated, _, infos = envs.step(np.array([[-1.0], [0.5]], np.float32))
        total += rewards
    assert terminated.all() and (total[0, 1:] > total[1, 1:]).all()
    np.testing.assert_allclose(infos["episode"]["r"], total, atol=1e-6)


def mlp(inputs, *outputs):
    return nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 1), *outputs)


def test_a_single_file_ddpg_learns():
    """A loop as in CleanRL: everything in one place, over ``gym.make_vec`` on a scalar id."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    envs = gym.make_vec(
        "Outside-Scalar-v0",
        num_envs=2,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        wrappers=[gym.wrappers.RecordEpisodeStatistics],
    )
    states, actions = envs.single_observation_space.shape[0], envs.single_action_space.shape[0]
    actor, critic = mlp(states, nn.Tanh()), mlp(states + actions)
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=1e-3)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    replay, returns = [], []
    obs, _ = envs.reset(seed=0)
    for step in range(200):
        with torch.no_grad():
            chosen = actor(torch.tensor(obs)).numpy() + rng.normal(0, 0.1, (2, 1))
        if step < 60:
            chosen = rng.uniform(-1, 1, (2, 1))
        chosen = np.clip(chosen, -1, 1).astype(np.float32)
        following, rewards, terminated, truncated, infos = envs.step(chosen)
        assert not truncated.any()
        for index in range(2):
            row = (obs[index], chosen[index], rewards[index], following[index], terminated[index])
            replay.append([torch.tensor(part, dtype=torch.float32) for part in row])
        if "final_info" in infos:
            returns.extend(infos["final_info"]["episode"]["r"])
        obs = following
        if step < 60:
            continue
        picked = [replay[i] for i in rng.integers(len(replay), size=64)]
        s, a, r, after, ended = (torch.stack(column) for column in zip(*picked, strict=True))
        with torch.no_grad():
            future = critic(torch.cat([after, actor(after)], 1))[:, 0]
            target = r + (1 - ended) * future
        loss = F.mse_loss(critic(torch.cat([s, a], 1))[:, 0], target)
        critic_optimizer.zero_grad()
        loss.backward()
        critic_optimizer.step()
        actor_optimizer.zero_grad()
        (-critic(torch.cat([s, actor(s)], 1)).mean()).backward()
        actor_optimizer.step()
    assert len(returns) == 2 * (200 // DECISIONS)
    assert np.mean(returns[-30:]) > np.mean(returns[:40]) + 0.1


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_vector_environments_as_rllib_makes_them(mode, tiny_task):
    """RLlib registers a creator of environments, makes vectors of it and wants lists of infos."""
    gym.register(
        "rllib-env-v0", lambda **kwargs: ScalarReward(compression_env(**tiny_task | kwargs))
    )
    envs = vector_wrappers.DictInfoToList(
        gym.make_vec(
            "rllib-env-v0",
            num_envs=3,
            vectorization_mode=gym.VectorizeMode.SYNC,
            vector_kwargs={"autoreset_mode": mode},
        )
    )
    del gym.registry["rllib-env-v0"]
    obs, infos = envs.reset(seed=0)
    assert obs.shape == (3, *envs.single_observation_space.shape) and infos == [{}, {}, {}]
    actions = np.array([[-1.0], [0.0], [1.0]], np.float32)
    for _ in range(DECISIONS):
        obs, rewards, terminated, truncated, infos = envs.step(actions)
    assert terminated.all() and not truncated.any() and rewards.dtype == np.float64
    last = [info.get("final_info", info) for info in infos]
    assert [len(info["vector_reward"]) for info in last] == [OBJECTIVES] * 3
    assert last[0]["flops"] < last[1]["flops"] < last[2]["flops"]
    obs, rewards, terminated, _, _ = envs.step(actions)
    assert not terminated.any()
    # The step after an episode's end resets in one mode, and decides in the other.
    assert (rewards == 0).all() == (mode is AutoresetMode.NEXT_STEP)


def test_asynchronous_vector_environments(tiny_task):
    envs = gym.vector.AsyncVectorEnv(
        [lambda: ScalarReward(compression_env(**tiny_task))] * 2, context="fork"
    )
    envs.reset(seed=0)
    for _ in range(DECISIONS):
        _, rewards, terminated, _, _ = envs.step(np.array([[-1.0], [1.0]], np.float32))
    envs.close()
    assert terminated.all() and rewards[0] != rewards[1]


@pytest.fixture
def morl(monkeypatch, tmp_path):
    """morl-baselines is heavy and stays optional; it saves into the current folder."""
    pytest.importorskip("morl_baselines")
    monkeypatch.chdir(tmp_path)
    env, other = gym.make("Outside-v0"), gym.make("Outside-v0")
    env.action_space.seed(0)
    return env, other


def test_capql_of_morl_baselines(morl):
    from morl_baselines.multi_policy.capql.capql import CAPQL

    env, other = morl
    agent = CAPQL(
        env, gamma=1.0, net_arch=[32], batch_size=16, learning_starts=24, log=False, seed=0
    )
    before = [p.detach().clone() for p in agent.policy.parameters()]
    agent.train(90, eval_env=other, ref_point=env.unwrapped.problem.reference_point, eval_freq=1000)
    assert any((p != b).any() for p, b in zip(agent.policy.parameters(), before, strict=True))
    action = agent.eval(other.reset(seed=0)[0], np.array([0.7, 0.1, 0.1, 0.1]))
    assert other.action_space.contains(np.asarray(action, dtype=np.float32))


def test_pcn_of_morl_baselines(morl):
    from morl_baselines.multi_policy.pcn.pcn import PCN

    env, other = morl
    agent = PCN(
        env, np.array([1.0, 1.0, 1.0, 1.0, 0.3]), batch_size=16, hidden_dim=16, log=False, seed=0
    )
    agent.train(
        60,
        eval_env=other,
        ref_point=env.unwrapped.problem.reference_point,
        num_er_episodes=10,
        num_step_episodes=2,
        num_model_updates=5,
        max_return=np.ones(OBJECTIVES, np.float32),
        num_points_pf=3,
    )
    returns, _, distances = agent.evaluate(other, np.ones(OBJECTIVES, np.float32), n=3)
    assert np.shape(returns)[1] == OBJECTIVES and np.isfinite(distances).all()
    assert (np.array(returns) <= 1).all() and (np.array(returns)[:, 0] > 0).all()


def test_forked_workers_of_a_threaded_process_score(subprocess_env):
    script = (
        "import gymnasium as gym, numpy as np, prune_gym, torch\n"
        "assert torch.get_num_threads() == 2\n"
        "kwargs = {'num_envs': 2, 'vectorization_mode': 'async'}\n"
        "envs = gym.make_vec('ChannelPrune-ResNet20-Scalar-v0', **kwargs)\n"
        "envs.reset(seed=0)\n"
        "ended = [False]\n"
        "while not any(ended):\n"
        "    _, reward, ended, *_ = envs.step(np.full((2, 1), -0.9, np.float32))\n"
        "envs.close()\n"
        "print(reward.tolist())\n"
    )
    variables = subprocess_env | {"OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    first, second = json.loads(ran.stdout)
    assert 0 < first == second < 1
