"""What a layer table consists of: layers, channel groups, activations and residual blocks.

Plain data, which `prune_gym.graph.trace.trace` makes of a network.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal[
    "conv",
    "depthwise",
    "linear",
    "batch_norm",
    "group_norm",
    "prelu",
    "pool",
    "layer_norm",
    "attention",
    "parameter",
    "other",
]


@dataclass(frozen=True)
class Affine:
    """A channel count given the decisions: ``constant + sum_g per_group[g] * width_g``."""

    constant: int
    per_group: tuple[int, ...]

    def __call__(self, widths: np.ndarray) -> int:
        """Return the number of channels, given the widths of all groups, ``int (groups,)``."""
        return self.constant + int(np.dot(self.per_group, widths))


@dataclass(frozen=True)
class Product:
    """Products of two matrices, (rows, inner) times (inner, columns), of numbers and no weights.

    Attributes:
        count: how many there are for an image.
        rows: of the first matrix.
        inner: columns of the first matrix, rows of the second.
        columns: of the second matrix.
    """

    count: int
    rows: int
    inner: int
    columns: int

    @property
    def multiply_adds(self) -> int:
        """How many there are."""
        return self.count * self.rows * self.inner * self.columns


@dataclass(frozen=True)
class Layer:
    """One module of the network, in the order of the forward pass.

    Attributes:
        name: its name in the network.
        kind: what it computes; "attention" are products of two tensors, "parameter" is one outside
            of a layer, "other" the parameters of what the tracer does not understand, one output
            for each.
        kernel: size of the kernel along each dimension, such as height and width; (1, 1) for a
            linear layer.
        stride: of the kernel, along the first dimension.
        in_size: size of its input along each dimension.
        out_size: size of its output along each dimension.
        params_per_channel: parameters per output channel beside the weight (bias; scale and shift
            of a norm; slope of PReLU).
        inputs: channels that each output channel reads (1 for depthwise).
        outputs: output channels.
        follows: for batch-norm, the layer whose output it normalizes ("" where there is none).
        groups: of a convolution; cut, a depthwise one has fewer.
        products: of attention, what each output channel computes for an image.
    """

    name: str
    kind: Kind
    kernel: tuple[int, ...]
    stride: int
    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    params_per_channel: int
    inputs: Affine
    outputs: Affine
    follows: str = ""
    groups: int = 1
    products: tuple[Product, ...] = ()

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
        name: the first layer whose output channels it cuts; "LAYER#2" and so on where others of
            its channels are in an earlier group.
        size: channels of the original network.
        members: everything that it cuts.
    """

    name: str
    size: int
    members: tuple[Member, ...]

    @property
    def channels_each(self) -> int:
        """Output channels that one channel of it stands for: of a grouped convolution, one a group.

        1 but for what is cut alike in equal parts.
        """
        return min(m.positions.shape[1] for m in self.members if m.dim == "out")


@dataclass(frozen=True)
class Activation:
    """A tensor that the forward pass holds in memory.

    Attributes:
        channels: its channels.
        pixels: its height times width, or what it has in their place.
        live_from: the step of the forward pass that writes it.
        live_until: the last step that reads it.
        readers: the layers with weights that read it.
        made_of: the indices of the activations whose numbers it passes on: of what an addition, a
            concatenation, a pool or an activation function that does not work in place read.
        writer: the convolution, linear layer or pool that writes it; "" where none does.
    """

    channels: Affine
    pixels: int
    live_from: int
    live_until: int
    readers: tuple[str, ...] = ()
    made_of: tuple[int, ...] = ()
    writer: str = ""


@dataclass(frozen=True)
class Block:
    """A residual block ``x + branch(x)``: without its branch the network still fits together.

    Attributes:
        name: the module that holds the branch's layers, or the first of them.
        layers: the names of the branch's layers.
        source: the node of the traced graph that gives x.
        addition: the node that adds.
        steps: the first and the last step of the forward pass that a skipped block saves.
        activations: the indices of those that hold x and the sum: one tensor where it is skipped.
        overwritten: whether something works in place on the sum, as an activation function does.
    """

    name: str
    layers: tuple[str, ...]
    source: str
    addition: str
    steps: tuple[int, int]
    activations: tuple[int, int]
    overwritten: bool


@dataclass(frozen=True)
class Attribute:
    """A whole number that a module holds and its code writes where a tensor has channels.

    Attributes:
        module: the module's name.
        name: of the attribute, such as "num_heads".
        channels: what it has to be.
    """

    module: str
    name: str
    channels: Affine


@dataclass(frozen=True)
class Pin:
    """Output channels of a layer that cannot be cut.

    Attributes:
        layer: the layer that writes them.
        channels: how many they are.
        by: the operation that pins them.
        why: what it does.
    """

    layer: str
    channels: int
    by: str
    why: str
