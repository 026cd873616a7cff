"""A run folder: everything a search finds, kept so that it can be killed at any time.

``evaluations.jsonl`` is the checkpoint: one line per finished episode. A run is a deterministic
function of its configuration and of the accuracies it is told, so ``--resume`` plays it again from
the start and takes the recorded accuracies: a finished episode costs the agent's own
computing and no evaluation, and what follows is what an uninterrupted run does. One mechanism
serves every agent, and no agent has to know of it.
"""

import fcntl
import json
import shutil
from pathlib import Path

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import write_atomically
from prune_gym.errors import RunError, UserError
from prune_gym.experiments.journal import Journal
from prune_gym.experiments.run_config import REQUIRED, RunConfig

CONFIG, JOURNAL, LOCK, TASK = "config.json", "evaluations.jsonl", "lock", "task.json"
ABOUT, LOG, AGENT, UNIFORM = "about.json", "train.log", "agent.zip", "uniform.jsonl"
FRONT = ("front", "front.csv", "front.png")
EVENTS = "events.out.tfevents.*"
WRITTEN = (CONFIG, JOURNAL, TASK, ABOUT, LOG, AGENT, UNIFORM, *FRONT, EVENTS)


class InUseError(RunError):
    """Another process uses the run folder."""


class RunFolder:
    """Owns one folder: its lock, its configuration and its journal.

    Attributes:
        path: the folder.
        config: what determines the run.
        journal: its finished episodes.
    """

    def __init__(self, path: Path, config: RunConfig, resume: bool) -> None:
        """Open the folder for a new run, or for going on with the one in it.

        Raises:
            InUseError: another process uses it.
            RunError: it holds a run and ``resume`` is False, or none and
                it is True; or it holds a run with another configuration, or what no run wrote.
        """
        self.path, self.config = path, config
        self._is_new = not path.exists()
        if resume and not self._has(CONFIG) and not self._has(JOURNAL):
            raise RunError(f"{path} holds no run to resume; leave --resume out to start one")
        self._check_ours()
        path.mkdir(parents=True, exist_ok=True)
        self._lock = (path / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InUseError(f"{path} is in use by another run; give another --run") from None
        try:
            self._adopt(resume)
            for partial in path.rglob(".*.tmp"):  # of a process that was killed while it wrote
                partial.unlink()
            self.journal = Journal(path / JOURNAL)
        except BaseException:
            self._lock.close()
            raise

    def _has(self, pattern: str) -> bool:
        return any(self.path.glob(pattern))

    def _check_ours(self) -> None:
        """Refuse a folder whose files would be overwritten and are not a run's."""
        found = [name for name in WRITTEN if self._has(name)]
        if not found:
            return
        try:
            content = read_json(self.path / CONFIG)
        except UserError:
            content = None
        if not isinstance(content, dict) or not content.keys() >= set(REQUIRED):
            raise RunError(
                f"{self.path} has {found[0]}, but no {CONFIG} of a run (it is missing, damaged or "
                "something else's); give another --run"
            )

    def _adopt(self, resume: bool) -> None:
        file, journal = self.path / CONFIG, self.path / JOURNAL
        if not (journal.is_file() and journal.stat().st_size):
            # No episode was finished: nothing can be lost.
            write_atomically(file, (json.dumps(self.config.as_dict(), indent=2) + "\n").encode())
            return
        if not resume:
            raise RunError(
                f"{self.path} already holds a run; go on with it with --resume, or give another "
                "--run"
            )
        if changed := self.config.differences(read_json(file)):
            raise RunError(
                f"{self.path} was started with other settings ({', '.join(changed)}); resume with "
                "the same ones, or give another --run"
            )

    def discard(self) -> None:
        """Remove the folder again, after a start that evaluated nothing, where it is new."""
        self.close()
        if self._is_new:
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Close the journal and let others use the folder."""
        self.journal.close()
        self._lock.close()
