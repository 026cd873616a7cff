"""Limits on what a strategy may cost and must reach, in natural units."""

from collections.abc import Mapping, Sequence

import numpy as np

from prune_gym.errors import UserError, unknown

Metrics = Mapping[str, float]


def within(strategies: Sequence[Metrics], most: Metrics, least: Metrics) -> np.ndarray:
    """Return which strategies keep all limits, ``bool (n,)``.

    Args:
        strategies: natural values by metric, of n strategies.
        most: largest allowed value by metric.
        least: smallest allowed value by metric.

    Raises:
        UserError: an unknown metric; or no strategy keeps the limits, and the message says how
            near they come to each.
    """
    for name in (*most, *least):
        if name not in strategies[0]:
            raise UserError(unknown("metric", name, strategies[0]))
    keeps = np.array([_keeps(strategy, most, least) for strategy in strategies])
    if not keeps.any():
        raise UserError(
            f"none of the {len(strategies)} strategies keeps the limits:\n"
            + "\n".join(_nearest(strategies, most, least))
            + "\nLoosen a limit, or search with more episodes"
        )
    return keeps


def _keeps(strategy: Metrics, most: Metrics, least: Metrics) -> bool:
    return all(strategy[name] <= limit for name, limit in most.items()) and all(
        strategy[name] >= limit for name, limit in least.items()
    )


def _nearest(strategies: Sequence[Metrics], most: Metrics, least: Metrics) -> list[str]:
    """Say for every limit how near strategies come to it, all and those that keep the others."""
    lines = []
    for asked, limits, nearest in (("at most", most, min), ("at least", least, max)):
        for name, limit in limits.items():
            rest = {other: value for other, value in limits.items() if other != name}
            others = (rest, least) if limits is most else (most, rest)
            reached = nearest(strategy[name] for strategy in strategies)
            line = f"  {name} {asked} {limit:g}: {reached!r} is reached"
            kept = [strategy[name] for strategy in strategies if _keeps(strategy, *others)]
            if kept and any(others):
                line += f", with the other limits kept {nearest(kept)!r}"
            lines.append(line)
    return lines
