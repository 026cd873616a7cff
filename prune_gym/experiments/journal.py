"""The journal of a run: one line per finished episode, on the disk before the episode returns."""

import errno
import os
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from prune_gym._utils.checked_lines import checked_line, read_checked_line
from prune_gym._utils.paths import write_atomically
from prune_gym.errors import RunError


class JournalError(RunError):
    """The journal cannot be written; the message says what to do."""


class Journal:
    """Checksummed records of finished episodes, kept through kills and damage.

    Attributes:
        path: the file.
        records: what it held when it was opened; lines whose checksum is wrong are left out.
        warning: what was wrong with it, "" where nothing was.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal to append to, freed of damaged lines.

        Raises:
            OSError: the file cannot be written.
        """
        self.path = path
        self.records, self.warning = read_journal(path)
        self._written = len(self.records)
        self._open(self.records)

    def _open(self, records: list[dict[str, Any]]) -> None:
        write_atomically(self.path, b"".join(checked_line(record) for record in records))
        self._file = self.path.open("ab", buffering=0)

    def append(self, record: dict[str, Any]) -> None:
        """Put a finished episode on the disk.

        Raises:
            JournalError: it cannot be written, for example to a full disk.
        """
        line = checked_line(record)
        try:
            # A nearly full disk takes a part of the line and calls that a success.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(
                f"cannot write {self.path} ({error}); the {self._written} finished episodes before "
                "this one are kept: make room and go on with --resume"
            ) from error
        self._written += 1

    def start_anew(self, records: list[dict[str, Any]]) -> Path:
        """Begin again with ``records``; what was there is kept in the file that is returned."""
        self.close()
        previous = self._previous(len(self._all_previous()) + 1)
        self.path.replace(previous)
        self._written = len(records)
        self._open(records)
        return previous

    def earlier(self) -> list[dict[str, Any]]:
        """Return the whole records of the journals that were kept when others were begun."""
        return [record for path in self._all_previous() for record in read_journal(path)[0]]

    def _all_previous(self) -> list[Path]:
        return list(takewhile(Path.is_file, map(self._previous, count(1))))

    def _previous(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.previous-{number}{self.path.suffix}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the whole records of a journal and a warning ("" where nothing is damaged)."""
    if not path.is_file():
        return [], ""
    records, damaged = [], 0
    for line in path.read_text(errors="replace").splitlines():
        record = read_checked_line(line)
        if record is not None:
            records.append(record)
        else:
            damaged += 1
    if not damaged:
        return records, ""
    return records, (
        f"{path} is damaged: {damaged} line(s) dropped, {len(records)} finished episodes are kept"
    )
