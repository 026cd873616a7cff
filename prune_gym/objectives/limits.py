"""Filter strategies by limits on their metrics."""

from collections.abc import Mapping, Sequence

import numpy as np

from prune_gym.errors import UserError, unknown

Metrics = Mapping[str, float]


def satisfies(strategies: Sequence[Metrics], most: Metrics, least: Metrics) -> np.ndarray:
    """Return which strategies satisfy all limits, ``bool (n,)``.

    Args:
        strategies: metrics of n strategies, each a mapping from name to value.
        most: upper limits by metric.
        least: lower limits by metric.

    Raises:
        UserError: a metric is unknown, or no strategy satisfies the limits; then the message says
            the nearest value to each limit.
    """
    for name in (*most, *least):
        if name not in strategies[0]:
            raise UserError(unknown("metric", name, strategies[0]))
    satisfied = np.array([_satisfies(strategy, most, least) for strategy in strategies])
    if not satisfied.any():
        raise UserError(
            f"none of the {len(strategies)} strategies keeps the limits:\n"
            + "\n".join(_nearest(strategies, most, least))
            + "\nLoosen a limit, or search with more episodes"
        )
    return satisfied


def _satisfies(strategy: Metrics, most: Metrics, least: Metrics) -> bool:
    return all(strategy[name] <= limit for name, limit in most.items()) and all(
        strategy[name] >= limit for name, limit in least.items()
    )


def _nearest(strategies: Sequence[Metrics], most: Metrics, least: Metrics) -> list[str]:
    """Return a line per limit: the nearest value of all, and of those within the other limits."""
    lines = []
    for asked, limits, nearest in (("at most", most, min), ("at least", least, max)):
        for name, limit in limits.items():
            rest = {other: value for other, value in limits.items() if other != name}
            others = (rest, least) if limits is most else (most, rest)
            reached = nearest(strategy[name] for strategy in strategies)
            line = f"  {name} {asked} {limit:g}: {reached!r} is reached"
            kept = [strategy[name] for strategy in strategies if _satisfies(strategy, *others)]
            if kept and any(others):
                line += f", with the other limits kept {nearest(kept)!r}"
            lines.append(line)
    return lines
