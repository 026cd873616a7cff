"""What n strategies come to: the decisions, as costs and candidates read them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOAT_BITS = 32
PARTS = ("widths", "density", "weight_bits", "activation_bits", "blocks")


@dataclass(frozen=True)
class Configuration:
    """The decisions of n strategies of one network; None leaves a part untouched.

    "Layers" are the layers with weights, in the order of ``LayerTable.weighted``.

    Attributes:
        widths: kept channels per group, ``int (n, groups)``.
        density: share of each layer's weights that is kept, in (0, 1], ``float (n, layers)``.
        weight_bits: bits of each layer's weights, 32 for float, ``int (n, layers)``.
        activation_bits: bits of each layer's input, 32 for float, ``int (n, layers)``.
        blocks: which residual blocks are kept, ``bool (n, blocks)``.
        known: (layer table, weights of its layers), worked out once for all costs.
    """

    widths: np.ndarray
    density: np.ndarray | None = None
    weight_bits: np.ndarray | None = None
    activation_bits: np.ndarray | None = None
    blocks: np.ndarray | None = None
    known: list[tuple[Any, np.ndarray]] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        """Return the number of strategies."""
        return len(self.widths)

    def __getitem__(self, rows: int | slice) -> "Configuration":
        """Return some of the strategies; one of them is a batch of one."""
        rows = slice(rows, rows + 1) if isinstance(rows, int) else rows
        parts = (getattr(self, name) for name in PARTS)
        return Configuration(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]

    def key(self) -> bytes:
        """Return what equal strategies have in common and others have not."""
        parts = (getattr(self, name) for name in PARTS)
        return b"|".join(
            b"" if part is None else np.asarray(part, np.float64).tobytes() for part in parts
        )
