"""Compute what strategies cost: one file per cost, one signature, exact and vectorized.

A cost is made from a layer table and is called with the configurations of n strategies; it returns
``float64 (n,)`` in its unit.
"""

from numbers import Integral
from typing import Protocol

import numpy as np

from prune_gym.costs.energy import Energy
from prune_gym.costs.energy_emomc import EmomcEnergy
from prune_gym.costs.flops import Flops
from prune_gym.costs.latency import Latency, LatencyTable
from prune_gym.costs.memory import Memory
from prune_gym.costs.params import Params
from prune_gym.costs.size import Size
from prune_gym.errors import UserError, unknown
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.layer_table import LayerTable

__all__ = ["COSTS", "ENERGIES", "Cost", "build_costs"]


class Cost(Protocol):
    """A cost of a network, lower is better.

    Attributes:
        name: the objective's and the budget's name.
        metric: the name with its unit, the key in infos and files.
        unit: the unit for people.
        deterministic: whether the same strategy always costs the same.
        platform_dependent: whether the value depends on the machine.
    """

    name: str
    metric: str
    unit: str
    deterministic: bool
    platform_dependent: bool

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """Return the costs of n strategies, float64 (n,)."""
        ...


COSTS = ("flops", "params", "memory", "latency", "energy", "size")
ENERGIES: dict[str, type[Energy]] = {"adders": Energy, "emomc": EmomcEnergy}


def build_costs(
    table: LayerTable,
    latency: LatencyTable | None,
    *,
    dataflow: str = "X:Y",
    coding: str = "csr",
    energy: str = "adders",
    batch_size: int = 1,
) -> dict[str, Cost]:
    """Return the costs of one network by name; latency only where there is a table for it.

    Args:
        table: the network's layer table.
        latency: measured times of its layers.
        dataflow: which loops energy unrolls in space, one of ``prune_gym.costs.energy.DATAFLOWS``.
        coding: how size stores weights, one of ``CODINGS`` or ``EMOMC_CODINGS`` of
            ``prune_gym.costs.size``.
        energy: how energy is counted, one of `ENERGIES`: by one-bit adders and bits that
            move, or as the released code of EMOMC does.
        batch_size: images that the network runs on at once, for memory and latency.

    Raises:
        UserError: no such dataflow, coding or energy, or the latency table lacks a layer or was
            measured with another batch size.
    """
    if energy not in ENERGIES:
        raise UserError(unknown("energy", energy, ENERGIES))
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise UserError(f"batch_size: expected a number of images >= 1, got {batch_size!r}")
    costs: list[Cost] = [Flops(table), Params(table), Memory(table, int(batch_size))]
    if latency is not None:
        if (measured := latency.about.get("batch", 1)) != batch_size:
            raise UserError(
                f"batch_size: expected {measured}, with which the latency table was measured, got "
                f"{batch_size}; measure another table with `prune-gym profile --batch "
                f"{batch_size}`, or do without latency (latency=None)"
            )
        costs.append(Latency(table, latency))
    costs += [ENERGIES[energy](table, dataflow), Size(table, coding)]
    return {cost.name: cost for cost in costs}
