"""What the agent sees before each decision.

One flat float32 vector in [0, 1] of one length for every network. All scales are fixed constants,
so that a policy learned on one network can be run on another. :data:`FEATURES` names every entry.
"""

import math
from dataclasses import dataclass

import numpy as np

from prune_gym.costs import COSTS
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space import KINDS, Decision

PROBES = (0.75, 0.5, 0.25)
FEATURES: tuple[str, ...] = (
    "share of the decisions made",
    *(f"decides {kind.replace('_', ' ')}" for kind in KINDS),
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


@dataclass(frozen=True)
class Progress:
    """Where an episode stands: everything that the dynamic entries are computed from.

    Attributes:
        configuration: what has been decided comes to, with the rest at the original's values.
        before: the value of the decision made last, as a share of the original's; 1 at the start.
        lost: the output energy that each decision made so far is expected to lose.
        index: the decision to make next; their number at the end.
        costs: costs (3, costs) as shares of the original's, columns as :data:`COSTS`: as decided
            with the rest full; with this decision at its least too; with all the rest at its least.
        limits: budgets, 1 where there is none, ``(costs,)``.
        allowed: mask over the options of the decision to make next.
    """

    configuration: Configuration
    before: float
    lost: tuple[float, ...]
    index: int
    costs: np.ndarray
    limits: np.ndarray
    allowed: np.ndarray


class Observer:
    """Computes observations for one network; a fresh array every time."""

    def __init__(self, table: LayerTable, decisions: tuple[Decision, ...]) -> None:
        """Take the fixed entries from the layer table and the decisions."""
        self._table, self._decisions = table, decisions
        self._column = {index: column for column, index in enumerate(table.weighted)}
        self._static = np.array([self._static_row(decision) for decision in decisions])

    def _static_row(self, decision: Decision) -> list[float]:
        layer = self._table.layers[decision.layer]
        return [
            *(float(decision.kind == kind) for kind in KINDS),
            float(layer.kind == "depthwise"),
            float(layer.kind == "linear"),
            layer.kernel[0] / 11,
            layer.stride / 4,
            np.log2(layer.in_size[0] * layer.in_size[1]) / 18,
            *(np.sqrt(decision.sensitivity_at(probe * decision.of)) for probe in PROBES),
        ]

    def __call__(self, progress: Progress) -> np.ndarray:
        """Return the observation, float32 ``(len(FEATURES),)``."""
        shares = progress.costs
        per_cost = np.stack(
            [
                shares[0] - shares[1],
                1 - shares[0],
                shares[0] - shares[2],
                progress.limits - shares[2],
            ],
            axis=1,
        )
        static, decided = self._about_the_decision(progress)
        lost = progress.lost
        vector = [
            progress.index / len(self._decisions),
            *static[: -len(PROBES)],
            *decided[:-2],
            progress.before,
            *decided[-2:],
            *static[-len(PROBES) :],
            np.sqrt(lost[-1]) if lost else 0.0,
            np.sqrt(max(lost, default=0.0)),
            1 - math.prod(1 - each for each in lost),
            *per_cost.ravel(),
        ]
        return np.clip(np.array(vector, dtype=np.float32), 0.0, 1.0)

    def _about_the_decision(self, progress: Progress) -> tuple[np.ndarray, list[float]]:
        """Return the fixed entries and those that depend on what was decided; 0 at the end."""
        if progress.index == len(self._decisions):
            return np.zeros(self._static.shape[1]), [0.0] * 6
        decision, configuration = self._decisions[progress.index], progress.configuration
        table, column = self._table, self._column[decision.layer]
        inputs = table.inputs(configuration.widths)[0, decision.layer]
        outputs = table.outputs(configuration.widths)[0, decision.layer]
        density = 1.0 if configuration.density is None else configuration.density[0, column]
        bits = (
            FLOAT_BITS
            if configuration.weight_bits is None
            else configuration.weight_bits[0, column]
        )
        choices = decision.options[progress.allowed] / decision.of
        return self._static[progress.index], [
            float(np.log2(max(inputs, 1)) / 12),
            float(np.log2(max(outputs, 1)) / 12),
            float(density),
            float(bits) / FLOAT_BITS,
            float(choices[0]),
            float(choices[-1]),
        ]
