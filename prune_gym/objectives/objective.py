"""Define objectives: the entries of the reward vector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prune_gym.costs import COSTS, Cost
from prune_gym.errors import UserError, require_names, unknown

DEFAULT = ("accuracy", "flops", "latency", "memory")
KNOWN = ("accuracy", *COSTS)


@dataclass(frozen=True)
class Objective:
    """A named quantity of a candidate.

    Attributes:
        name: its name in ``objectives=(...)``.
        metric: the key of its value in infos and files.
        unit: the unit of the metric.
        label: the name for people, such as "mAP@0.5" for the accuracy of a detector.
        direction: +1 where more is better (accuracy), -1 where less is better (costs).
        deterministic: whether the same strategy always gives the same value.
        platform_dependent: whether the value depends on the machine.
    """

    name: str
    metric: str
    unit: str
    label: str
    direction: int
    deterministic: bool
    platform_dependent: bool


def make_objectives(
    names: Sequence[str], costs: Mapping[str, Cost], score: str = "accuracy"
) -> tuple[Objective, ...]:
    """Return the named objectives in the given order.

    ``score`` is what accuracy is called on the data (``Data.metric_name``).

    Raises:
        UserError: an unknown name, a name given twice, or none at all.
    """
    require_names("objectives", names)
    for name in names:
        if name not in KNOWN:
            raise UserError(unknown("objective", name, KNOWN))
        if name != "accuracy" and name not in costs:
            raise UserError(
                f"objective {name!r} needs a latency table: make one with `prune-gym profile`"
            )
    if not names or len(set(names)) != len(names):
        raise UserError(f"objectives: expected distinct names out of {KNOWN}, got {tuple(names)}")
    accuracy = Objective("accuracy", "accuracy", "share", score, 1, True, False)
    return tuple(accuracy if name == "accuracy" else _of_cost(costs[name]) for name in names)


def _of_cost(cost: Cost) -> Objective:
    flags = cost.deterministic, cost.platform_dependent
    return Objective(cost.name, cost.metric, cost.unit, cost.name, -1, *flags)


def weights_array(
    weights: Mapping[str, float] | Sequence[float], names: Sequence[str]
) -> np.ndarray:
    """Return weights over ``names`` as float64 that sum to 1; objectives left out weigh 0.

    Raises:
        UserError: an unknown name, a wrong number of weights, a negative one, or all zero.
    """
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise UserError(unknown("objective", name, names))
        weights = [weights.get(name, 0.0) for name in names]
    array = np.array(weights, dtype=np.float64)
    if array.shape != (len(names),) or not np.isfinite(array).all() or (array < 0).any():
        raise UserError(
            f"expected {len(names)} weights >= 0, one for each of {', '.join(names)}; got {weights}"
        )
    if array.sum() == 0:
        raise UserError(f"at least one weight over {', '.join(names)} must be positive; got all 0")
    return array / array.sum()


def saving(cost, original):
    """Return the share of a cost that was saved, ``1 - cost / original`` (numbers or arrays)."""
    return 1.0 - cost / original


def episode_return(
    metrics: Mapping[str, float], original: Mapping[str, float], objectives: Sequence[Objective]
) -> np.ndarray:
    """Return the undiscounted return of an episode from its metrics, float64 ``(k,)``.

    The entries are the accuracy, and for every cost the saved share of the original cost.
    """
    return np.array(
        [
            metrics[o.metric] if o.direction > 0 else saving(metrics[o.metric], original[o.metric])
            for o in objectives
        ]
    )
