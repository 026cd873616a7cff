"""Name layers by patterns, as a shell names files."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from prune_gym.errors import UserError

NEAREST = 5


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches a layer's name, or that of a module around the layer."""
    return any(fnmatchcase(name, each) or fnmatchcase(name, f"{each}.*") for each in patterns)


def require_matches(argument: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    """Refuse patterns that match none of the names.

    Raises:
        UserError: one matches none; the message has the nearest names.
    """
    for pattern in patterns:
        if not isinstance(pattern, str) or not any(matches(name, [pattern]) for name in names):
            near = difflib.get_close_matches(str(pattern), names, n=NEAREST, cutoff=0.0)
            raise UserError(
                f"{argument}: {pattern!r} matches no layer with weights; the nearest names are "
                f"{', '.join(near)}"
            )
