import gymnasium as gym
import numpy as np
import pytest
from four_classes import TINY_OBJECTIVES
from playing import constant, play

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import compression_env
from prune_gym.envs.wrappers import PreferenceConditioned, ScalarReward
from prune_gym.errors import UserError


def test_scalar_reward_weighs_the_vector(tiny):
    env = ScalarReward(tiny, {"accuracy": 3.0, "memory": 1.0})
    _, rewards, infos = play(env, constant(0.3))
    for reward, info in zip(rewards, infos, strict=True):
        assert info["weights"].tolist() == [0.75, 0, 0, 0.25]
        vector = info["vector_reward"].astype(np.float64)
        assert reward == 0.75 * vector[0] + 0.25 * vector[3]
    assert isinstance(env.step.__self__.unwrapped, CompressionEnv)


def test_scalar_reward_is_a_python_float_by_balanced_weights(tiny):
    env = ScalarReward(tiny)
    env.reset()
    _, reward, _, _, info = env.step(np.array([-1.0], np.float32))
    assert type(reward) is float
    np.testing.assert_allclose(info["weights"], [1 / 2, 1 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize("wrapper", [ScalarReward, PreferenceConditioned])
def test_libraries_that_ask_are_told_of_one_number_as_the_reward(wrapper, tiny):
    env = wrapper(tiny)
    env.reset()
    reward = env.step(np.array([-1.0], np.float32))[1]
    assert env.get_wrapper_attr("reward_space").contains(np.float32(reward))


def test_infos_have_their_own_copy_of_the_weights(tiny):
    env = ScalarReward(tiny, [1.0, 1.0, 0.0, 0.0])
    _, _, infos = play(env, constant(0.0))
    infos[0]["weights"][:] = 7.0
    infos[0]["vector_reward"][:] = 7.0
    assert infos[1]["weights"].tolist() == [0.5, 0.5, 0, 0]
    assert play(env, constant(0.0))[2][0]["weights"].tolist() == [0.5, 0.5, 0, 0]


def test_the_callers_weights_are_copied(tiny):
    weights = [1.0, 0.0, 0.0, 0.0]
    env = ScalarReward(tiny, weights)
    before = play(env, constant(0.0))[1]
    weights[:] = [0.0, 1.0, 1.0, 1.0]
    np.testing.assert_array_equal(play(env, constant(0.0))[1], before)


def test_preference_is_observed_and_weighs(tiny):
    env = PreferenceConditioned(tiny)
    observations, rewards, infos = play(env, constant(0.3), seed=1)
    preference = infos[0]["preference"]
    assert preference.shape == (4,) and preference.sum() == pytest.approx(1)
    assert (preference >= 0).all()
    np.testing.assert_array_equal(observations[:, -4:], [preference.astype(np.float32)] * 4)
    assert all(env.observation_space.contains(observation) for observation in observations)
    plain, _, _ = play(tiny, constant(0.3))
    np.testing.assert_array_equal(observations[:, :-4], plain)
    expected = [preference @ info["vector_reward"].astype(np.float64) for info in infos]
    np.testing.assert_allclose(rewards, expected, rtol=1e-12)


def test_preferences_are_drawn_anew_and_by_the_seed(tiny):
    env = PreferenceConditioned(tiny)
    first = env.reset(seed=4)[1]["preference"]
    second = env.reset()[1]["preference"]
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(env.reset(seed=4)[1]["preference"], first)
    np.testing.assert_array_equal(env.reset()[1]["preference"], second)


def test_a_preference_can_be_asked_for(tiny):
    env = PreferenceConditioned(tiny)
    obs, info = env.reset(options={"preference": {"accuracy": 3, "flops": 1}})
    assert info["preference"].tolist() == obs[-4:].tolist() == [0.75, 0.25, 0, 0]
    with pytest.raises(ValueError, match="did you mean 'flops'"):
        env.reset(options={"preference": {"flop": 1}})
    with pytest.raises(UserError, match="'preferense'; 'preference'"):
        env.reset(options={"preferense": {"flops": 1}})
    with pytest.raises(UserError, match="PreferenceConditioned"):
        tiny.reset(options={"preference": {"flops": 1}})


def test_preferences_follow_the_priorities(tiny):
    for priorities, mean in [
        (None, [1 / 2, 1 / 6, 1 / 6, 1 / 6]),
        ({"accuracy": 1, "flops": 8, "params": 0.5, "memory": 0.5}, [0.1, 0.8, 0.05, 0.05]),
    ]:
        env = PreferenceConditioned(tiny, priorities)
        env.reset(seed=0)
        drawn = [env.reset()[1]["preference"] for _ in range(1500)]
        np.testing.assert_allclose(np.mean(drawn, axis=0), mean, atol=0.04)


def test_masks_pass_through(tiny_task):
    for wrapper in (ScalarReward, PreferenceConditioned):
        env = wrapper(compression_env(**tiny_task, discrete=5))
        env.reset()
        assert env.action_masks().tolist() == [True] * 5


def test_scalar_ids_are_the_wrapped_vector_ids(env):
    scalar = gym.make("ChannelPrune-VGG16-Scalar-v0")
    _, rewards, infos = play(scalar, constant(-1.0))
    _, vectors, _ = play(env, constant(-1.0))
    np.testing.assert_array_equal([info["vector_reward"] for info in infos], vectors)
    np.testing.assert_allclose(rewards, vectors @ [1 / 2, 1 / 6, 1 / 6, 1 / 6], rtol=1e-6)


@pytest.mark.parametrize("wrapper", [ScalarReward, PreferenceConditioned])
def test_a_scalar_reward_is_not_weighed_again(wrapper):
    with pytest.raises(UserError, match="-Scalar"):
        wrapper(gym.make("ChannelPrune-VGG16-Scalar-v0"))


def test_objectives_have_names_units_and_directions(tiny):
    assert tuple(objective.name for objective in tiny.objectives) == TINY_OBJECTIVES
    assert [objective.direction for objective in tiny.objectives] == [1, -1, -1, -1]
    assert all(objective.unit and objective.deterministic for objective in tiny.objectives)
    assert not any(objective.platform_dependent for objective in tiny.objectives)
