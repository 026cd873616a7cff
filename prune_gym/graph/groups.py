"""Channel groups: which units occur in the same places, and so are cut together.

A *unit* is the name that `prune_gym.graph.trace` gives to every channel that a layer writes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, cast

import numpy as np

from prune_gym._utils.formatting import unique_name
from prune_gym.graph.layers import Group, Layer, Member

NO_UNIT = -1  # a channel that is always zero

# unit -> (module, "out" | "in") -> the positions where it stands
Places = Mapping[int, Mapping[tuple[str, str], list[int]]]


def places_of_units(
    layers: Iterable[tuple[Layer, np.ndarray | None, np.ndarray]],
    pads: Iterable[tuple[str, np.ndarray]],
    roots: np.ndarray,
) -> Places:
    """Return where each unit stands.

    Args:
        layers: each with the units that it reads (None: none of its own) and that it writes.
        pads: modules that pad with zeros, each with the units that are added to its zeros.
        roots: for each unit the one that stands for all that were made one with it.
    """
    places: dict[int, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
    # A group is named after a layer, also where a parameter is read before the first one.
    for layer, reads, writes in sorted(layers, key=lambda each: each[0].kind == "parameter"):
        if layer.kind in ("pool", "attention"):  # they have nothing to cut
            continue
        for dim, units in (("in", reads), ("out", writes)):
            for position, unit in enumerate(roots[units] if units is not None else ()):
                if unit != NO_UNIT:
                    places[unit][layer.name, dim].append(position)
    written = {unit for unit, where in places.items() if any(dim == "out" for _, dim in where)}
    for name, zeros in pads:
        for position, unit in enumerate(roots[zeros]):
            if unit in written:  # else they are zeros that nothing is added to
                places[unit][name, "out"].append(position)
    return places


def group_units(
    places: Places, fixed: set[int], units: int
) -> tuple[tuple[Group, ...], np.ndarray]:
    """Collect units with the same places.

    Args:
        places: of every unit.
        fixed: units that must not be cut.
        units: how many there are.

    Returns:
        the groups, and for each unit its group's index, their number where it is in none.
    """
    alike: dict[tuple, list[int]] = defaultdict(list)
    for unit, where in places.items():
        signature = tuple((module, dim, len(at)) for (module, dim), at in where.items())
        if unit not in fixed and {"in", "out"} == {dim for _, dim, _ in signature}:
            alike[signature].append(unit)
    groups: list[Group] = []
    group_of = np.full(units, -1)
    names: Counter[str] = Counter()
    for index, (signature, members) in enumerate(alike.items()):
        group_of[members] = index
        parts = tuple(
            Member(
                module,
                cast(Literal["out", "in"], dim),
                np.array([places[unit][module, dim] for unit in members]),
            )
            for module, dim, _ in signature
        )
        name = next(part.module for part in parts if part.dim == "out")
        # A layer's channels may be in several groups.
        groups.append(Group(unique_name(name, names), len(members), parts))
    return tuple(groups), np.where(group_of < 0, len(groups), group_of)
