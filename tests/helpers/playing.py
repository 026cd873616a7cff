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


class Recorded(gym.Wrapper):
    """Keeps the actions and the last info of every finished episode."""

    def __init__(self, env):
        super().__init__(env)
        self.actions, self.infos = [], []

    def reset(self, **kwargs):
        self._current = []
        return self.env.reset(**kwargs)

    def step(self, action):
        self._current.append(np.asarray(action).item())
        result = self.env.step(action)
        if result[2]:
            self.actions.append(self._current)
            self.infos.append(result[4])
        return result

    @property
    def values(self):
        """What every episode decided, a tuple each."""
        values_of = self.unwrapped.problem.values_of
        return [tuple(values_of(info["strategy"]).tolist()) for info in self.infos]
