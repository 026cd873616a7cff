"""What the agent sees before each decision.

One flat float32 vector in [0, 1] of one length for every network. All scales are fixed constants,
so that a policy learned on one network can be run on another. `FEATURES` names every entry.
"""

import math
from typing import NamedTuple

import numpy as np

from prune_gym.costs import COSTS
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space import Decision
from prune_gym.search_space.kinds import BUILT_IN

PROBES = (0.75, 0.5, 0.25)
FEATURES: tuple[str, ...] = (
    "share of the decisions made",
    *(f"decides {kind.replace('_', ' ')}" for kind in BUILT_IN),
    "the layer is depthwise",
    "the layer is linear",
    "kernel height over 11",
    "stride over 4",
    "log2 of input height x width, over 18",
    "log2 of its input channels as decided so far, over 12",
    "log2 of its output channels as decided so far, over 12",
    "share of its weights kept as decided so far",
    "bits of its weights as decided so far, over 32",
    "value of the decision before, as a share of the original's (1 at the start)",
    "least value that the budgets allow here, as a share of the original's",
    "largest value that the budgets allow here, as a share of the original's",
    *(f"root of the output energy lost at the share {probe}" for probe in PROBES),
    "root of the output energy lost by the decision before",
    "root of the largest output energy lost so far",
    "1 - product of the output energies kept so far",
    *(
        f"{cost}: {what}"
        for cost in COSTS
        for what in (
            "share of the cost that this decision can still save alone",
            "share of the cost cut so far",
            "share of the cost that can still be cut",
            "slack: budget less the least that is left, as a share of the cost",
        )
    ),
)


class Progress(NamedTuple):
    """Where n episodes stand: everything that the entries of an observation are computed from.

    Attributes:
        configuration: of what has been decided, with the rest at the original's values, n rows.
        position: the next decision of each; the number of decisions at the end, ``int (n,)``.
        before: the value of the decision before, as a share of the original's, ``(n,)``.
        lost: output energy that the decision before, and the one that loses most so far, are
            expected to lose, ``(2, n)``.
        kept: product of the output energies that the decisions keep, ``(n,)``.
        costs: costs as shares of the original's, ``(3, n, costs)``, columns as `COSTS`: as
            decided with the rest untouched; with this decision at its lowest too; with all the rest
            at its lowest.
        limits: budgets, 1 where there is none, ``(costs,)``.
        allowed: smallest and largest allowed value of the next decision, as shares of the
            original's, ``(2, n)``.
    """

    configuration: Configuration
    position: np.ndarray
    before: np.ndarray
    lost: np.ndarray
    kept: np.ndarray
    costs: np.ndarray
    limits: np.ndarray
    allowed: np.ndarray


class Observer:
    """Computes the observations of episodes on one network; a fresh array every time."""

    def __init__(self, table: LayerTable, decisions: tuple[Decision, ...]) -> None:
        """Compute the fixed entries from the layer table and the decisions."""
        self._count = len(decisions)
        column = {index: column for column, index in enumerate(table.weighted)}
        rows = [_fixed_entries(table, decision) for decision in decisions]
        self._fixed = np.array([*rows, [0.0] * len(rows[0])])  # zeros after the last decision
        layers = np.array([decision.layer for decision in decisions])
        self._columns = np.array([column[decision.layer] for decision in decisions])
        maps = table.channel_maps(layers)
        self._channels = np.stack([matrix.T for matrix, _ in maps], axis=1)
        self._more_channels = np.stack([constant for _, constant in maps], axis=1)

    def __call__(self, progress: Progress) -> np.ndarray:
        """Return the observations, float32 ``(n, len(FEATURES))``."""
        entries = np.empty((len(progress.position), len(FEATURES)), dtype=np.float32)
        fixed = self._fixed[progress.position]
        at = fixed.shape[1] - len(PROBES) + 1
        entries[:, 0] = progress.position / self._count
        entries[:, 1:at] = fixed[:, : -len(PROBES)]
        self._set_so_far(entries[:, at : at + 7], progress)
        at += 7
        entries[:, at : at + len(PROBES)] = fixed[:, -len(PROBES) :]
        at += len(PROBES)
        entries[:, at : at + 2] = np.sqrt(progress.lost).T
        entries[:, at + 2] = 1 - progress.kept
        now, this_lowest, all_lowest = progress.costs
        per_cost = entries[:, at + 3 :]
        per_cost[:, 0::4] = now - this_lowest
        per_cost[:, 1::4] = 1 - now
        per_cost[:, 2::4] = now - all_lowest
        per_cost[:, 3::4] = progress.limits - all_lowest
        np.maximum(entries, 0.0, out=entries)  # np.clip takes three times as long for a few rows
        return np.minimum(entries, 1.0, out=entries)

    def _set_so_far(self, entries: np.ndarray, progress: Progress) -> None:
        """Set the entries about the next decision's layer as decided so far, (n, 7).

        After the last decision all are 0 but the value of the decision before.
        """
        configuration, ended = progress.configuration, progress.position == self._count
        index, row = np.minimum(progress.position, self._count - 1), np.arange(len(ended))
        column = self._columns[index]
        channels = (self._channels[index] @ configuration.widths[:, :, None])[:, :, 0]
        channels += self._more_channels[index]
        entries[:, :2] = np.log2(np.maximum(channels, 1)) / 12
        entries[:, 2] = configuration.density[row, column]
        entries[:, 3] = configuration.weight_bits[row, column] / FLOAT_BITS
        entries[:, 5:] = progress.allowed.T
        entries[ended] = 0.0
        entries[:, 4] = progress.before


def _fixed_entries(table: LayerTable, decision: Decision) -> list[float]:
    layer = table.layers[decision.layer]
    losses = (decision.sensitivity_at(probe * decision.original) for probe in PROBES)
    return [
        *(float(decision.kind == kind) for kind in BUILT_IN),
        float(layer.kind == "depthwise"),
        float(layer.kind == "linear"),
        layer.kernel[0] / 11,
        layer.stride / 4,
        np.log2(math.prod(layer.in_size)) / 18,
        *(np.sqrt(loss) for loss in losses),
    ]
