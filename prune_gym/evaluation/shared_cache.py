"""Evaluated accuracies that the cells of a benchmark share through a file.

Agents of one seed start from the same warm-up, and rivals often meet the same strategies. The memo
saves the time of evaluating them again and changes no result: evaluations are deterministic, and
every agent is charged for every episode whether its accuracy was known or not.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from prune_gym.compression.precision import bfloat16_is_fast
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.task import load_evaluator
from prune_gym.experiments.journal import journal_line, read_line


class SharedMemo(dict[bytes, float]):
    """A memo of an evaluator that several processes append to, one checksummed line each.

    What others have appended is read when a strategy is not known yet, so that it is evaluated
    here only if nobody has. A line that a killed process left unfinished is ignored.
    """

    def __init__(self, known: Mapping[bytes, float], path: Path) -> None:
        """Start from what is ``known`` in this process, and share ``path`` from now on.

        Raises:
            OSError: the file cannot be written.
        """
        super().__init__(known)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._path, self._offset = path, 0
        self._shared: dict[str, float] = {}

    def _read_on(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if (record := read_line(line)) is not None:
                self._shared[record["strategy"]] = record["accuracy"]

    def __contains__(self, key: object) -> bool:
        """Return whether anybody has evaluated the strategy."""
        assert isinstance(key, bytes)
        if not super().__contains__(key):
            self._read_on()
            if (name := _digest(key)) not in self._shared:
                return False
            super().__setitem__(key, self._shared[name])
        return True

    def __setitem__(self, key: bytes, accuracy: float) -> None:
        """Keep an accuracy, for the other processes too."""
        if key in self and self[key] == accuracy:
            return
        super().__setitem__(key, accuracy)
        # One write to a file opened for appending: lines of several processes do not mix.
        with self._path.open("ab", buffering=0) as file:
            file.write(journal_line({"strategy": _digest(key), "accuracy": accuracy}))


def share_memo(evaluator: Evaluator, folder: Path) -> None:
    """Let an evaluator that was made by name use the file of its task under ``folder``.

    The task is the network and its weights, the data, the repair, and whether this processor
    computes in bfloat16.
    An evaluator of one's own objects keeps its memo: nothing names what it evaluates.
    """
    make, by_name = evaluator.__reduce__()
    if make is load_evaluator:
        stated = f"{by_name} {evaluator.checksum} {bfloat16_is_fast()}"
        task = hashlib.sha256(stated.encode()).hexdigest()[:16]
        evaluator.memo = SharedMemo(evaluator.memo, folder / f"{task}.jsonl")


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:32]
