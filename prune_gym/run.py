"""A run folder: everything a search finds, kept so that it can be killed at any time.

``evaluations.jsonl`` is the checkpoint. It gets one line per finished episode, flushed to the disk,
with a checksum. A run is a deterministic function of its configuration and of the accuracies it is
told, so ``--resume`` plays it again from the start with the recorded accuracies in the memo: a
finished episode costs the agent's own computing and no evaluation, and what follows is what an
uninterrupted run does.
One mechanism serves every agent, and no agent has to know of it.
"""

import csv
import fcntl
import io
import json
import os
import time
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import gymnasium as gym
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from prune_gym.env import CompressionEnv
from prune_gym.pareto import hypervolume, non_dominated
from prune_gym.paths import write_atomically
from prune_gym.plots import front_figure
from prune_gym.strategy import strategy_from_dict

CONFIG, JOURNAL, LOCK = "config.json", "evaluations.jsonl", "lock"


class RunError(RuntimeError):
    """A run folder that cannot be used; the message says what to do."""


class RunFolder:
    """Owns one folder: its lock, its configuration and its journal."""

    def __init__(self, path: Path, config: dict[str, Any], resume: bool) -> None:
        """Open the folder for a new run, or for going on with the one in it.

        Raises:
            RunError: another process uses it; it holds a run and ``resume`` is False; or it holds
                a run with another configuration.
        """
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = (path / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"{path} is in use by another run; give another --run") from None
        self._adopt(config, resume)
        self.recorded, self.warning = read_journal(path / JOURNAL)

    def _adopt(self, config: dict[str, Any], resume: bool) -> None:
        file, journal = self.path / CONFIG, self.path / JOURNAL
        if not file.is_file() or not (journal.is_file() and journal.stat().st_size):
            # No episode was finished: nothing can be lost.
            write_atomically(file, (json.dumps(config, indent=2) + "\n").encode())
            return
        if not resume:
            raise RunError(
                f"{self.path} already holds a run; go on with it with --resume, or give another "
                "--run"
            )
        try:
            before = json.loads(file.read_text())
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error}); give another --run") from None
        changed = sorted(k for k in before.keys() | config.keys() if before.get(k) != config.get(k))
        if changed:
            differences = ", ".join(f"{k} {before.get(k)!r} -> {config.get(k)!r}" for k in changed)
            raise RunError(
                f"{self.path} was started with other settings ({differences}); resume with the "
                "same ones, or give another --run"
            )

    def open_journal(self) -> BinaryIO:
        """Return the journal to append to, freed of damaged lines."""
        journal = self.path / JOURNAL
        write_atomically(journal, b"".join(journal_line(record) for record in self.recorded))
        return journal.open("ab", buffering=0)

    def close(self) -> None:
        """Let others use the folder."""
        self._lock.close()


def read_journal(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the finished episodes of a journal and a warning ("" where it is whole).

    What follows the first damaged line (a process or a machine that died while writing) is not
    used.
    """
    if not path.is_file():
        return [], ""
    records: list[dict[str, Any]] = []
    lines = path.read_text(errors="replace").splitlines()
    for line in lines:
        checksum, _, body = line.partition(" ")
        if checksum != _checksum(body):
            return records, (
                f"{path} is damaged after episode {len(records)}; going on from there "
                f"({len(lines) - len(records)} line(s) dropped)"
            )
        records.append(json.loads(body))
    return records, ""


def journal_line(record: dict[str, Any]) -> bytes:
    """Return a record as a line of the journal: checksum, space, JSON."""
    body = json.dumps(record)
    return f"{_checksum(body)} {body}\n".encode()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


class RecordRun(gym.Wrapper):
    """Keeps every finished episode: journal, TensorBoard, front; wraps the vector environment."""

    def __init__(self, env: gym.Env, folder: RunFolder, image_every: int = 25) -> None:
        """Record into ``folder``; what it already holds is fed to the memo, not evaluated again."""
        super().__init__(env)
        self.core = cast(CompressionEnv, env.unwrapped)
        self.folder, self._image_every = folder, image_every
        for record in folder.recorded:
            widths = tuple(d["kept"] for d in record["strategy"]["decisions"])
            self.core.evaluator.memo[widths] = record["accuracy"]
        self._journal = folder.open_journal()
        self._differs = False
        for stale in folder.path.glob("events.out.tfevents.*"):
            stale.unlink()  # written again, with the same content, as the run is played again
        self.writer = SummaryWriter(str(folder.path))
        self.returns: list[np.ndarray] = []
        self.records: list[dict[str, Any]] = []
        self.hypervolume = 0.0
        self._return = np.zeros(self.core.reward_dim)
        self._started = time.perf_counter()

    @property
    def episode(self) -> int:
        """Finished episodes."""
        return len(self.records)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        self._return = np.zeros(self.core.reward_dim)
        self._started = time.perf_counter()
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """Step; a finished episode is on the disk before this returns."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._return = self._return + np.asarray(reward)
        if terminated:
            self._finish(info)
        return obs, reward, terminated, truncated, info

    def _finish(self, info: dict[str, Any]) -> None:
        if not self._is_recorded(info):
            self._append(info)
        self.records.append(info)
        self.returns.append(self._return.copy())
        front = np.array(self.returns)[self.on_front()]
        self.hypervolume = hypervolume(front, self.core.reference_point)
        self._log(info)

    def _is_recorded(self, info: dict[str, Any]) -> bool:
        """Say whether this episode is in the journal; warn where the run goes another way."""
        if self.episode >= len(self.folder.recorded):
            return False
        same = self.folder.recorded[self.episode]["strategy"] == info["strategy"]
        if not same and not self._differs:
            self._differs = True
            warnings.warn(
                f"from episode {self.episode + 1} on this run differs from the recorded one "
                "(another version, processor or number of threads); recorded accuracies are still "
                "used where the same strategy comes up",
                stacklevel=2,
            )
        return same

    def _append(self, record: dict[str, Any]) -> None:
        """Put a finished episode on the disk.

        Raises:
            RunError: it cannot be written (a full disk, say).
        """
        try:
            self._journal.write(journal_line(record))
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise RunError(
                f"cannot write {self._journal.name} ({error}); the {self.episode} episodes before "
                "this one are kept: make room and go on with --resume"
            ) from error

    def _log(self, info: dict[str, Any]) -> None:
        episode, add = self.episode, self.writer.add_scalar
        for objective, value in zip(self.core.objectives, self.returns[-1], strict=True):
            add(f"reward/{objective.name}", value, episode)
        for metric, value in info.items():
            if metric != "strategy":
                add(f"metrics/{metric}", value, episode)
        add("front/hypervolume", self.hypervolume, episode)
        add("front/size", int(self.on_front().sum()), episode)
        add("time/seconds_per_episode", time.perf_counter() - self._started, episode)
        kept = [d["kept"] / d["of"] for d in info["strategy"]["decisions"]]
        self.writer.add_histogram("decisions/keep_ratio", np.array(kept), episode, bins="fd")
        for decision, ratio in zip(info["strategy"]["decisions"], kept, strict=True):
            add(f"keep_ratio/{decision['group']}", ratio, episode)
        if episode % self._image_every == 0:
            self.writer.add_figure("front", self.figure(), episode)

    def on_front(self) -> np.ndarray:
        """Return which finished episodes are on the front, ``bool (episodes,)``."""
        return non_dominated(np.array(self.returns))

    def figure(self):
        """Draw everything evaluated and the front."""
        metrics = [objective.metric for objective in self.core.objectives]
        points = np.array([[record[metric] for metric in metrics] for record in self.records])
        spec = self.core.spec
        title = f"{spec.id if spec else 'search'}: {self.episode} strategies evaluated"
        objectives, original = self.core.objectives, self.core.original_metrics
        return front_figure(title, objectives, points, self.on_front(), original)

    def front(self) -> list[dict[str, Any]]:
        """Return the records on the front, most of the first objective first."""
        first = self.core.objectives[0]
        chosen = [record for record, on in zip(self.records, self.on_front(), strict=True) if on]
        return sorted(chosen, key=lambda record: -first.direction * record[first.metric])

    def write_front(self) -> None:
        """Write ``front.csv``, ``front.png`` and one strategy JSON a point under ``front/``."""
        front = self.front()
        path, table = self.folder.path, io.StringIO()
        if not front:
            return
        metrics = [name for name in front[0] if name != "strategy"]
        groups = [d["group"] for d in front[0]["strategy"]["decisions"]]
        rows = csv.writer(table)
        rows.writerow(["strategy", *metrics, *groups])
        for stale in (path / "front").glob("*.json"):
            stale.unlink()
        for number, record in enumerate(front):
            name = f"front/{number:03d}.json"
            strategy_from_dict(record["strategy"]).save(path / name)
            kept = [d["kept"] for d in record["strategy"]["decisions"]]
            rows.writerow([name, *(record[metric] for metric in metrics), *kept])
        write_atomically(path / "front.csv", table.getvalue().encode())
        figure, image = self.figure(), io.BytesIO()
        figure.savefig(image, format="png", dpi=120)
        write_atomically(path / "front.png", image.getvalue())
        self.writer.add_figure("front", figure, self.episode)

    def close(self) -> None:
        """Close the journal, the TensorBoard file and the folder."""
        self.writer.close()
        self._journal.close()
        self.folder.close()
        super().close()
