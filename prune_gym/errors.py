"""Messages that say what was expected, what came, and what to do."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, given: object, known: Iterable[str]) -> str:
    """Return the message for a name that is not in a table, with the nearest one that is.

    Example:
        >>> unknown("objective", "flop", ["accuracy", "flops"])
        "unknown objective 'flop'; did you mean 'flops'? Known: accuracy, flops"
    """
    names = list(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(given).lower(), lower, n=1, cutoff=0.4)
    hint = f" did you mean {lower[near[0]]!r}?" if near else ""
    return f"unknown {kind} {given!r};{hint} Known: {', '.join(names)}"
