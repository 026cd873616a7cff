"""Names that tell apart what lies in one module."""

from collections import Counter


def unique(name: str, seen: Counter[str]) -> str:
    """Return ``name`` the first time, ``name#2`` the second and so on; ``seen`` counts them."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"
