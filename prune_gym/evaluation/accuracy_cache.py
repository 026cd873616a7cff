"""Accuracies that are known already, by the key of a configuration.

Evaluations are deterministic, so a known accuracy changes no result: resumed runs, tables, parallel
generations and benchmarks all put what they know here. An agent is charged for every episode,
whether its accuracy was known or not.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from prune_gym._utils.checked_lines import checked_line, read_checked_line


class AccuracyCache:
    """Accuracies by `Configuration.key`; several processes may share them by a file."""

    def __init__(self, known: Mapping[bytes, float] | None = None) -> None:
        """Start from what is known."""
        self._known = dict(known or {})
        self._file: _SharedFile | None = None

    def __len__(self) -> int:
        """Return how many accuracies this process knows."""
        return len(self._known)

    def get(self, key: bytes) -> float | None:
        """Return the accuracy of a configuration, None where it is not known."""
        if key not in self._known and self._file is not None:
            shared = self._file.get(key)
            if shared is not None:
                self._known[key] = shared
        return self._known.get(key)

    def put(self, key: bytes, accuracy: float) -> None:
        """Keep an accuracy, for the other processes too.

        Raises:
            OSError: the shared file cannot be written.
        """
        if self._file is not None and self.get(key) != accuracy:
            self._file.append(key, accuracy)
        self._known[key] = accuracy

    def clear(self) -> None:
        """Forget what this process knows."""
        self._known.clear()

    def share(self, path: Path) -> None:
        """Share a file with other processes from now on.

        Raises:
            OSError: the file cannot be written.
        """
        self._file = _SharedFile(path)


class _SharedFile:
    """A file that several processes append to, one checksummed line each."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._path, self._offset = path, 0
        self._accuracies: dict[str, float] = {}

    def get(self, key: bytes) -> float | None:
        name = _digest(key)
        if name not in self._accuracies:
            self._read_on()
        return self._accuracies.get(name)

    def append(self, key: bytes, accuracy: float) -> None:
        # One write to a file opened for appending: lines of several processes do not mix.
        with self._path.open("ab", buffering=0) as file:
            file.write(checked_line({"strategy": _digest(key), "accuracy": accuracy}))

    def _read_on(self) -> None:
        """Read what others have appended; a line that a killed process left is ignored."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if (record := read_checked_line(line)) is not None:
                self._accuracies[record["strategy"]] = record["accuracy"]


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:32]
