"""The layer table: all that costs, observations and budgets need to know of a network.

It holds NumPy arrays and plain data only; `prune_gym.graph.trace.trace` makes it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.layers import Activation, Affine, Attribute, Block, Group, Layer, Pin

BLOCK_SIZE = 4  # consecutive output channels that share a weight mask (JCW)


@dataclass(frozen=True)
class LayerTable:
    """Layers, channel groups and activations of one network at one input size.

    Attributes:
        layers: its modules in forward order.
        groups: its channel groups.
        activations: the tensors that the forward pass holds.
        blocks: its residual blocks.
        block_size: output channels that share a mask where weights are pruned one by one: 4,
            or 1 for element-wise pruning (``dataclasses.replace(table, block_size=1)``).
        pins: the output channels that cannot be cut.
        uncounted: operations whose multiply-adds are in no layer, each with how many there are.
        input_shape: of an image (C, H, W), or whatever the network reads in its place; of several
            inputs the shapes of all.
        attributes: numbers of the network's modules that follow the widths.
        parameters: names of parameters outside of layers, each with the dimension of its channels.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    activations: tuple[Activation, ...]
    blocks: tuple[Block, ...] = ()
    block_size: int = BLOCK_SIZE
    pins: tuple[Pin, ...] = ()
    uncounted: tuple[tuple[str, int], ...] = ()
    input_shape: InputShape = ()
    attributes: tuple[Attribute, ...] = ()
    parameters: tuple[tuple[str, int], ...] = ()

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

    def channel_maps(self, at: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return (matrix, constant) of the inputs and of the outputs of the layers ``at``.

        ``widths (n, groups) @ matrix + constant`` are the channels, (n, len(at)).
        """
        return tuple((matrix[:, at], constant[at]) for matrix, constant in self._maps[:2])

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

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """Indices of the layers with weights: the columns of densities and bits."""
        return tuple(i for i, layer in enumerate(self.layers) if layer.has_weight)

    @cached_property
    def _in_block(self) -> np.ndarray:
        """Return which layer is in which block's branch, ``bool (blocks, layers)``."""
        names = [layer.name for layer in self.layers]
        return np.array([np.isin(names, block.layers) for block in self.blocks]).reshape(
            len(self.blocks), len(names)
        )

    def block_around(self, modules: Iterable[str], after: int = -1) -> int:
        """Return the index of the first block whose branch holds all of these modules, or -1.

        Of blocks in one another it is the innermost; the one around it is the first ``after`` it.
        """
        names, blocks = set(modules), range(after + 1, len(self.blocks))
        return next((i for i in blocks if names <= set(self.blocks[i].layers)), -1)

    def configuration(
        self, widths: np.ndarray | None = None, **parts: np.ndarray | Mapping[str, np.ndarray]
    ) -> Configuration:
        """Return a configuration of this network; what is not given has its untouched value.

        Args:
            widths: kept channels per group, ``int (n, groups)``; None: one strategy, all channels.
            **parts: other fields of `Configuration`.
        """
        count = 1 if widths is None else len(widths)
        given = parts if widths is None else {"widths": widths, **parts}
        every: dict[str, Any] = {**self.untouched(count), **given}
        return Configuration(**every)

    def untouched(self, count: int) -> dict[str, np.ndarray]:
        """Return the untouched value of every part of a configuration, ``count`` equal rows.

        The arrays are read-only and take no memory of their own.
        """
        if count not in self._untouched:
            layers = (count, len(self.weighted))
            bits = np.broadcast_to(np.int64(FLOAT_BITS), layers)
            self._untouched[count] = {
                "widths": np.broadcast_to(self.full, (count, len(self.full))),
                "density": np.broadcast_to(1.0, layers),
                "weight_bits": bits,
                "activation_bits": bits,
                "blocks": np.broadcast_to(True, (count, len(self.blocks))),
            }
        return self._untouched[count]

    @cached_property
    def _untouched(self) -> dict[int, dict[str, np.ndarray]]:
        return {}

    def skipped(self, kept: Sequence[bool] | np.ndarray) -> list[Block]:
        """Return the blocks that are skipped, given which are kept."""
        return [block for block, keeps in zip(self.blocks, kept, strict=True) if not keeps]

    def attention(self, configuration: Configuration) -> np.ndarray:
        """Return the multiply-adds of attention, which no weight takes part in, float64 (n,)."""
        at, per_channel = self._attention
        if not len(at):
            return np.zeros(1)
        return self.running_outputs(configuration)[:, at] @ per_channel

    @cached_property
    def _attention(self) -> tuple[np.ndarray, np.ndarray]:
        at = [i for i, layer in enumerate(self.layers) if layer.kind == "attention"]
        per_channel = [sum(p.multiply_adds for p in self.layers[i].products) for i in at]
        return np.array(at, dtype=np.int64), np.array(per_channel, dtype=np.float64)

    def is_of_heads(self, group: int) -> bool:
        """Return whether a group's channels are heads of attention."""
        return any(
            layer.kind == "attention" and layer.outputs.per_group[group] for layer in self.layers
        )

    def runs(self, configuration: Configuration) -> np.ndarray:
        """Return 1 for every layer that runs and 0 for one in a skipped block, (n or 1, layers)."""
        return self._once(configuration, "runs", self._runs)

    def _runs(self, configuration: Configuration) -> np.ndarray:
        if configuration.keeps_all_blocks:
            return np.ones((1, len(self.layers)))
        skipped = (~configuration.blocks).astype(np.float64) @ self._in_block
        return (skipped == 0).astype(np.float64)  # a block may lie in another

    def _once(
        self,
        configuration: Configuration,
        name: str,
        compute: Callable[[Configuration], np.ndarray],
    ) -> np.ndarray:
        """Return what ``compute`` makes of the configuration, computed once for all costs."""
        table, known = configuration.derived.get(name, (None, None))
        if known is None or table is not self:
            known = compute(configuration)
            known.setflags(write=False)
            configuration.derived[name] = self, known
        return known

    def weight_shapes(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns of the weight matrices: widths (n, groups) -> 2 x (n, layers).

        A row holds the weights of one output channel: its inputs times the kernel's size.
        """
        (row_matrix, row_constant), (matrix, constant) = self._shape_maps
        widths = widths.astype(np.float64, copy=False)
        return widths @ row_matrix + row_constant, widths @ matrix + constant

    @cached_property
    def _shape_maps(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        at = list(self.weighted)
        (in_matrix, in_constant), (out_matrix, out_constant), _ = self._maps
        columns = in_matrix[:, at] * self._kernel_sizes, in_constant[at] * self._kernel_sizes
        return (out_matrix[:, at], out_constant[at]), columns

    def weights(self, configuration: Configuration) -> np.ndarray:
        """Return the weights that each layer with weights has, zeros included: (n, layers)."""
        return self._once(configuration, "weights", self._weights)

    def _weights(self, configuration: Configuration) -> np.ndarray:
        rows, columns = self.weight_shapes(configuration.widths)
        weights = rows * columns
        if not configuration.keeps_all_blocks:
            weights *= self.runs(configuration)[:, list(self.weighted)]
        return weights

    def running_outputs(self, configuration: Configuration) -> np.ndarray:
        """Return the channels that each layer writes, 0 in a skipped block: (n, layers)."""
        return self._once(configuration, "running_outputs", self._running_outputs)

    def _running_outputs(self, configuration: Configuration) -> np.ndarray:
        outputs = self.outputs(configuration.widths)
        if not configuration.keeps_all_blocks:
            outputs *= self.runs(configuration)
        return outputs

    def other_params(self, configuration: Configuration) -> np.ndarray:
        """Return how many parameters are no weights of layers that multiply, (n,).

        Those are biases, the scales and shifts of norms, and the slopes of PReLU.
        """
        return self._once(configuration, "other_params", self._other_params)

    def _other_params(self, configuration: Configuration) -> np.ndarray:
        return self.running_outputs(configuration) @ self._params_per_channel

    @cached_property
    def _params_per_channel(self) -> np.ndarray:
        return np.array([layer.params_per_channel for layer in self.layers], dtype=np.float64)

    def mask_sizes(self, rows: np.ndarray) -> np.ndarray:
        """Return how many of ``rows`` output channels share a mask (same shape)."""
        return np.where(rows % self.block_size == 0, self.block_size, 1)

    def nonzeros(self, configuration: Configuration) -> np.ndarray:
        """Return the weights that each layer with weights keeps, (n, layers).

        A density is rounded to whole masks (`kept_masks`): one for ``block_size`` output
        channels where their number allows it, else one for a weight.
        """
        if configuration.is_dense:
            return self.weights(configuration)
        return self._once(configuration, "nonzeros", self._nonzeros)

    def _nonzeros(self, configuration: Configuration) -> np.ndarray:
        weights = self.weights(configuration)
        size = self.mask_sizes(self.weight_shapes(configuration.widths)[0])
        return size * kept_masks(configuration.density, weights / size)

    def activation_bits(self, configuration: Configuration) -> np.ndarray:
        """Return the bits that each activation is stored in: (n or 1, activations).

        The most that one of the layers that read it asks for; where none does, that read what is
        made of it; 32 where none reads that either.
        """
        asked = configuration.activation_bits
        if configuration.has_float_activations:
            return np.full((1, len(self.activations)), FLOAT_BITS)
        skips = not configuration.keeps_all_blocks
        if skips:
            asked = np.where(self.runs(configuration)[:, list(self.weighted)], asked, 0)
        columns, starts = self._readers
        bits = np.maximum.reduceat(np.pad(asked, ((0, 0), (0, 1)))[:, columns], starts, axis=1)
        # Around a skipped block x and the sum are one tensor; the sum may be the x of later blocks.
        joined = []
        if skips:
            pairs = zip(self.blocks, configuration.blocks.T, strict=True)
            joined = [(*block.activations, ~kept) for block, kept in pairs]
        for x, total, skipped in reversed(joined):
            bits[skipped, x] = np.maximum(bits[skipped, x], bits[skipped, total])
        unread = bits == 0
        for index in reversed(range(len(self.activations))):
            for part in self.activations[index].made_of:
                bits[:, part] = np.maximum(bits[:, part], bits[:, index] * unread[:, part])
        for x, total, skipped in joined:
            bits[skipped, total] = bits[skipped, x]
        return np.where(bits == 0, FLOAT_BITS, bits)

    @cached_property
    def _readers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of every activation's readers in a row, and where each one's begin.

        Each one's first column is the one after the last layer's: nothing reads it yet.
        """
        column = {self.layers[index].name: at for at, index in enumerate(self.weighted)}
        rows = [[len(column), *map(column.__getitem__, a.readers)] for a in self.activations]
        starts = np.cumsum([0, *map(len, rows[:-1])])
        return np.concatenate(rows), starts

    @cached_property
    def weighted_pixels(self) -> np.ndarray:
        """Output pixels of the layers with weights, ``float64 (layers,)``."""
        sizes = [self.layers[i].out_size for i in self.weighted]
        return np.array([math.prod(size) for size in sizes], dtype=np.float64)

    @cached_property
    def _kernel_sizes(self) -> np.ndarray:
        kernels = [self.layers[i].kernel for i in self.weighted]
        return np.array([math.prod(kernel) for kernel in kernels], dtype=np.float64)

    def layer(self, name: str) -> Layer:
        """Return a layer by name."""
        return next(layer for layer in self.layers if layer.name == name)


def kept_masks(density: np.ndarray | float, masks: np.ndarray | float) -> np.ndarray:
    """Return how many of a layer's masks a density keeps, at least one (same shape)."""
    return np.maximum(np.rint(density * masks), masks > 0)


def _affine(maps: list[Affine]) -> tuple[np.ndarray, np.ndarray]:
    matrix = np.array([each.per_group for each in maps], dtype=np.float64).T
    constant = np.array([each.constant for each in maps], dtype=np.float64)
    return matrix, constant
