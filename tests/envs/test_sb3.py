import warnings

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env

from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import PreferenceConditioned, ScalarReward

OPTIONS = {
    "DDPG": {"learning_starts": 20, "batch_size": 16},
    "TD3": {"learning_starts": 20, "batch_size": 16},
    "SAC": {"learning_starts": 20, "batch_size": 16},
    "PPO": {"n_steps": 16, "batch_size": 16},
    "DQN": {"learning_starts": 20, "batch_size": 16, "policy_kwargs": {"net_arch": [16]}},
}


@pytest.mark.parametrize("wrapper", [ScalarReward, PreferenceConditioned])
@pytest.mark.parametrize("name", OPTIONS)
def test_learns_without_a_warning(name, wrapper, tiny_task):
    discrete = 5 if name == "DQN" else None
    env = wrapper(compression_env(**tiny_task, discrete=discrete))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
        options = {"policy_kwargs": {"net_arch": [16]}} | OPTIONS[name]
        model = getattr(stable_baselines3, name)("MlpPolicy", env, seed=0, **options)
        before = [p.detach().clone() for p in model.policy.parameters()]
        model.learn(48)
    assert any((p != b).any() for p, b in zip(model.policy.parameters(), before, strict=True))
    obs, terminated = env.reset()[0], False
    while not terminated:
        action, _ = model.predict(obs, deterministic=True)
        assert env.action_space.contains(action)
        obs, _, terminated, _, info = env.step(action)
    assert "strategy" in info


@pytest.mark.parametrize("wrapper", [ScalarReward, PreferenceConditioned])
def test_several_environments_of_ones_own(wrapper, tiny_task):
    envs = make_vec_env(lambda: wrapper(compression_env(**tiny_task)), n_envs=2, seed=0)
    model = stable_baselines3.PPO("MlpPolicy", envs, n_steps=9, batch_size=18, seed=0)
    model.learn(36)
    assert len(model.ep_info_buffer) == 12


def test_several_environments_by_id():
    envs = make_vec_env("ChannelPrune-VGG16-Scalar-v0", n_envs=2, seed=0)
    envs.reset()
    for _ in range(13):
        _, rewards, dones, infos = envs.step(np.full((2, 1), -1.0, np.float32))
    assert rewards.shape == (2,) and rewards[0] == rewards[1] > 0
    assert dones.all() and all("accuracy" in info and "episode" in info for info in infos)
    assert not any(info["TimeLimit.truncated"] for info in infos)


def test_a_learned_policy_is_no_constant_of_the_seed(tiny_task):
    """Two runs of one seed give the same policy, another seed another one."""

    def learn(seed):
        env = ScalarReward(compression_env(**tiny_task))
        model = stable_baselines3.SAC(
            "MlpPolicy", env, seed=seed, policy_kwargs={"net_arch": [16]}, **OPTIONS["SAC"]
        )
        model.learn(40)
        return model.predict(env.reset()[0], deterministic=True)[0]

    assert learn(0) == learn(0) != learn(1)
