"""Where data and caches live, and how files are read and written."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pooch

from prune_gym.errors import FileAccessError, UserError


def cache_home() -> Path:
    """Return the user's cache folder for prune-gym (always ours to write to)."""
    return Path(pooch.os_cache("prune-gym"))


def data_home() -> Path:
    """Return the folder that holds data sets and public weights; it may be read-only.

    It is the environment variable ``PRUNE_GYM_HOME``, else the user's cache folder.
    """
    return Path(os.environ.get("PRUNE_GYM_HOME") or cache_home()).expanduser()


def writable_home() -> Path:
    """Return the data home where it can be written to, else the user's cache folder."""
    home = data_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / ".prune-gym-probe"
        probe.touch()
        probe.unlink()
    except OSError:
        return cache_home()
    return home


def file_version(path: str | Path) -> tuple[int, int] | None:
    """Return what changes when a file is written again; None where there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # of a null byte in the name
        return None
    return found.st_mtime_ns, found.st_size


def is_file(path: str | Path) -> bool:
    """Return whether there is a file that can be looked up.

    ``Path.is_file`` raises where a folder is closed to the user or the name is too long, as a name
    out of somebody's file may be.
    """
    return file_version(path) is not None and Path(path).is_file()


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without the mark that some editors put in front.

    Raises:
        FileAccessError: it cannot be read.
        UserError: it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8 ({error})") from error
    except OSError as error:
        raise FileAccessError(f"{path} cannot be read ({_reason(error)})") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees the old file or the whole new one.

    Raises:
        FileAccessError: as of `new_file`.
    """
    with new_file(path) as file:
        file.write(content)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for the block; the file takes the place of ``path`` after the block.

    Where the block fails, the old file is left as it was and no new one stays.

    Raises:
        FileAccessError: the folder is read-only, the disk is full or ``path`` is a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        partial = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.tmp")
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, UserError):
            raise
        raise FileAccessError(
            f"{path} cannot be written ({_reason(error)}); make room, or give another place"
        ) from error


_HOST = socket.gethostname()


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of this path that killed processes of this machine left."""
    before, after = f".{path.name}.{_HOST}-", ".tmp"
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            pid = entry.name.removeprefix(before).removesuffix(after)
            if entry.name == f"{before}{pid}{after}" and pid.isdecimal() and not _runs(int(pid)):
                os.unlink(entry.path)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
