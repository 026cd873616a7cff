"""What of a network can be cut, what cannot, and why."""

from dataclasses import dataclass

import numpy as np

from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Group, Pin

MOST_REASONS = 5  # in one line


@dataclass(frozen=True)
class Explanation:
    """What of a network can be cut.

    Attributes:
        groups: the channels that are cut together, each group one decision.
        pins: the output channels that cannot be cut, with the operation that pins them and why.
        parameters: the share of parameters that is gone when every group keeps one channel.
        multiply_adds: the same share of multiply-adds, those in no layer included.
        uncounted: operations whose multiply-adds no cost counts, each with how many there are.
    """

    groups: tuple[Group, ...]
    pins: tuple[Pin, ...]
    parameters: float
    multiply_adds: float
    uncounted: tuple[tuple[str, int], ...]


def explain(table: LayerTable) -> Explanation:
    """Return what of a network can be cut, and what pins the rest."""
    params_per_channel = np.array(
        [layer.params_per_channel for layer in table.layers], dtype=np.float64
    )
    uncounted = sum(count for _, count in table.uncounted)
    costs = []
    for widths in (table.full, np.minimum(table.full, 1)):
        configuration = table.configuration(widths[None])
        weights = table.weights(configuration)[0]
        products = table.attention(configuration)[0] + uncounted
        parameters = weights.sum() + table.outputs(widths[None])[0] @ params_per_channel
        costs.append((parameters, weights @ table.weighted_pixels + products))
    whole, least = np.array(costs)
    shares = 1 - least / np.maximum(whole, 1)
    return Explanation(
        table.groups, table.pins, float(shares[0]), float(shares[1]), table.uncounted
    )


def reasons(table: LayerTable) -> str:
    """Return in one line what pins the channels of the network, the most channels first."""
    totals: dict[tuple[str, str], int] = {}
    for pin in table.pins:
        totals[pin.by, pin.why] = totals.get((pin.by, pin.why), 0) + pin.channels
    ordered = sorted(totals.items(), key=lambda each: -each[1])
    shown = [f"{count:,} channels by {by!r} ({why})" for (by, why), count in ordered]
    more = len(shown) - MOST_REASONS
    return "; ".join(shown[:MOST_REASONS]) + (f"; and {more} more reasons" if more > 0 else "")
