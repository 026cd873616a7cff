"""Where data and caches live."""

import os
from pathlib import Path

import pooch


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
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees the old file or the whole new one.

    Raises:
        OSError: the folder is read-only or the disk is full; the old file is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
