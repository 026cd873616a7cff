"""Playing episodes."""

import contextlib
import warnings

import gymnasium as gym
import numpy as np


def play(env, action=None, seed=0):
    """Play one episode; ``action`` is a function of the step's number, or None for random."""
    env.action_space.seed(seed)
    observations, rewards, infos = [env.reset(seed=seed)[0]], [], []
    terminated, step = False, 0
    while not terminated:
        chosen = env.action_space.sample() if action is None else action(step)
        observation, reward, terminated, truncated, info = env.step(chosen)
        assert terminated in (True, False) and truncated is False
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
        step += 1
    return np.array(observations), np.array(rewards), infos


@contextlib.contextmanager
def strict_checks():
    """Make errors of the checkers' warnings, but for two that do not apply."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The checker knows no vector rewards, and a scalar id is a wrapped environment.
        warnings.filterwarnings("ignore", message=r".*The reward returned by `step\(\)`.*")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        yield


def constant(value):
    return lambda step: np.array([value], dtype=np.float32)


class Evaluated(gym.Wrapper):
    """Keeps the values of every finished episode."""

    def __init__(self, env):
        super().__init__(env)
        self.values = []

    def step(self, action):
        result = self.env.step(action)
        if result[2]:
            self.values.append(self.unwrapped.problem.values_of(result[4]["strategy"]))
        return result
