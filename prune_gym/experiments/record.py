"""Recording a search: journal, TensorBoard and front of everything that an agent evaluates."""

import contextlib
import csv
import io
import json
import time
import warnings
from typing import Any, cast

import gymnasium as gym
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from prune_gym._utils.paths import write_atomically
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.plots import front_figure
from prune_gym.experiments.results import check_weights, front_files, write_task
from prune_gym.objectives.objective import episode_return
from prune_gym.objectives.pareto import hypervolume, non_dominated
from prune_gym.objectives.selection import knee_point
from prune_gym.search_space.strategy import strategy_from_dict

# What makes a search take another course than the recorded one.
OTHERWISE = (
    "another version, processor or number of threads, or a cost that is measured by the clock"
)
EVENTS = "events.out.tfevents.*"


class RecordRun(gym.Wrapper):
    """Keeps every finished episode: journal, TensorBoard, front; wraps the vector environment."""

    def __init__(self, env: gym.Env, folder: RunFolder, image_every: int = 25) -> None:
        """Record into ``folder``; accuracies that it already holds are not measured again."""
        super().__init__(env)
        self.core = cast(CompressionEnv, env.unwrapped)
        self.problem = self.core.problem
        self.folder, self._image_every = folder, image_every
        self._recorded = folder.journal.records
        if self._recorded:
            check_weights(folder.path, self.core)
        for record in [*folder.journal.earlier(), *self._recorded]:
            try:
                key = self.problem.configure(record["strategy"]).key()
            except ValueError:
                continue  # of another course of the run: it is told when its turn comes
            self.problem.evaluator.cache.put(key, record["accuracy"])
        # TensorBoard's file is written again as the run is played again, and replaces these then.
        self._stale = list(folder.path.glob(EVENTS))
        self.writer = SummaryWriter(str(folder.path))
        self._episodes: list[tuple[dict[str, Any], np.ndarray]] = []
        self.hypervolume = 0.0
        self._started = time.perf_counter()
        write_task(folder.path, self.core)

    @property
    def replaying(self) -> bool:
        """Whether the journal holds more episodes than were played again so far."""
        return self.episode < len(self._recorded)

    @property
    def episode(self) -> int:
        """Finished episodes."""
        return len(self._episodes)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What the finished episodes came to: metrics in natural units, and the strategy."""
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
            self._finish(info)
        return obs, reward, terminated, truncated, info

    def _finish(self, info: dict[str, Any]) -> None:
        self._keep(info)
        returned = episode_return(info, self.problem.original, self.problem.objectives)
        # Others write into their infos, SB3's Monitor, say. Ctrl-C may come between any two lines.
        self._episodes.append((dict(info), returned))
        front = np.array(self.returns)[self.on_front()]
        self.hypervolume = hypervolume(front, self.problem.reference_point)
        try:
            self._log(info)
        except OSError as error:
            warnings.warn(f"TensorBoard's file cannot be written ({error})", stacklevel=2)
        while self._stale and not self.replaying:
            self._stale.pop().unlink()

    def _keep(self, info: dict[str, Any]) -> None:
        """Put a finished episode into the journal, unless it is played again from there."""
        if self.replaying:
            # As the journal holds it: JSON has no tuples.
            if self._recorded[self.episode]["strategy"] == json.loads(json.dumps(info["strategy"])):
                return
            self._recorded = []
            journal = self.folder.journal
            why = "lines of it are damaged" if journal.warning else OTHERWISE
            previous = journal.start_anew(self.records)
            warnings.warn(
                f"from episode {self.episode + 1} on this run differs from the recorded one ({why})"
                "; recorded accuracies are still "
                f"used where the same strategy comes up, and the record is kept in {previous}",
                stacklevel=2,
            )
        self.folder.journal.append(info)

    def _log(self, info: dict[str, Any]) -> None:
        episode, add = self.episode, self.writer.add_scalar
        for objective, value in zip(self.problem.objectives, self._episodes[-1][1], strict=True):
            add(f"reward/{objective.label}", value, episode)
        for metric, value in info.items():
            name = self.problem.evaluator.data.metric_name if metric == "accuracy" else metric
            if metric != "strategy":
                add(f"metrics/{name}", value, episode)
        add("front/hypervolume", self.hypervolume, episode)
        add("front/size", int(self.on_front().sum()), episode)
        add("time/seconds_per_episode", time.perf_counter() - self._started, episode)
        shares: dict[str, list[float]] = {}
        for decision in info["strategy"]["decisions"]:
            share = decision["value"] / decision["of"]
            shares.setdefault(decision["kind"], []).append(share)
            add(f"strategy/{decision['kind']}/{decision['name']}", share, episode)
        for kind, values in shares.items():
            self.writer.add_histogram(f"strategy/{kind}", np.array(values), episode, bins="fd")
        if episode % self._image_every == 0:
            self.writer.add_figure("front", self.figure(), episode)

    def on_front(self) -> np.ndarray:
        """Return which finished episodes are on the front, ``bool (episodes,)``."""
        return non_dominated(np.array(self.returns))

    def figure(self):
        """Draw everything evaluated and the front."""
        metrics = [objective.metric for objective in self.problem.objectives]
        points = np.array([[record[metric] for metric in metrics] for record in self.records])
        spec = self.core.spec
        title = f"{spec.id if spec else 'search'}: {self.episode} strategies evaluated"
        objectives, original = self.problem.objectives, self.problem.original
        return front_figure(title, objectives, points, self.on_front(), original)

    def front(self) -> list[dict[str, Any]]:
        """Return the records on the front, most of the first objective first."""
        first = self.problem.objectives[0]
        chosen = [record for record, on in zip(self.records, self.on_front(), strict=True) if on]
        return sorted(chosen, key=lambda record: -first.direction * record[first.metric])

    def knee(self) -> dict[str, Any]:
        """Return the record of the front's best-balanced strategy."""
        names = [objective.name for objective in self.problem.objectives]
        return self.records[knee_point(np.array(self.returns), names)]

    def write_front(self) -> None:
        """Write ``front.csv``, ``front.png`` and one strategy JSON a point under ``front/``."""
        front = self.front()
        path, table = self.folder.path, io.StringIO()
        if not front:
            return
        metrics = [name for name in front[0] if name != "strategy"]
        keys = [(decision.kind, decision.name) for decision in self.problem.decisions]
        rows = csv.writer(table)
        rows.writerow(["strategy", *metrics, *(" ".join(key) for key in keys)])
        for stale in front_files(path):
            stale.unlink()
        for number, record in enumerate(front):
            name = f"front/{number:03d}.json"
            strategy = strategy_from_dict(record["strategy"])
            strategy.save(path / name)
            values = [strategy.values.get(key, "") for key in keys]  # "" in a skipped block
            rows.writerow([name, *(record[metric] for metric in metrics), *values])
        write_atomically(path / "front.csv", table.getvalue().encode())
        figure, image = self.figure(), io.BytesIO()
        figure.savefig(image, format="png", dpi=120)
        write_atomically(path / "front.png", image.getvalue())
        self.writer.add_figure("front", figure, self.episode)

    def close(self) -> None:
        """Close the folder first, then TensorBoard's file, which a full disk may refuse."""
        self.folder.close()
        with contextlib.suppress(OSError):
            self.writer.close()
        if self._stale:  # of a replay that was not finished: it holds less than what was there
            for partial in {*self.folder.path.glob(EVENTS)} - {*self._stale}:
                partial.unlink()
        super().close()
