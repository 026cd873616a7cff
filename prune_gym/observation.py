"""What the agent sees before each decision.

One flat float32 vector in [0, 1] of one length for every network. All scales are fixed constants,
so that a policy learned on one network can be run on another. :data:`FEATURES` names every entry.
"""

from dataclasses import dataclass

import numpy as np

from prune_gym.costs import COSTS
from prune_gym.decisions import ChannelDecision
from prune_gym.network.table import LayerTable

PROBES = (0.75, 0.5, 0.25)
FEATURES: tuple[str, ...] = (
    "share of the decisions made",
    "the group's first layer is depthwise",
    "the group's first layer is linear",
    "log2 of its input channels as decided so far, over 12",
    "log2 of the group's channels, over 12",
    "kernel height over 11",
    "stride over 4",
    "log2 of input height x width, over 18",
    "keep ratio of the decision before (1 at the start)",
    "least keep ratio that the budgets allow here",
    "largest keep ratio that the budgets allow here",
    *(f"root of the output energy lost at keep ratio {probe}" for probe in PROBES),
    "root of the output energy lost by the decision before",
    "root of the largest output energy lost so far",
    "1 - product of the output energies kept so far",
    *(
        f"{cost}: {what}"
        for cost in COSTS
        for what in (
            "share of the cost that this group can still save alone",
            "share of the cost cut so far",
            "share of the cost that can still be cut",
            "slack: budget less the least that is left, as a share of the cost",
        )
    ),
)


@dataclass(frozen=True)
class Progress:
    """Where an episode stands: everything that the dynamic entries are computed from.

    Attributes:
        widths: decided widths, and full ones for the rest, ``int64 (groups,)``.
        index: the group to decide next; ``groups`` at the end.
        costs: costs (3, 4) as shares of the original's, columns as :data:`COSTS`: as decided
            with the rest full; with this group at its least too; with all the rest at its least.
        limits: budgets, 1 where there is none, ``(4,)``.
        allowed: mask over the options of the group to decide next.
    """

    widths: np.ndarray
    index: int
    costs: np.ndarray
    limits: np.ndarray
    allowed: np.ndarray


class Observer:
    """Computes observations for one network; a fresh array every time."""

    def __init__(
        self,
        table: LayerTable,
        decisions: tuple[ChannelDecision, ...],
        errors: tuple[np.ndarray, ...],
    ) -> None:
        """Take the fixed entries from the layer table and the calibration's error curves."""
        self._table, self._decisions = table, decisions
        self._errors = errors
        self._layers = [table.layer(group.name) for group in table.groups]
        position = {layer.name: i for i, layer in enumerate(table.layers)}
        self._first = [position[group.name] for group in table.groups]
        self._static = np.array([self._static_row(g) for g in range(len(decisions))])

    def _static_row(self, g: int) -> list[float]:
        layer, size = self._layers[g], self._decisions[g].size
        probes = [np.sqrt(self._errors[g][max(1, round(probe * size))]) for probe in PROBES]
        return [
            float(layer.kind == "depthwise"),
            float(layer.kind == "linear"),
            np.log2(size) / 12,
            layer.kernel[0] / 11,
            layer.stride / 4,
            np.log2(layer.in_size[0] * layer.in_size[1]) / 18,
            *probes,
        ]

    def __call__(self, progress: Progress) -> np.ndarray:
        """Return the observation, float32 ``(len(FEATURES),)``."""
        index = progress.index
        shares = progress.costs
        lost = [float(self._errors[g][width]) for g, width in enumerate(progress.widths[:index])]
        per_cost = np.stack(
            [
                shares[0] - shares[1],
                1 - shares[0],
                shares[0] - shares[2],
                progress.limits - shares[2],
            ],
            axis=1,
        )
        depthwise, linear, size, kernel, stride, pixels, *probes = self._group_entries(index)
        before = progress.widths[index - 1] / self._decisions[index - 1].size if index else 1.0
        vector = [
            index / len(self._decisions),
            depthwise,
            linear,
            self._inputs(progress),
            size,
            kernel,
            stride,
            pixels,
            before,
            *self._interval(progress),
            *probes,
            np.sqrt(lost[-1]) if lost else 0.0,
            np.sqrt(max(lost, default=0.0)),
            1 - float(np.prod([1 - each for each in lost])),
            *per_cost.ravel(),
        ]
        return np.clip(np.array(vector, dtype=np.float32), 0.0, 1.0)

    def _group_entries(self, index: int) -> np.ndarray:
        if index == len(self._decisions):
            return np.zeros(self._static.shape[1])
        return self._static[index]

    def _inputs(self, progress: Progress) -> float:
        if progress.index == len(self._decisions):
            return 0.0
        inputs = self._table.inputs(progress.widths[None])[0, self._first[progress.index]]
        return float(np.log2(max(inputs, 1)) / 12)

    def _interval(self, progress: Progress) -> tuple[float, float]:
        if progress.index == len(self._decisions):
            return 0.0, 0.0
        decision = self._decisions[progress.index]
        choices = decision.options[progress.allowed]
        return float(choices[0] / decision.size), float(choices[-1] / decision.size)
