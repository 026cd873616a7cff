"""Kinds of decisions: one file a kind, one table of them."""

from prune_gym.errors import UserError
from prune_gym.graph.configuration import PARTS
from prune_gym.search_space.kinds.activation_bits import ActivationBits
from prune_gym.search_space.kinds.base import DecisionKind, NetworkStatistics
from prune_gym.search_space.kinds.block import Blocks
from prune_gym.search_space.kinds.channels import Channels
from prune_gym.search_space.kinds.density import Density
from prune_gym.search_space.kinds.global_density import GlobalDensity
from prune_gym.search_space.kinds.options import SpaceOptions
from prune_gym.search_space.kinds.variational import Variational
from prune_gym.search_space.kinds.weight_bits import WeightBits

__all__ = [
    "BUILT_IN",
    "KINDS",
    "DecisionKind",
    "NetworkStatistics",
    "SpaceOptions",
    "register_kind",
]

# By name, in the order in which they are made where several concern the same layer.
KINDS: dict[str, DecisionKind] = {
    kind.name: kind
    for kind in (
        GlobalDensity(),
        Blocks(),
        Channels(),
        Density(),
        Variational(),
        WeightBits(),
        ActivationBits(),
    )
}
BUILT_IN = tuple(KINDS)  # an observation has an entry for each of these


def register_kind(kind: DecisionKind) -> None:
    """Make a kind of decision known by its name, to be used in ``decide=(...)``.

    Raises:
        UserError: another kind has this name, or its field is neither one of a configuration nor
            its name.
    """
    if KINDS.get(kind.name, kind) is not kind:
        raise UserError(f"kind {kind.name!r} is registered already; give yours another name")
    if kind.field not in (*PARTS, kind.name):
        raise UserError(
            f"kind {kind.name!r}: no configuration has the field {kind.field!r}; expected "
            f"{kind.name!r}, or one of {', '.join(PARTS)}"
        )
    KINDS[kind.name] = kind
