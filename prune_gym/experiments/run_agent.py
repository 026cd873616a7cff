"""One search: what ``train``, the benchmark, two stages and ``compress`` have in common."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.logger import KVWriter, Logger

from prune_gym._utils.interrupts import interrupts_wait
from prune_gym.agents import Settings, Trained, find_agent
from prune_gym.errors import RunError, UserFunctionTypeError
from prune_gym.experiments.folder import AGENT
from prune_gym.experiments.record import RecordRun


def run_agent(env: RecordRun, finished: Callable[[], None] = lambda: None) -> Trained | None:
    """Run the agent of a configuration; returns what it has learned.

    Args:
        env: the environment of the configuration, recording into the run's folder.
        finished: called after every finished episode.

    Raises:
        RunError: the agent goes on after its last episode.
    """
    config, logger = env.folder.config, Logger(None, [_OnBoard(env)])
    settings = Settings(config.episodes, config.seed, config.preference, logger)
    return find_agent(config.agent)(_Watched(env, finished), settings)


def save_results(env: RecordRun, trained: Trained | None) -> None:
    """Write the front and the learned agent into the run folder.

    Raises:
        UserFunctionTypeError: the agent returned something that cannot be saved.
    """
    env.write_front()
    if trained is not None:
        if not isinstance(trained, Trained):
            raise UserFunctionTypeError(
                "the front is written, but the agent returned a "
                f"{type(trained).__name__}; expected None, or an object with save(path)"
            )
        partial = env.folder.path / ".agent.zip"
        trained.save(partial)
        partial.replace(env.folder.path / AGENT)


class _Watched(gym.Wrapper):
    """Calls back after every finished episode, and lets no agent play more than its share."""

    def __init__(self, env: RecordRun, finished: Callable[[], None]) -> None:
        super().__init__(env)
        self._record, self._config, self._finished = env, env.folder.config, finished

    def step(self, action: Any) -> Any:
        if self._record.episode >= self._config.episodes:
            raise RunError(
                f"agent {self._config.agent} goes on after the {self._config.episodes} "
                "episodes of its settings; what it has played is kept, and --resume takes it from "
                "there once the agent stops in time"
            )
        result = self.env.step(action)
        if result[2]:
            self._finished()
        return result


class _OnBoard(KVWriter):
    """Writes an agent's own figures into the run's TensorBoard file, over episodes."""

    def __init__(self, env: RecordRun) -> None:
        self._env = env

    def write(self, key_values: dict, key_excluded: dict, step: int = 0) -> None:
        with interrupts_wait():
            for key, value in key_values.items():
                if key.startswith("train/"):
                    self._env.writer.add_scalar(key, value, self._env.episode)

    def close(self) -> None:
        """Leave the file to the run."""
