"""Numbers with their units, and text of unknown origin, as people read them."""

from collections import Counter

UNITS = {"_ms": " ms", "_bytes": "B", "_mj": " mJ"}  # by the end of a metric's name
COUNTED = ("", "B")  # whole pieces and bytes, with k, M and G before them


def format_metric(value: float, metric: str) -> str:
    """Return a metric's value for people: ``format_metric(313e6, "flops")`` is ``"313 M"``."""
    if metric.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    suffix, value = unit_of(metric), float(f"{value:.3g}")
    if suffix not in COUNTED:
        return f"{value:,.10g} {suffix.strip()}"
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}{suffix}"
    return f"{value:.3g} {suffix}".rstrip()


def unit_of(metric: str) -> str:
    """Return what stands behind a metric's number, "" where it is a mere count."""
    return next((unit for end, unit in UNITS.items() if metric.endswith(end)), "")


def format_change(before: float, after: float, metric: str) -> str:
    """Return how a metric changed, for people: ``"2.31x smaller"``, ``"-0.45 points"``."""
    if metric.endswith("accuracy"):
        return f"{100 * (after - before):+.2f} points"
    if min(before, after) <= 0:
        return ""  # no factor
    if after > before:
        return f"{after / before:.3g}x larger"
    return f"{before / after:.3g}x smaller" if after < before else "as before"


def printable(text: str) -> str:
    """Return text of any origin as a terminal can show it: without its control characters."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def unique_name(name: str, seen: Counter[str]) -> str:
    """Return ``name`` the first time, ``name#2`` the second and so on; ``seen`` counts them."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"
