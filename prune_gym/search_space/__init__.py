"""Decisions: one file a kind; an environment makes any of them together, layer by layer."""

from collections.abc import Callable, Sequence

from prune_gym.errors import UserError, require_names, unknown
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.explain import reasons
from prune_gym.search_space.blocks import block_decisions
from prune_gym.search_space.channels import channel_decisions
from prune_gym.search_space.decision import Decision
from prune_gym.search_space.layerwise import (
    activation_bits_decisions,
    density_decisions,
    global_density_decision,
    variational_decisions,
    weight_bits_decisions,
)
from prune_gym.search_space.options import SpaceOptions

__all__ = ["FIELDS", "KINDS", "Decision", "Rules", "make_decisions"]

# In the order in which they are made where several concern the same layer.
KINDS: dict[str, Callable[[Evaluator, SpaceOptions], list[Decision]]] = {
    "global_density": global_density_decision,
    "block": block_decisions,
    "channels": channel_decisions,
    "density": density_decisions,
    "variational": variational_decisions,
    "weight_bits": weight_bits_decisions,
    "activation_bits": activation_bits_decisions,
}
# kind -> the array in ``Configuration`` that it sets
FIELDS = {
    "global_density": "density",
    "block": "blocks",
    "channels": "widths",
    "density": "density",
    "variational": "density",
    "weight_bits": "weight_bits",
    "activation_bits": "activation_bits",
}


def make_decisions(
    kinds: Sequence[str], evaluator: Evaluator, rules: SpaceOptions
) -> tuple[Decision, ...]:
    """Return the decisions of an episode, from the network's input to its output.

    Raises:
        UserError: an unknown kind, one given twice or none; two kinds that decide the same; a
            kind that this network has no place for, or nothing to decide at all.
    """
    require_names("decide", kinds)
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(unknown("kind of decision", kind, KINDS))
    if not kinds or len(set(kinds)) != len(kinds):
        raise UserError(f"decide: expected distinct kinds out of {[*KINDS]}, got {tuple(kinds)}")
    for field in FIELDS.values():
        if len(same := [kind for kind in kinds if FIELDS[kind] == field]) > 1:
            raise UserError(f"decide: {' and '.join(same)} decide the same, take one of them")
    order = list(KINDS)
    made = [decision for kind in kinds for decision in KINDS[kind](evaluator, rules)]
    if not made:
        raise UserError(
            f"decide: {type(evaluator.network).__name__} has nothing to decide by "
            f"{', '.join(kinds)}. What pins its channels: {reasons(evaluator.table)}"
        )
    return tuple(sorted(made, key=lambda each: (each.layer, order.index(each.kind))))
