"""The options of a search space: which values a decision may take."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from prune_gym.errors import UserError
from prune_gym.graph.configuration import FLOAT_BITS


@dataclass(frozen=True)
class SpaceOptions:
    """The limits of the values that decisions may take.

    Attributes:
        min_keep: least share of a group's channels to keep, in (0, 1].
        round_to: widths are multiples of this many channels.
        min_density: least share of a layer's weights to keep, in (0, 1].
        bits: the bits to choose from, 1 to 8, or 32 for float.
    """

    min_keep: float = 0.125
    round_to: int = 8
    min_density: float = 0.1
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("min_keep", "min_density"):
            share = getattr(self, name)
            if not isinstance(share, int | float | np.floating) or not 0 < share <= 1:
                raise UserError(f"{name}: expected a share in (0, 1], got {share!r}")
        if not isinstance(self.round_to, Integral) or self.round_to < 1:
            raise UserError(f"round_to: expected a number of channels >= 1, got {self.round_to!r}")
        if not self.bits or any(bits not in (*range(1, 9), FLOAT_BITS) for bits in self.bits):
            raise UserError(f"bits: expected some of 1 to 8, or 32 for float; got {self.bits!r}")
