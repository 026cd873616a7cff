"""Configurations: what is kept of a network, as arrays over its groups, layers and blocks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

FLOAT_BITS = 32
PARTS = ("widths", "density", "weight_bits", "activation_bits", "blocks")


@dataclass(frozen=True)
class Configuration:
    """The concrete settings of n strategies of one network.

    What a strategy does not decide has its untouched value: all channels, density 1 (or what an
    already sparse network has), 32 bits, every block. `LayerTable.configuration` fills those
    in. "Layers" are the layers with weights, in the order of ``LayerTable.weighted``.

    Attributes:
        widths: kept channels per group, ``int (n, groups)``.
        density: share of each layer's weights that is kept, in (0, 1], ``float (n, layers)``.
        weight_bits: bits of each layer's weights, 32 for float, ``int (n, layers)``.
        activation_bits: bits of each layer's input, 32 for float, ``int (n, layers)``.
        blocks: which residual blocks are kept, ``bool (n, blocks)``.
        extra: values of the kinds of decisions that were added from outside the package, by kind,
            ``float (n, columns)`` each.
        untouched: the parts that are known to have their untouched values in all strategies.
        derived: what a layer table has computed from it, once for all costs, by name, each with
            that table.
    """

    widths: np.ndarray
    density: np.ndarray
    weight_bits: np.ndarray
    activation_bits: np.ndarray
    blocks: np.ndarray
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    untouched: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    derived: dict[str, tuple[Any, np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        """Return the number of strategies."""
        return len(self.widths)

    def __getitem__(self, rows: int | slice | np.ndarray) -> "Configuration":
        """Return some of the strategies; one of them is a batch of one."""
        rows = slice(rows, rows + 1) if isinstance(rows, int) else rows
        return Configuration(
            self.widths[rows],
            self.density[rows],
            self.weight_bits[rows],
            self.activation_bits[rows],
            self.blocks[rows],
            {name: each[rows] for name, each in self.extra.items()},
            self.untouched,
        )

    def key(self) -> bytes:
        """Return the key under which an accuracy is cached: equal for equal configurations."""
        parts = [getattr(self, name) for name in PARTS]
        named = [part for name in sorted(self.extra) for part in (name, self.extra[name])]
        return b"|".join(
            part.encode() if isinstance(part, str) else np.asarray(part, np.float64).tobytes()
            for part in (*parts, *named)
        )

    def in_float(self) -> "Configuration":
        """Return the same configurations without quantization."""
        bits = np.full_like(self.weight_bits, FLOAT_BITS)
        return replace(self, weight_bits=bits, activation_bits=bits)

    # Costs skip what an untouched part cannot change.

    @cached_property
    def is_dense(self) -> bool:
        """Whether no weight is pruned away one by one."""
        return "density" in self.untouched or bool((self.density >= 1).all())

    @cached_property
    def keeps_all_blocks(self) -> bool:
        """Whether no residual block is skipped."""
        return "blocks" in self.untouched or bool(self.blocks.all())

    @cached_property
    def has_float_weights(self) -> bool:
        """Whether no weight is quantized."""
        known = "weight_bits" in self.untouched
        return known or bool((self.weight_bits >= FLOAT_BITS).all())

    @cached_property
    def has_float_activations(self) -> bool:
        """Whether no layer's input is quantized."""
        known = "activation_bits" in self.untouched
        return known or bool((self.activation_bits >= FLOAT_BITS).all())
