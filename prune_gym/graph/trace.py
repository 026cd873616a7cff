"""From a network to its layer table, by one symbolic trace.

Every channel of every tensor carries the name of the *unit* that writes it. Layers read and write
units; additions and products make two units one; so channels that must be cut together end up with
one name. Units that occur in the same places form a channel group. This one pass yields the layers,
the groups and the lifetimes of the activations, and it is exact where a group covers only a part of
a tensor (concatenations, zero-padded shortcuts), which is why it is done here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from prune_gym.errors import UnsupportedLayerError, UserError, first_line
from prune_gym.graph.groups import NO_UNIT, group_units, places_of_units
from prune_gym.graph.layer_table import Activation, Affine, Kind, Layer, LayerTable
from prune_gym.graph.layer_types import BatchNorm
from prune_gym.graph.residual_blocks import ADDITIONS, find_blocks, function_name
from prune_gym.graph.shared_weights import refuse_aliases

_ELEMENTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.SELU, nn.CELU, nn.Softplus, nn.Softsign, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
    *(nn.Identity, nn.Dropout, nn.Dropout2d),
)
_ELEMENTWISE_FUNCTIONS = (
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "tanh", "sigmoid"),
    *("selu", "celu", "softplus", "softsign", "hardswish", "hardsigmoid", "hardtanh"),
    *("dropout", "dropout2d", "contiguous", "clamp"),
    "stochastic_depth",  # torchvision's
)
_SOFTMAX_MODULES = (nn.Softmax, nn.LogSoftmax)
_SOFTMAX_FUNCTIONS = ("softmax", "log_softmax")
_PRODUCTS = ("mul", "imul", "mul_")  # of a map and its gate, as in squeeze-and-excitation
_WITH_NUMBERS = (*ADDITIONS, *_PRODUCTS, "sub", "truediv", "div")
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_RESIZES = (nn.Upsample, nn.ConstantPad2d)  # height and width only
_POOL_FUNCTIONS = (F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d)


@dataclass
class _Tensor:
    """A traced value: one unit per channel, the buffer that holds it, and the layer it is of."""

    units: np.ndarray
    size: tuple[int, int]
    buffer: int
    writer: str = ""


@dataclass(eq=False)
class _Buffer:
    """Memory that holds a tensor from one step to another."""

    units: np.ndarray
    pixels: int
    live_from: int
    live_until: int
    parts: tuple[int, ...]  # the buffers whose numbers it passes on
    readers: set[str] = field(default_factory=set)


def trace(network: nn.Module, input_shape: tuple[int, int, int]) -> LayerTable:
    """Return the layer table of ``network`` for images of ``input_shape`` (C, H, W).

    Raises:
        UserError: an operation is not understood, and the message names the layer; or the network
            does not take such images.
    """
    try:
        graph = fx.symbolic_trace(network)
    except Exception as error:  # whatever its forward raises when it is called with proxies
        raise UserError(
            f"{type(network).__name__} cannot be traced ({first_line(error)}); its forward must "
            "not depend on the values of tensors, and it must be no compiled module"
        ) from error
    refuse_aliases(network)
    tracer = _Tracer(graph)
    training = {module: module.training for module in graph.modules()}
    graph.eval()
    try:
        with torch.inference_mode():
            tracer.run(torch.zeros(1, *input_shape, dtype=torch.float32))
    except UnsupportedLayerError:
        raise
    except Exception as error:  # whatever its forward raises on such images
        shape = "x".join(map(str, input_shape))
        raise UserError(
            f"{type(network).__name__} cannot run on images of {shape} (channels, height, width): "
            f"{first_line(error)}"
        ) from error
    finally:
        for module, was in training.items():
            module.training = was
    return tracer.table()


class _Tracer(fx.Interpreter):
    """Runs the graph once, on real shapes, and follows the units through it."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # fx appends lines to every message
        self.parent: list[int] = []  # union-find over units
        self.layers: list[tuple[Layer, np.ndarray | None, np.ndarray]] = []
        self.values: dict[fx.Node, _Tensor] = {}
        self.buffers: list[_Buffer] = []
        self.step_of: dict[fx.Node, int] = {}
        self.outputs: list[np.ndarray] = []
        self.fixed: list[np.ndarray] = []  # units that surgery cannot cut
        self.pads: list[tuple[str, np.ndarray]] = []  # padding modules and their zeros' units
        self.step = 0

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        self.step += 1
        self.step_of[node] = self.step
        if node.op == "output":
            self.outputs += [self.values[n].units for n in node.all_input_nodes]
        elif isinstance(result, torch.Tensor):
            self.values[node] = self._follow(node, result)
        elif function_name(node) == "chunk":
            self.values[node] = self._chunked(node, result)
        elif isinstance(result, tuple | list) and any(torch.is_tensor(each) for each in result):
            raise UnsupportedLayerError(node.name, f"{function_name(node) or node.target}: several")
        for source in node.all_input_nodes:
            if source in self.values:
                self.buffers[self.values[source].buffer].live_until = self.step
        return result

    def _follow(self, node: fx.Node, result: torch.Tensor) -> _Tensor:
        if node.op == "placeholder":
            units = np.full(result.shape[1], NO_UNIT)
            return self._new(units, _size(result))
        if node.op == "call_module":
            return self._module(str(node.target), node, result)
        if node.op == "get_attr":
            raise UnsupportedLayerError(
                str(node.target), "a parameter or buffer outside of a layer"
            )
        return self._function(node, result)

    def _module(self, name: str, node: fx.Node, result: torch.Tensor) -> _Tensor:
        module = self.fetch_attr(name)
        source = self.values[node.all_input_nodes[0]]
        if isinstance(module, nn.Conv2d | nn.Linear):
            return self._weighted(name, module, source, result)
        if isinstance(module, BatchNorm):
            if not (module.affine and module.track_running_stats):
                raise UnsupportedLayerError(
                    name, "batch-norm without scale, shift or running statistics"
                )
            if len(node.all_input_nodes[0].users) > 1:  # others read it too: it cannot be folded
                source = replace(source, writer="")
            self._layer(name, "batch_norm", source, result, source.units, 2)
            return self._in_place(node, source)
        if isinstance(module, nn.GroupNorm):
            return self._group_norm(name, module, node, source, result)
        if isinstance(module, nn.PReLU):
            each = module.num_parameters == len(source.units)  # else one slope for all channels
            units = source.units if each else np.array([NO_UNIT])
            self._layer(name, "prelu", source, result, units, 1)
            return self._in_place(node, source)
        if isinstance(module, _ELEMENTWISE_MODULES):
            return self._in_place(node, source)
        if isinstance(module, _SOFTMAX_MODULES):
            return self._softmax(node, source)
        if isinstance(module, _POOLS):
            kernel, stride = (getattr(module, key, None) for key in ("kernel_size", "stride"))
            return self._pool(name, source, result, kernel, stride)
        if isinstance(module, _RESIZES):
            return self._new(source.units, _size(result), [source])
        if isinstance(module, nn.Flatten):
            return self._flatten(name, source, result)
        if isinstance(module, nn.ConstantPad3d) and module.value == 0 and result.ndim == 4:
            return self._pad_channels(name, module, source, result)
        raise UnsupportedLayerError(name, type(module).__name__)

    def _group_norm(
        self, name: str, module: nn.GroupNorm, node: fx.Node, source: _Tensor, result: torch.Tensor
    ) -> _Tensor:
        """Cut whole groups: with a part of one gone, the rest of it has other values."""
        if not module.affine:
            raise UnsupportedLayerError(name, "group-norm without scale and shift")
        if module.num_groups == 1:
            self.fixed.append(source.units)
        else:
            each = module.num_channels // module.num_groups
            first, *others = source.units.reshape(-1, each).T
            for other in others:
                first = self._merge(first, other)
            source = replace(source, units=np.repeat(first, each))
        self._layer(name, "group_norm", source, result, source.units, 2)
        return self._in_place(node, source)

    def _weighted(
        self, name: str, module: nn.Conv2d | nn.Linear, source: _Tensor, result: torch.Tensor
    ) -> _Tensor:
        if not isinstance(module._parameters.get("weight"), nn.Parameter):
            raise UnsupportedLayerError(name, "its weight is computed: remove the parametrization")
        if result.ndim != (2 if isinstance(module, nn.Linear) else 4):
            raise UnsupportedLayerError(name, f"on a tensor of {result.ndim} dimensions")
        kind: Kind = "linear" if isinstance(module, nn.Linear) else "conv"
        reads, writes = source.units, self._fresh(result.shape[1])
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        if 1 < groups == len(reads):
            kind, writes = "depthwise", np.repeat(reads, result.shape[1] // groups)
        elif groups > 1:
            reads = self._tied(reads, groups)[: len(reads) // groups]
            writes = self._tied(writes, groups)
        kernel = _pair(module.kernel_size) if isinstance(module, nn.Conv2d) else (1, 1)
        stride = _pair(module.stride)[0] if isinstance(module, nn.Conv2d) else 1
        params_per_channel = int(module.bias is not None)
        read = replace(source, units=reads)
        self._layer(name, kind, read, result, writes, params_per_channel, kernel, stride, groups)
        self.buffers[source.buffer].readers.add(name)
        return replace(self._new(writes, _size(result)), writer=name)

    def _function(self, node: fx.Node, result: torch.Tensor) -> _Tensor:
        target, name = node.target, function_name(node)
        sources = [self.values[n] for n in node.all_input_nodes if n in self.values]
        if name in _ELEMENTWISE_FUNCTIONS:
            return self._in_place(node, sources[0])
        if name in _SOFTMAX_FUNCTIONS:
            return self._softmax(node, sources[0])
        if name in (*ADDITIONS, *_PRODUCTS) and len(sources) == 2:
            shapes = [self.env[n].shape for n in node.all_input_nodes]
            if len({(len(shape), shape[1]) for shape in shapes}) > 1:
                shown = " and ".join(str(tuple(shape)) for shape in shapes)
                raise UnsupportedLayerError(node.name, f"{name} of different channels, {shown}")
            merged = self._merge(*(source.units for source in sources))
            return self._new(merged, _size(result), sources)
        if name in _WITH_NUMBERS and len(node.all_input_nodes) == 1:
            return self._in_place(node, sources[0])
        if name == "expand_as" and result.shape[1] == len(sources[0].units):
            return replace(sources[0], size=_size(result), writer="")
        if name in ("cat", "concat"):
            return self._concatenated(node, result)
        if name in ("flatten", "view", "reshape"):
            return self._reshaped(node, sources[0], result)
        if target in _POOL_FUNCTIONS:
            if target is F.adaptive_avg_pool2d:  # its argument is the output's size
                return self._pool(node.name, sources[0], result, None)
            args, kwargs = self.fetch_args_kwargs_from_env(node)
            given = dict(zip(("input", "kernel_size", "stride"), args, strict=False)) | kwargs
            window, stride = given["kernel_size"], given.get("stride")
            return self._pool(node.name, sources[0], result, window, stride)
        if name == "mean" and self._is_global_mean(node):
            return self._pool(node.name, sources[0], result, None)
        if name == "interpolate" and result.ndim == 4:
            return self._new(sources[0].units, _size(result), sources)
        if name == "getitem" and isinstance(node.args[1], int):  # a part of a chunked tensor
            width = result.shape[1]
            units = sources[0].units.reshape(-1, width)[node.args[1]]
            return self._new(units, _size(result), sources)
        if name == "getitem" and result.ndim == 4 and _keeps_channels(node.args[1]):
            return self._new(sources[0].units, _size(result), sources)
        if name == "pad" and result.ndim == 4:
            return self._new(self._padded(node, sources[0]), _size(result), sources)
        raise UnsupportedLayerError(node.name, name)

    def _pool(
        self, name: str, source: _Tensor, result: torch.Tensor, kernel: Any, stride: Any = None
    ) -> _Tensor:
        """Add a pool; one without a kernel covers its input with as many windows as outputs."""
        if kernel is None:
            kernel = [max(i // o, 1) for i, o in zip(source.size, _size(result), strict=True)]
        window, step = _pair(kernel), _pair(stride or kernel)[0]
        self._layer(name, "pool", source, result, source.units, 0, window, step)
        return self._new(source.units, _size(result), [source])

    def _in_place(self, node: fx.Node, source: _Tensor) -> _Tensor:
        """Write over the input, unless something else reads it too."""
        if len(node.all_input_nodes[0].users) > 1:
            return self._new(source.units, source.size, [source])
        return replace(source, writer="")

    def _softmax(self, node: fx.Node, source: _Tensor) -> _Tensor:
        """Keep every channel: without one of them the others have other values."""
        self.fixed.append(source.units)
        return self._in_place(node, source)

    def _is_global_mean(self, node: fx.Node) -> bool:
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        given = kwargs.get("dim", args[1] if len(args) > 1 else None)
        ndim = args[0].ndim
        return ndim == 4 and isinstance(given, tuple | list) and {d % 4 for d in given} == {2, 3}

    def _concatenated(self, node: fx.Node, result: torch.Tensor) -> _Tensor:
        parts = node.args[0] if node.args else node.kwargs["tensors"]
        sources = [self.values[part] for part in parts]  # type: ignore[union-attr, index]
        units = np.concatenate([source.units for source in sources])
        if len(units) != result.shape[1]:
            raise UnsupportedLayerError(node.name, "cat along another dimension than the channels")
        return self._new(units, _size(result), sources)

    def _reshaped(self, node: fx.Node, source: _Tensor, result: torch.Tensor) -> _Tensor:
        name = function_name(node)
        if name == "view" and source.size != (1, 1):
            raise UnsupportedLayerError(
                node.name,
                "view of a map: networks are run channels-last, where it is an error; flatten(1) "
                "and reshape do the same",
            )
        shape = node.args[1:] if len(node.args) != 2 else (node.args[1],)
        if len(shape) == 1 and isinstance(shape[0], tuple | list):
            shape = tuple(shape[0])
        if name != "flatten" and len(shape) > 1 and isinstance(shape[1], int) and shape[1] >= 0:
            # The number of channels is written in the network's code; surgery cannot change it.
            self.fixed.append(source.units)
        return self._flatten(node.name, source, result)

    def _flatten(self, name: str, source: _Tensor, result: torch.Tensor) -> _Tensor:
        repeats, left = divmod(result.shape[1], len(source.units)) if result.ndim > 1 else (0, 1)
        if result.ndim not in (2, 4) or left or _size(result) != (1, 1):
            raise UnsupportedLayerError(name, f"a change of shape to {tuple(result.shape)}")
        return replace(source, units=np.repeat(source.units, repeats), size=(1, 1), writer="")

    def _chunked(self, node: fx.Node, parts: Sequence[torch.Tensor]) -> _Tensor:
        """Tie the channels of equal parts: cut alike in each, the parts stay equal."""
        source = self.values[node.all_input_nodes[0]]
        if sum(part.shape[1] for part in parts) != len(source.units):
            raise UnsupportedLayerError(
                node.name, "chunk along another dimension than the channels"
            )
        if len({part.shape[1] for part in parts}) > 1:
            raise UnsupportedLayerError(node.name, "chunk into parts of different size")
        return replace(source, units=self._tied(source.units, len(parts)))

    def _pad_channels(
        self, name: str, module: nn.ConstantPad3d, source: _Tensor, result: torch.Tensor
    ) -> _Tensor:
        """Give the zeros units of their own: surgery can change how many there are."""
        before, after = module.padding[4:]
        if min(before, after) < 0 or any(name == other for other, _ in self.pads):
            raise UnsupportedLayerError(name, "padding that crops, or that is called twice")
        zeros = self._fresh(before + after)
        self.pads.append((name, zeros))
        units = np.concatenate([zeros[:before], source.units, zeros[before:]])
        return self._new(units, _size(result), [source])

    def _padded(self, node: fx.Node, source: _Tensor) -> np.ndarray:
        amounts = list(node.args[1] if len(node.args) > 1 else node.kwargs["pad"])  # type: ignore[arg-type]
        before, after = amounts[4:6] if len(amounts) >= 6 else (0, 0)
        return np.pad(source.units, (before, after), constant_values=NO_UNIT)

    def _tied(self, units: np.ndarray, parts: int) -> np.ndarray:
        """Make channels at the same place of equal parts one unit; return the units, ``(n,)``."""
        first, *others = units.reshape(parts, -1)
        for other in others:
            first = self._merge(first, other)
        return np.tile(first, parts)

    def _merge(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        merged = np.where(left == NO_UNIT, right, left)
        # The amount of padding is written in the network's code, where surgery cannot change it.
        self.fixed.append(merged[(left == NO_UNIT) ^ (right == NO_UNIT)])
        for a, b in zip(left, right, strict=True):
            if NO_UNIT not in (a, b):
                self.parent[self._root(a)] = self._root(b)
        return merged

    def _layer(
        self,
        name: str,
        kind: Kind,
        source: _Tensor,
        result: torch.Tensor,
        units: np.ndarray,
        params_per_channel: int,
        kernel: tuple[int, int] = (1, 1),
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        if kind != "pool" and any(layer.name == name for layer, *_ in self.layers):
            raise UnsupportedLayerError(name, "a module that is called twice")
        nothing = Affine(0, ())
        follows = source.writer if kind == "batch_norm" else ""
        sizes = (source.size, _size(result))
        layer = Layer(
            name,
            kind,
            kernel,
            stride,
            *sizes,
            params_per_channel,
            nothing,
            nothing,
            follows,
            groups,
        )
        reads = source.units if kind in ("conv", "linear") else None
        self.layers.append((layer, reads, units))

    def _new(
        self, units: np.ndarray, size: tuple[int, int], made_of: Sequence[_Tensor] = ()
    ) -> _Tensor:
        """Write a new buffer; ``made_of`` are the tensors whose numbers it passes on."""
        parts = tuple(source.buffer for source in made_of)
        self.buffers.append(_Buffer(units, size[0] * size[1], self.step, self.step, parts))
        return _Tensor(units, size, len(self.buffers) - 1)

    def _fresh(self, count: int) -> np.ndarray:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def _root(self, unit: int) -> int:
        while self.parent[unit] != unit:
            self.parent[unit] = self.parent[self.parent[unit]]
            unit = self.parent[unit]
        return unit

    def table(self) -> LayerTable:
        """Group the units by the places they occur in and count every tensor in groups."""
        roots = np.array([self._root(unit) for unit in range(len(self.parent))] + [NO_UNIT])
        places = places_of_units(self.layers, self.pads, roots)
        uncut = np.concatenate([*self.outputs, *self.fixed])
        groups, group_of = group_units(places, set(roots[uncut].tolist()), len(roots))

        def count(units: np.ndarray) -> Affine:
            found = np.bincount(group_of[roots[units]], minlength=len(groups) + 1)
            # Units of no group stand last: the network's inputs and outputs.
            shares = [int(n) // g.size for n, g in zip(found, groups, strict=False)]
            return Affine(int(found[-1]), tuple(shares))

        one = Affine(1, (0,) * len(groups))
        layers = tuple(
            replace(layer, inputs=one if reads is None else count(reads), outputs=count(units))
            for layer, reads, units in self.layers
        )
        activations = tuple(
            Activation(
                count(b.units),
                b.pixels,
                b.live_from,
                b.live_until,
                tuple(sorted(b.readers)),
                b.parts,
            )
            for b in self.buffers
        )
        holders = {node: tensor.buffer for node, tensor in self.values.items()}
        blocks = find_blocks(self.step_of, layers, holders)
        return LayerTable(layers, groups, activations, blocks)


def _size(tensor: torch.Tensor) -> tuple[int, int]:
    return (tensor.shape[2], tensor.shape[3]) if tensor.ndim == 4 else (1, 1)


def _keeps_channels(index: Any) -> bool:
    return isinstance(index, tuple) and len(index) > 1 and index[1] == slice(None)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
