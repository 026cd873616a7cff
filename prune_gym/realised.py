"""What n strategies come to: the realised decisions, as costs and candidates read them."""

from dataclasses import dataclass, fields

import numpy as np

FLOAT_BITS = 32


@dataclass(frozen=True)
class Realised:
    """The realised decisions of n strategies of one network; None leaves a part untouched.

    "Layers" are the layers with weights, in the order of ``LayerTable.weighted``.

    Attributes:
        widths: kept channels per group, ``int (n, groups)``.
        density: share of each layer's weights that is kept, in (0, 1], ``float (n, layers)``.
        weight_bits: bits of each layer's weights, 32 for float, ``int (n, layers)``.
        activation_bits: bits of each layer's input, 32 for float, ``int (n, layers)``.
        blocks: which residual blocks are kept, ``bool (n, blocks)``.
    """

    widths: np.ndarray
    density: np.ndarray | None = None
    weight_bits: np.ndarray | None = None
    activation_bits: np.ndarray | None = None
    blocks: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of strategies."""
        return len(self.widths)

    def __getitem__(self, row: int) -> "Realised":
        """Return one strategy as a batch of one."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Realised(*(None if part is None else part[row : row + 1] for part in parts))  # type: ignore[arg-type]

    def key(self) -> bytes:
        """Return what equal strategies have in common and others have not."""
        parts = (getattr(self, field.name) for field in fields(self))
        return b"|".join(
            b"" if part is None else np.asarray(part, np.float64).tobytes() for part in parts
        )
