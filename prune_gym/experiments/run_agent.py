"""One search: what ``train.py``, the benchmark, two stages and ``compress`` have in common."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.logger import KVWriter, Logger

from prune_gym._utils.version import __version__
from prune_gym.agents import Settings, Trained, find_agent
from prune_gym.errors import RunError, UserFunctionTypeError
from prune_gym.experiments.record import RecordRun


def configuration(
    env: str,
    agent: str,
    episodes: int,
    seed: int,
    *,
    env_kwargs: dict[str, Any] | None = None,
    preference: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Return what determines a run, as plain data: the same gives the same search."""
    return {
        "env": env,
        "env_kwargs": env_kwargs or {},
        "agent": agent,
        "episodes": episodes,
        "seed": seed,
        "preference": preference,
        "version": __version__,
    }


def play(
    env: RecordRun, config: Mapping[str, Any], finished: Callable[[], None] = lambda: None
) -> Trained | None:
    """Let the agent of a configuration search; returns what it has learned.

    Args:
        env: the environment of the configuration, recording.
        config: what determines the run; read are ``agent``, ``episodes``, ``seed`` and
            ``preference``.
        finished: called after every finished episode.

    Raises:
        RunError: the agent goes on after its last episode.
    """
    logger = Logger(None, [_OnBoard(env)])
    settings = Settings(config["episodes"], config["seed"], config["preference"], logger)
    return find_agent(config["agent"])(_Watched(env, config, finished), settings)


def keep(env: RecordRun, trained: Trained | None) -> None:
    """Write the front and the learned agent into the run folder.

    Raises:
        WrongKindError: the agent returned something that cannot be saved.
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
        partial.replace(env.folder.path / "agent.zip")


class _Watched(gym.Wrapper):
    """Calls back after every finished episode, and lets no agent play more than its share."""

    def __init__(
        self, env: RecordRun, config: Mapping[str, Any], finished: Callable[[], None]
    ) -> None:
        super().__init__(env)
        self._record, self._config, self._finished = env, config, finished

    def step(self, action: Any) -> Any:
        if self._record.episode >= self._config["episodes"]:
            raise RunError(
                f"agent {self._config['agent']} goes on after the {self._config['episodes']} "
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
        for key, value in key_values.items():
            if key.startswith("train/"):
                self._env.writer.add_scalar(key, value, self._env.episode)

    def close(self) -> None:
        """Leave the file to the run."""
