"""The layer table: all that costs, observations and budgets need to know of a network.

It holds NumPy arrays and plain data only; :func:`prune_gym.network.trace.trace` makes it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

Kind = Literal["conv", "depthwise", "linear", "batch_norm", "pool"]


@dataclass(frozen=True)
class Affine:
    """A channel count given the decisions: ``constant + sum_g per_group[g] * width_g``."""

    constant: int
    per_group: tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One module of the network, in the order of the forward pass.

    Attributes:
        name: its name in the network.
        kind: what it computes.
        kernel: height and width of the kernel; (1, 1) for a linear layer.
        stride: of the kernel, along the height.
        in_size: height and width of its input.
        out_size: height and width of its output.
        vectors: parameters per output channel beside the weight (bias; batch-norm's scale, shift).
        inputs: channels that each output channel reads (1 for depthwise).
        outputs: output channels.
        follows: for batch-norm, the layer whose output it normalises ("" where there is none).
    """

    name: str
    kind: Kind
    kernel: tuple[int, int]
    stride: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    vectors: int
    inputs: Affine
    outputs: Affine
    follows: str = ""

    @property
    def has_weight(self) -> bool:
        """Whether the layer multiplies (convolution or linear)."""
        return self.kind in ("conv", "depthwise", "linear")


@dataclass(frozen=True)
class Member:
    """One dimension of one module that a channel group cuts.

    Attributes:
        module: the module's name.
        dim: "out" for output channels (and batch-norm's vectors), "in" for input channels.
        positions: ``int (group size, m)``; row c holds the m indices that go with channel c.
    """

    module: str
    dim: Literal["out", "in"]
    positions: np.ndarray


@dataclass(frozen=True)
class Group:
    """A channel group: channel dimensions that are cut together, hence one decision.

    Attributes:
        name: the first layer whose output channels it cuts.
        size: channels of the original network.
        members: everything that it cuts.
    """

    name: str
    size: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Activation:
    """A tensor that the forward pass holds in memory.

    Attributes:
        channels: its channels.
        pixels: its height times width.
        born: the step of the forward pass that writes it.
        dies: the last step that reads it.
    """

    channels: Affine
    pixels: int
    born: int
    dies: int


@dataclass(frozen=True)
class LayerTable:
    """Layers, channel groups and activations of one network at one input size."""

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    activations: tuple[Activation, ...]

    @cached_property
    def full(self) -> np.ndarray:
        """Widths of the original network, ``int64 (groups,)``."""
        return np.array([group.size for group in self.groups], dtype=np.int64)

    @cached_property
    def consumers(self) -> tuple[str, ...]:
        """Names of the layers whose input channels some group cuts, in forward order."""
        names = {m.module for group in self.groups for m in group.members if m.dim == "in"}
        return tuple(layer.name for layer in self.layers if layer.name in names)

    @cached_property
    def _maps(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        return (
            _affine([layer.inputs for layer in self.layers]),
            _affine([layer.outputs for layer in self.layers]),
            _affine([activation.channels for activation in self.activations]),
        )

    def inputs(self, widths: np.ndarray) -> np.ndarray:
        """Return the channels each layer reads: widths (n, groups) -> (n, layers)."""
        matrix, constant = self._maps[0]
        return widths @ matrix + constant

    def outputs(self, widths: np.ndarray) -> np.ndarray:
        """Return the channels each layer writes: widths (n, groups) -> (n, layers)."""
        matrix, constant = self._maps[1]
        return widths @ matrix + constant

    def activation_channels(self, widths: np.ndarray) -> np.ndarray:
        """Return the channels of each activation: widths (n, groups) -> (n, activations)."""
        matrix, constant = self._maps[2]
        return widths @ matrix + constant

    def layer(self, name: str) -> Layer:
        """Return a layer by name."""
        return next(layer for layer in self.layers if layer.name == name)


def _affine(maps: list[Affine]) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.array([each.per_group for each in maps], dtype=np.float64).T
    constant = np.array([each.constant for each in maps], dtype=np.float64)
    return matrix, constant
