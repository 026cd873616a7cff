"""Recording a search: journal, TensorBoard and front of everything that an agent evaluates."""

import contextlib
import csv
import io
import json
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from prune_gym._utils.checked_lines import checked_line
from prune_gym._utils.interrupts import interrupts_wait
from prune_gym._utils.paths import write_atomically
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy, evaluated_from_dict
from prune_gym.experiments.folder import EVENTS, UNIFORM, RunFolder
from prune_gym.experiments.journal import read_journal
from prune_gym.experiments.plots import front_figure
from prune_gym.experiments.results import check_task, front_files, write_task
from prune_gym.experiments.run_config import RunConfig
from prune_gym.experiments.uniform_sweep import UniformSweep
from prune_gym.objectives.objective import episode_return, weights_array
from prune_gym.objectives.pareto import hypervolume, non_dominated
from prune_gym.objectives.preferences import balanced
from prune_gym.objectives.selection import knee_point

# Why a search takes another course than the recorded one.
OTHERWISE = (
    "another version, processor or number of threads, or a cost that is measured by the clock"
)
LAST = 100  # episodes that the mean reward is over, as Stable-Baselines3 has it


class RecordRun(gym.Wrapper):
    """Record every finished episode of a vector environment: journal, TensorBoard and front."""

    def __init__(self, env: gym.Env, folder: RunFolder, image_every: int = 25) -> None:
        """Record into ``folder``; accuracies that its journal holds are not evaluated again.

        Raises:
            RunError: the folder's run is of other weights or data.
            UserError: its journal holds something else than evaluated strategies.
        """
        super().__init__(env)
        self.core = cast(CompressionEnv, env.unwrapped)
        self.problem = self.core.problem
        self.folder, self._image_every = folder, image_every
        self._recorded = _typed(folder.journal.records, folder.journal.path)
        earlier = _typed(folder.journal.earlier(), folder.journal.path)
        uniform = _typed(read_journal(folder.path / UNIFORM)[0], folder.path / UNIFORM)
        if known := [*earlier, *uniform, *self._recorded]:
            check_task(folder.path, self.core)
        self._know(known)
        # TensorBoard's file is written again as the run is played again, and replaces these then.
        self._stale = list(folder.path.glob(EVENTS))
        names = [objective.name for objective in self.problem.objectives]
        self._weights = weights_array(folder.config.preference or balanced(names), names)
        self.writer = SummaryWriter(str(folder.path))
        self._add_hparams(folder.config)
        self._episodes: list[tuple[EvaluatedStrategy, np.ndarray]] = []
        self._uniform = UniformSweep(self.core)
        self._on_front = np.zeros(0, dtype=bool)
        self.hypervolume = 0.0
        self._started = time.perf_counter()
        write_task(folder.path, self.core)

    def _know(self, evaluated: Iterable[EvaluatedStrategy]) -> None:
        """Give the evaluator the accuracies that are recorded."""
        for each in evaluated:
            try:
                key = self.problem.configure(each.strategy).key()
            except ValueError:
                continue  # of another course of the run: it is told when its turn comes
            self.problem.evaluator.cache.put(key, each.metrics["accuracy"])

    @property
    def replaying(self) -> bool:
        """Whether the journal holds more episodes than were played again so far."""
        return self.episode < len(self._recorded)

    @property
    def episode(self) -> int:
        """Finished episodes."""
        return len(self._episodes)

    @property
    def records(self) -> list[EvaluatedStrategy]:
        """The strategies of the finished episodes."""
        return [record for record, _ in self._episodes]

    @property
    def returns(self) -> list[np.ndarray]:
        """The finished episodes' returns, ``(k,)`` each."""
        return [returned for _, returned in self._episodes]

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        self._started = time.perf_counter()
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """Step; a finished episode is on the disk before this returns."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            with interrupts_wait():
                self._finish(info)
        return obs, reward, terminated, truncated, info

    def _finish(self, info: dict[str, Any]) -> None:
        # Now, as others write into their infos, such as SB3's Monitor.
        record = evaluated_from_dict(info, "info of the last step")
        self._keep(record)
        returned = episode_return(record.metrics, self.problem.original, self.problem.objectives)
        self._episodes.append((record, returned))
        self._uniform.add(record)
        self.hypervolume = hypervolume(
            np.array(self.returns)[self.on_front()], self.problem.reference_point
        )
        try:
            self._log(record)
        except OSError as error:
            warnings.warn(f"TensorBoard's file cannot be written ({error})", stacklevel=2)
        while self._stale and not self.replaying:
            self._stale.pop().unlink()

    def _keep(self, record: EvaluatedStrategy) -> None:
        """Put a finished episode into the journal, unless it is played again from there."""
        if self.replaying:
            if self._recorded[self.episode].strategy == record.strategy:
                return
            self._recorded = []
            journal = self.folder.journal
            why = "lines of it are damaged" if journal.warning else OTHERWISE
            previous = journal.start_anew([each.as_dict() for each in self.records])
            warnings.warn(
                f"from episode {self.episode + 1} on this run differs from the recorded one ({why})"
                "; recorded accuracies are still "
                f"used where the same strategy comes up, and the record is kept in {previous}",
                stacklevel=2,
            )
        self.folder.journal.append(record.as_dict())

    def _add_hparams(self, config: RunConfig) -> None:
        """Write the configuration for TensorBoard's table of hyperparameters."""
        values = {
            name: value if isinstance(value, int | str) else json.dumps(value)
            for name, value in config.as_dict().items()
        }
        assert self.writer.file_writer is not None
        for summary in hparams(values, {"front/hypervolume": 0.0}):
            self.writer.file_writer.add_summary(summary)

    def _log(self, record: EvaluatedStrategy) -> None:
        episode, add = self.episode, self.writer.add_scalar
        for objective, value in zip(self.problem.objectives, self._episodes[-1][1], strict=True):
            add(f"reward/{objective.label}", value, episode)
        for metric, value in record.metrics.items():
            name = self.problem.evaluator.data.metric_name if metric == "accuracy" else metric
            add(f"metrics/{name}", value, episode)
        add("rollout/ep_rew_mean", np.mean(self.returns[-LAST:], axis=0) @ self._weights, episode)
        add("front/hypervolume", self.hypervolume, episode)
        add("front/size", int(self.on_front().sum()), episode)
        add("time/seconds_per_episode", time.perf_counter() - self._started, episode)
        shares: dict[str, list[float]] = {}
        for decision in record.strategy.decisions:
            share = decision["value"] / decision["of"]
            shares.setdefault(decision["kind"], []).append(share)
            add(f"strategy/{decision['kind']}/{decision['name']}", share, episode)
        for kind, values in shares.items():
            self.writer.add_histogram(f"strategy/{kind}", np.array(values), episode, bins="fd")
        if episode % self._image_every == 0:
            self._show(self._picture())

    def on_front(self) -> np.ndarray:
        """Return which finished episodes are on the front, ``bool (episodes,)``."""
        if len(self._on_front) != self.episode:
            self._on_front = non_dominated(np.array(self.returns))
        return self._on_front

    def complete_uniform_sweep(self) -> int:
        """Evaluate what the search left out of the pictures' reference; returns how many."""
        return self._uniform.complete()

    def figure(self):
        """Draw everything evaluated, the front, and what is evaluated of the uniform sweep."""
        spec = self.core.spec
        title = f"{spec.id if spec else 'search'}: {self.episode} strategies evaluated"
        objectives, original = self.problem.objectives, self.problem.original
        points, uniform = self._values(self.records), self._values(self._uniform.evaluated)
        return front_figure(title, objectives, points, self.on_front(), original, uniform)

    def _picture(self) -> bytes:
        """Return the figure as a PNG."""
        image = io.BytesIO()
        self.figure().savefig(image, format="png", dpi=120)
        return image.getvalue()

    def _show(self, picture: bytes) -> None:
        """Show the picture in TensorBoard, which would draw a figure again."""
        pixels = np.asarray(Image.open(io.BytesIO(picture)))
        self.writer.add_image("front", pixels, self.episode, dataformats="HWC")

    def _values(self, records: list[EvaluatedStrategy]) -> np.ndarray:
        """Return the objectives of strategies in natural units, ``(n, k)``."""
        metrics = [objective.metric for objective in self.problem.objectives]
        values = [[each.metrics[metric] for metric in metrics] for each in records]
        return np.array(values).reshape(-1, len(metrics))

    def front(self) -> list[EvaluatedStrategy]:
        """Return the strategies on the front, most of the first objective first."""
        first = self.problem.objectives[0]
        chosen = [record for record, on in zip(self.records, self.on_front(), strict=True) if on]
        return sorted(chosen, key=lambda record: -first.direction * record.metrics[first.metric])

    def knee(self) -> EvaluatedStrategy:
        """Return the front's best-balanced strategy."""
        names = [objective.name for objective in self.problem.objectives]
        return self.records[knee_point(np.array(self.returns), names)]

    def write_front(self) -> None:
        """Write the front (a table, a picture, strategies as JSON) and the uniform sweep."""
        front = self.front()
        path, table = self.folder.path, io.StringIO()
        if not front:
            return
        metrics = list(front[0].metrics)
        keys = [(decision.kind, decision.name) for decision in self.problem.decisions]
        rows = csv.writer(table)
        rows.writerow(["strategy", *metrics, *(" ".join(key) for key in keys)])
        for stale in front_files(path):
            stale.unlink()
        for number, record in enumerate(front):
            name = f"front/{number:03d}.json"
            record.strategy.save(path / name)
            values = [record.strategy.values.get(key, "") for key in keys]  # "" in a skipped block
            rows.writerow([name, *(record.metrics[metric] for metric in metrics), *values])
        write_atomically(path / "front.csv", table.getvalue().encode())
        uniform = (checked_line(each.as_dict()) for each in self._uniform.evaluated)
        write_atomically(path / UNIFORM, b"".join(uniform))
        picture = self._picture()
        write_atomically(path / "front.png", picture)
        self._show(picture)

    def close(self) -> None:
        """Close the folder first, then TensorBoard's file, which a full disk may refuse."""
        self.folder.close()
        with contextlib.suppress(OSError):
            self.writer.close()
        if self._stale:  # of a replay that was not finished: it holds less than what was there
            for partial in {*self.folder.path.glob(EVENTS)} - {*self._stale}:
                partial.unlink()
        super().close()


def _typed(records: list[dict[str, Any]], path: Path) -> list[EvaluatedStrategy]:
    return [evaluated_from_dict(record, str(path)) for record in records]
