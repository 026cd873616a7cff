"""Messages that say what was expected, what came, and what to do."""

import difflib
from collections.abc import Collection, Iterable

LONG = 20  # names; a longer table is not listed whole
NEAREST = 5  # names that are shown of it


def unknown(kind: str, given: object, known: Iterable[str]) -> str:
    """Return the message for a name that is not in a table, with the nearest one that is.

    A long table is not listed whole.

    Example:
        >>> unknown("objective", "flop", ["accuracy", "flops"])
        "unknown objective 'flop'; did you mean 'flops'? Known: accuracy, flops"
    """
    names = list(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(given).lower(), lower, n=NEAREST, cutoff=0.4)
    hint = f" did you mean {lower[near[0]]!r}?" if near else ""
    listed = ", ".join(names)
    if len(names) > LONG:
        nearest = [lower[name] for name in near] or names[:NEAREST]
        listed = f"{', '.join(nearest)} and {len(names) - len(nearest)} more"
    return f"unknown {kind} {given!r};{hint} Known: {listed}"


def require_names(argument: str, given: object) -> None:
    """Refuse what is no sequence of names; the letters of a single name would be looked up.

    Raises:
        UserError: says what is expected.
    """
    expected = f"{argument}: expected a sequence of names"
    if isinstance(given, str):
        raise UserError(f"{expected}, such as [{given!r}]")
    if not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise UserError(f"{expected}, got {given!r}")


class PruneGymError(Exception):
    """Base of every error that this package defines."""


class UserError(PruneGymError, ValueError):
    """What the caller can put right: the message says what was expected, what came, what to do.

    The command line shows it as one line; every other error keeps its traceback.
    """


class UserTypeError(UserError, TypeError):
    """An argument is of the wrong type."""


class UserFunctionTypeError(UserTypeError):
    """A function that the user named returned something else than was asked for."""


class MissingFileError(UserError, FileNotFoundError):
    """A file that the user named is not there."""


class FileAccessError(UserError, OSError):
    """A file or folder cannot be read or written; the message names it."""


class MissingExtraError(UserError, ImportError):
    """A library is not installed that an optional part needs."""


class RunError(UserError, RuntimeError):
    """A run folder cannot be used."""


def first_line(error: Exception) -> str:
    """Return what an error of another library says, in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
