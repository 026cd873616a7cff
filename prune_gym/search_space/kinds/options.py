"""The options of a search space: values that decisions may take, layers that they may change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from prune_gym.errors import UserError, require_names
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.layer_table import LayerTable
from prune_gym.search_space.kinds.layer_patterns import matches, require_matches

MIN_KEEP = 0.125  # of layers that no pattern of ``min_keep`` matches


@dataclass(frozen=True)
class SpaceOptions:
    """The limits of the values that decisions may take.

    Layers are named by patterns as of a shell (``*``, ``?``, ``[...]``). A pattern that matches the
    name of a module matches all layers in it.

    Attributes:
        min_keep: least share of a group's channels to keep, in (0, 1]; or by pattern, where the
            last pattern that matches a layer counts. Of several layers that are cut together the
            largest share holds.
        round_to: widths are multiples of this many channels.
        min_density: least share of a layer's weights to keep, in (0, 1].
        bits: the bits to choose from, 1 to 8, or 32 for float.
        exclude: patterns of layers that stay as they are.
        include: patterns of the layers that may change; None: all.
    """

    min_keep: float | Mapping[str, float] = MIN_KEEP
    round_to: int = 8
    min_density: float = 0.1
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    exclude: Sequence[str] = ()
    include: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        given = self.min_keep
        for share in given.values() if isinstance(given, Mapping) else [given]:
            _check_share("min_keep", share)
        _check_share("min_density", self.min_density)
        if not isinstance(self.round_to, Integral) or self.round_to < 1:
            raise UserError(f"round_to: expected a number of channels >= 1, got {self.round_to!r}")
        if not self.bits or any(bits not in (*range(1, 9), FLOAT_BITS) for bits in self.bits):
            raise UserError(f"bits: expected some of 1 to 8, or 32 for float; got {self.bits!r}")

    def check_patterns(self, table: LayerTable) -> None:
        """Refuse patterns that match no layer with weights.

        Raises:
            UserError: one matches none; the message has the nearest names.
        """
        names = [table.layers[index].name for index in table.weighted]
        min_keep = self.min_keep if isinstance(self.min_keep, Mapping) else ()
        given = {"exclude": self.exclude, "include": self.include or (), "min_keep": min_keep}
        for argument, patterns in given.items():
            require_names(argument, patterns)
            require_matches(argument, patterns, names)

    def may_change(self, layers: Iterable[str]) -> bool:
        """Return whether all of these layers may change."""
        return all(
            (self.include is None or matches(name, self.include))
            and not matches(name, self.exclude)
            for name in layers
        )

    def least_share(self, layers: Iterable[str]) -> float:
        """Return the least share of channels that layers which are cut together keep."""
        if not isinstance(self.min_keep, Mapping):
            return self.min_keep
        shares = []
        for name in layers:
            found = [share for each, share in self.min_keep.items() if matches(name, [each])]
            shares.append(found[-1] if found else MIN_KEEP)
        return max(shares, default=MIN_KEEP)


def _check_share(name: str, share: Any) -> None:
    if (
        not isinstance(share, int | float | np.floating)
        or isinstance(share, bool)
        or not 0 < share <= 1
    ):
        raise UserError(f"{name}: expected a share in (0, 1], got {share!r}")
