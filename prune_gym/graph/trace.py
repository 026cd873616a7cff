"""From a network to its layer table, by one symbolic trace.

Every channel of every tensor carries the name of the *unit* that writes it. Layers read and write
units; additions and products make two units one; so channels that must be cut together end up with
one name. Units that occur in the same places form a channel group. This one pass yields the layers,
the groups and the lifetimes of the activations, and it is exact where a group covers only a part of
a tensor (concatenations, zero-padded shortcuts), which is why it is done here.

An operation that is not understood is left alone: it pins the channels that it reads, what it
writes cannot be cut, and everything else can.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym._utils.device import memory_format
from prune_gym.errors import UserError
from prune_gym.graph.attributes import Key, keys_in
from prune_gym.graph.branches import function_name
from prune_gym.graph.cuttable_heads import make_heads_cuttable
from prune_gym.graph.groups import NO_UNIT, group_units, places_of_units
from prune_gym.graph.input_shapes import InputShape, as_input_shape
from prune_gym.graph.inputs import feed, zeros
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layers import Activation, Affine, Attribute, Kind, Layer, Pin, Product
from prune_gym.graph.multiply_adds import MultiplyAdds
from prune_gym.graph.operations import changes_numbers, knows_stacks, reads_parameters, rule_of
from prune_gym.graph.residual_blocks import find_blocks
from prune_gym.graph.shared_weights import find_aliases
from prune_gym.graph.symbolic import all_sizes, in_eval_mode, symbolic_trace, tensors
from prune_gym.graph.units import NotUnderstood, Traced, Units, size_of


@dataclass(eq=False)
class _Buffer:
    """Memory that holds a tensor from one step to another."""

    units: np.ndarray
    pixels: int
    live_from: int
    live_until: int
    parts: tuple[int, ...]  # the buffers whose numbers it passes on
    layer: str  # that writes it
    readers: set[str] = field(default_factory=set)


def trace(network: nn.Module, input_shape: Any) -> LayerTable:
    """Return the layer table of ``network`` for images of ``input_shape``.

    That is (C, H, W); of signals (C, L), of volumes (C, D, H, W), of token ids (L,). Of several
    inputs it is a tuple of shapes, or a dict by the names of the forward's arguments; where they
    are not all floats and token ids, an `InputShapes`.
    Its ``nn.MultiheadAttention`` modules, and those of torchvision's Swin, are replaced, in place,
    by ones that compute the same and whose heads can be cut (`prune_gym.graph.cuttable_heads`).

    Raises:
        UserError: the network does not take such images, or its outermost forward cannot be traced.
    """
    make_heads_cuttable(network)
    shape = as_input_shape(input_shape)
    graph = symbolic_trace(network, shape)
    tracer = Tracer(network, graph, find_aliases(network))
    example = zeros(network, shape)
    with in_eval_mode(network):
        with torch.no_grad(), tracer.multiply_adds:
            tracer.run(*tree_leaves(example))
        _check_channels_last(network, graph, shape)
    return replace(tracer.table(), input_shape=shape)


class Tracer(fx.Interpreter):
    """Runs the graph once, on real shapes, and follows the units through it.

    Attributes:
        units: of all channels.
        shapes: of every tensor.
        multiply_adds: counts what an operation multiplies.
    """

    def __init__(self, network: nn.Module, graph: fx.GraphModule, whole: dict[str, str]) -> None:
        """Take a network, its graph, and the modules that must stay whole, each with the reason."""
        super().__init__(graph)
        self._network, self._whole = network, whole
        self.extra_traceback = False  # fx appends lines to every message
        self.units = Units()
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.multiply_adds = MultiplyAdds()
        self._layers: list[tuple[Layer, np.ndarray | None, np.ndarray]] = []
        self._values: dict[fx.Node, Traced] = {}
        self._parts: dict[fx.Node, list[np.ndarray]] = {}  # units of the tensors of a tuple
        self._buffers: list[_Buffer] = []
        self._step_of: dict[fx.Node, int] = {}
        self._names: dict[fx.Node, str] = {}  # nodes that are layers
        self._again: set[str] = set()  # layers that are also called in a way that is left alone
        self._calls: Counter[str] = Counter()  # of layers that are understood
        self._uncounted: dict[str, int] = {}
        self._counted: set[int] = set()  # parameters
        self.pads: list[tuple[str, np.ndarray]] = []  # padding modules and their zeros' units
        self._attributes: dict[Key, tuple[np.ndarray, set[fx.Node]]] = {}  # and where they stand
        self._loose: dict[str, Traced] = {}  # parameters outside of layers
        self._computed: set[Key] = graph.meta["computed"]
        self._step = 0

    def run_node(self, n: fx.Node) -> Any:
        """Run an operation and follow the units through it."""
        before = self.multiply_adds.total
        result = super().run_node(n)
        self._step += 1
        self._step_of[n] = self._step
        if isinstance(result, torch.Tensor):
            self.shapes[n] = result.shape
        if n.op == "output":
            for source in self.sources(n):
                self.units.pin(source.units, "output", "it is the network's output")
        elif self.loose(n) is not None:
            pass  # whoever reads it says what it is
        elif tensors(result):
            self._values[n] = self._follow(n, result, self.multiply_adds.total - before)
            for dimension, module in n.meta.get("read", {}).items():
                if dimension == self._values[n].axis:
                    where = f"the forward of {module or 'the network'}"
                    self.pin(self._values[n], where, "it uses the number of channels")
        for source in self.sources(n):
            self._buffers[source.buffer].live_until = self._step
        return result

    def tensor(self, node: Any) -> Traced | None:
        """Return the traced tensor of a node; channels of a parameter are its last dimension.

        Raises:
            NotUnderstood: it is a buffer, or a parameter that cannot be cut.
        """
        if isinstance(node, fx.Node) and node.op == "get_attr":
            return self.parameter(node, -1)
        return self.value(node)

    def parameter(self, node: fx.Node, axis: int, name: str = "") -> Traced:
        """Give the channels of a parameter outside of layers units of their own, once.

        ``axis`` is their dimension, counted from the end. The parameter is what ``node`` stands
        for, or the one called ``name`` that it reads.

        Raises:
            NotUnderstood: it is a buffer, has several names or has been left alone; or an operation
                before has seen its channels in another dimension.
        """
        name = name or str(node.target)
        weights = self.fetch_attr(name)
        if name in self._loose:
            if self._loose[name].axis != weights.ndim + axis:
                raise NotUnderstood("a parameter whose channels are in another dimension elsewhere")
            return self._loose[name]
        named = self._network.named_parameters(remove_duplicate=False)
        if sum(each is weights for _, each in named) != 1 or id(weights) in self._counted:
            raise NotUnderstood("a buffer, or a parameter that is used otherwise elsewhere")
        units, at = self.units.fresh(weights.shape[axis]), weights.ndim + axis
        self._loose[name] = self._new(units, at, (0, 0))  # parameters are counted as weights
        nothing, one = Affine(0, ()), (1, 1)
        each = weights.numel() // len(units)
        layer = Layer(name, "parameter", one, 1, one, one, each, nothing, nothing)
        self._layers.append((layer, None, units))
        self._counted.add(id(weights))
        self._names[node] = name
        return self._loose[name]

    def loose(self, node: fx.Node) -> fx.Node | None:
        """Return the parameter or buffer that a node is, or None.

        A parameter that an operation has changed, each number alone, is taken for the parameter
        where only additions, products and the like read it.
        """
        while node.op != "get_attr":
            if not changes_numbers(node) or not all(map(reads_parameters, node.users)):
                return None
            (node,) = node.all_input_nodes
            if node.op == "get_attr" and not isinstance(
                self.fetch_attr(str(node.target)), nn.Parameter
            ):
                return None
        return node

    def constant(self, node: fx.Node) -> Traced:
        """Return the traced tensor of a buffer, of which nothing can be cut."""
        shape = self.fetch_attr(str(node.target)).shape
        units = np.full(shape[-1], NO_UNIT)
        found = self._new(units, len(shape) - 1, (0, 0))  # it is no activation
        return replace(found, size=size_of(shape, found.axis, len(units)))

    def sources(self, node: fx.Node) -> list[Traced]:
        """Return the traced tensors that a node reads."""
        return [self._values[each] for each in node.all_input_nodes if each in self._values]

    def original(self, name: str) -> nn.Module:
        """Return a module of the network, also one that the graph is traced into."""
        return self._network.get_submodule(name)

    def value(self, node: Any) -> Traced | None:
        """Return the traced tensor of a node; None for parameters and what is no node."""
        return self._values.get(node)

    def _follow(self, node: fx.Node, result: Any, multiply_adds: int) -> Traced:
        if node.op == "placeholder":
            return self.uncuttable(result)
        changed = len(self._layers), len(self._buffers)
        try:
            if node.op == "call_module" and node.target in self._whole:
                raise NotUnderstood(self._whole[str(node.target)])
            rule, knows_sizes = rule_of(self, node)
            if any(source.stacked > 1 for source in self.sources(node)) and not knows_stacks(rule):
                raise NotUnderstood(f"{function_name(node) or 'a module'} of stacked tensors")
            if not knows_sizes:
                self.pin_sizes(node.all_input_nodes, node)
            return rule(self, node, result)
        except NotUnderstood as unknown:
            why = str(unknown)
        except (LookupError, TypeError, ValueError, AttributeError):
            if changed != (len(self._layers), len(self._buffers)):
                raise
            why = f"{function_name(node) or node.target} is called in an unusual way"
        return self._leave_alone(node, result, why, multiply_adds)

    def _leave_alone(self, node: fx.Node, result: Any, why: str, multiply_adds: int) -> Traced:
        """Pin what an operation reads; nothing of what it writes can be cut."""
        for source in self.sources(node):
            self.pin(source, node, why)
        if node.op == "call_module":
            self._pin_other_calls(str(node.target), why)
        self.pin_sizes(node.all_input_nodes, node)
        self._count_parameters(node)
        if multiply_adds:
            name = str(node.target) if node.op == "call_module" else node.name
            self._uncounted[name] = self._uncounted.get(name, 0) + multiply_adds
        return self.uncuttable(result, self.sources(node))

    def uncuttable(self, result: Any, made_of: Sequence[Traced] = ()) -> Traced:
        """Write a tensor, or several, of which nothing can be cut."""
        if isinstance(result, torch.Tensor):
            channels = result.shape[1] if result.ndim > 1 else max(result.numel(), 1)
            return self.write(np.full(channels, NO_UNIT), 1, result, made_of)
        return self.write(np.array([NO_UNIT]), 1, result, made_of)

    def pin(self, tensor: Traced, by: fx.Node | str, why: str) -> None:
        """Keep the channels of a tensor from being cut."""
        self.units.pin(tensor.units, by if isinstance(by, str) else label(by), why)

    def pin_sizes(self, numbers: Sequence[fx.Node], by: fx.Node) -> None:
        """Pin the channels of which an operation is given the number, and not as a shape."""
        for source, dimension in set().union(*(all_sizes(number) for number in numbers)):
            found = self.value(source)
            if found is not None and found.axis == dimension:
                self.pin(found, by, "it is given the number of channels")

    def follow_width(self, node: fx.Node, key: Key, units: np.ndarray) -> None:
        """Note that a module's attribute is the number of these units in an operation."""
        if key in self._attributes:
            before, nodes = self._attributes[key]
            self._attributes[key] = (self.units.merge(before, units, node.name), nodes | {node})
        else:
            self._attributes[key] = (units, {node})

    def along(self, source: Traced, axis: int, count: int, by: fx.Node) -> np.ndarray:
        """Return the units that stand along ``axis``; where others stand there, pin them."""
        if source.axis == axis and len(source.units) == count:
            return source.units
        self.pin(source, by, "its channels are in another dimension")
        return np.full(count, NO_UNIT)

    def parts(self, node: fx.Node) -> list[np.ndarray]:
        """Return the units of each tensor of a tuple; none where nothing of it can be cut."""
        return self._parts.get(node, [])

    def set_parts(self, node: fx.Node, parts: list[np.ndarray]) -> None:
        """Keep the units of each tensor of a tuple."""
        self._parts[node] = parts

    def in_place(self, node: fx.Node, source: Traced) -> Traced:
        """Write over the input, unless something else reads it too."""
        if len(node.all_input_nodes[0].users) > 1:
            return self._new(source.units, source.axis, source.size, [source])
        return replace(source, writer="")

    def write(
        self,
        units: np.ndarray,
        axis: int,
        result: Any,
        made_of: Sequence[Traced] = (),
        layer: str = "",
    ) -> Traced:
        """Write a new buffer.

        Args:
            units: of its channels.
            axis: the dimension of the channels.
            result: the tensor.
            made_of: the tensors whose numbers it passes on.
            layer: the convolution, linear layer or pool that writes it.
        """
        if isinstance(result, torch.Tensor):
            size = size_of(result.shape, axis, len(units))
        else:
            size = (sum(each.numel() for each in tensors(result)), 1)
        return self._new(units, axis, size, made_of, layer)

    def _new(
        self,
        units: np.ndarray,
        axis: int,
        size: tuple[int, ...],
        made_of: Sequence[Traced] = (),
        layer: str = "",
    ) -> Traced:
        parts = tuple(source.buffer for source in made_of)
        buffer = _Buffer(units, math.prod(size), self._step, self._step, parts, layer)
        self._buffers.append(buffer)
        return Traced(units, axis, size, len(self._buffers) - 1)

    def weighted(self, name: str, source: Traced) -> None:
        """Note that a layer with weights reads a tensor."""
        self._buffers[source.buffer].readers.add(name)

    def follows(self, node: fx.Node, source: Traced) -> str:
        """Return the layer that a norm can be folded into, "" where others read it too."""
        return source.writer if len(node.all_input_nodes[0].users) == 1 else ""

    def layer(
        self,
        node: fx.Node,
        name: str,
        kind: Kind,
        source: Traced,
        out_size: tuple[int, ...],
        units: np.ndarray,
        params_per_channel: int,
        kernel: tuple[int, ...] = (1, 1),
        stride: int = 1,
        groups: int = 1,
        follows: str = "",
        products: tuple[Product, ...] = (),
    ) -> None:
        """Add a layer; ``units`` are what it writes, ``products`` what attention multiplies.

        The calls of one that is called several times count as one, with a higher map, and the
        channels of all of them are one.

        Raises:
            NotUnderstood: it must stay whole, or another call of it is not understood.
        """
        if kind != "pool" or node.op == "call_module":
            self._names[node] = name
        reads = source.units if kind in ("conv", "linear") else None
        if kind not in ("pool", "attention"):
            self.check_whole(name)
            self._calls[name] += 1
            if self._calls[name] > 1:
                self._call_again(name, kind, source.size, out_size, reads, units, follows)
                return
            own = dict(self.fetch_attr(name).named_parameters(recurse=False))
            self._counted.update(map(id, own.values()))
            read_before = {f"{name}.{each}" for each in own}  # by something else, and counted then
            self._layers = [each for each in self._layers if each[0].name not in read_before]
        nothing = Affine(0, ())
        layer = Layer(
            *(
                name,
                kind,
                kernel,
                stride,
                source.size,
                out_size,
                params_per_channel,
                nothing,
                nothing,
            ),
            *(follows, groups, products),
        )
        self._layers.append((layer, reads, units))

    def _call_again(
        self,
        name: str,
        kind: Kind,
        in_size: tuple[int, ...],
        out_size: tuple[int, ...],
        reads: np.ndarray | None,
        writes: np.ndarray,
        follows: str,
    ) -> None:
        at = next(at for at, (layer, *_) in enumerate(self._layers) if layer.name == name)
        layer, read_before, written_before = self._layers[at]
        if layer.kind != kind or len(writes) != len(written_before):
            raise NotUnderstood("a module that is called in two ways")
        if reads is not None and read_before is not None:
            self.units.merge(read_before, reads, name)
        self.units.merge(written_before, writes, name)
        layer = replace(
            layer,
            in_size=_joined(layer.in_size, in_size),
            out_size=_joined(layer.out_size, out_size),
            follows=follows if follows == layer.follows else "",
        )
        self._layers[at] = layer, read_before, written_before

    def check_whole(self, name: str) -> None:
        """Refuse a layer that must stay whole.

        Raises:
            NotUnderstood: it must, or a call of it before was not understood.
        """
        if name in self._whole:
            raise NotUnderstood(self._whole[name])
        whole = (layer.name for layer, *_ in self._layers if layer.kind == "other")
        if any(f"{name}.".startswith(f"{each}.") for each in whole):
            raise NotUnderstood("a module whose other call is left alone")

    def _pin_other_calls(self, name: str, why: str) -> None:
        """Pin what the calls of a module touch that were understood."""
        for layer, reads, writes in self._layers:
            if f"{layer.name}.".startswith(f"{name}.") and layer.kind not in ("pool", "attention"):
                self._again.add(layer.name)
                for units in (reads, writes):
                    if units is not None:
                        self.units.pin(units, name, why)

    def _count_parameters(self, node: fx.Node) -> None:
        """Add the parameters of an operation that is not understood, each once."""
        owners = {str(node.target): node} if node.op == "call_module" else {}
        read = {each: self.loose(each) for each in node.all_input_nodes}
        loose = {str(found.target): each for each, found in read.items() if found is not None}
        for name, named in (owners | loose).items():
            if name in self._loose:
                self.pin(self._loose[name], node, "a parameter that is also used otherwise")
            held = self.fetch_attr(name)
            tensors = held.parameters() if isinstance(held, nn.Module) else [held]
            if self._other(name, tensors):
                self._names[named] = name

    def _other(self, name: str, tensors: Iterable[torch.Tensor]) -> bool:
        """Add a layer for parameters that no layer has yet; return whether there are any."""
        new = {
            id(each): each.numel()
            for each in tensors
            if isinstance(each, nn.Parameter) and id(each) not in self._counted
        }
        if not new or name in {layer.name for layer, *_ in self._layers}:
            return False
        self._counted.update(new)
        nothing = Affine(0, ())
        layer = Layer(name, "other", (1, 1), 1, (1, 1), (1, 1), 1, nothing, nothing)
        self._layers.append((layer, None, np.full(sum(new.values()), NO_UNIT)))
        return True

    def _count_what_never_runs(self) -> None:
        """Add the parameters of modules that eval mode does not use, such as auxiliary heads."""
        for name, module in self._network.named_modules():
            self._other(name, module.parameters(recurse=False))

    def count_loose(self, node: fx.Node) -> None:
        """Count the parameters that an operation is given, where they are no layer's."""
        self._count_parameters(node)

    def table(self) -> LayerTable:
        """Group the units by the places they occur in and count every tensor in groups."""
        self._pin_layers_whose_weights_others_read()
        self._pin_attributes_used_elsewhere()
        self._pin_parameters_that_no_layer_writes_to()
        self._count_what_never_runs()
        roots = self.units.roots()
        places = places_of_units(self._layers, self.pads, roots)
        pinned = np.concatenate([np.empty(0, int), *(units for units, *_ in self.units.pins)])
        groups, group_of = group_units(places, set(roots[pinned].tolist()), len(roots))

        def count(units: np.ndarray) -> Affine:
            found = np.bincount(group_of[roots[units]], minlength=len(groups) + 1)
            # Units of no group stand last: the network's inputs and outputs.
            shares = [int(n) // g.size for n, g in zip(found, groups, strict=False)]
            return Affine(int(found[-1]), tuple(shares))

        one = Affine(1, (0,) * len(groups))
        layers = tuple(
            replace(
                layer,
                inputs=one if reads is None else count(reads),
                outputs=count(units),
                follows=layer.follows if self._folds(layer) else "",
            )
            for layer, reads, units in self._layers
        )
        activations = tuple(
            Activation(
                count(b.units),
                b.pixels,
                b.live_from,
                b.live_until,
                tuple(sorted(b.readers)),
                b.parts,
                b.layer,
            )
            for b in self._buffers
        )
        holders = {node: tensor.buffer for node, tensor in self._values.items()}
        once = {node: name for node, name in self._names.items() if name not in self._again}
        several = {name for name, count in self._calls.items() if count > 1}
        found = find_blocks(self._step_of, once, layers, holders)
        blocks = tuple(block for block in found if several.isdisjoint(block.layers))
        pins = tuple(self._pins(roots))
        uncounted = tuple(self._uncounted.items())
        attributes = [
            Attribute(key.module, key.name, count(units))
            for key, (units, _) in self._attributes.items()
        ]
        return LayerTable(
            layers,
            groups,
            activations,
            blocks,
            pins=pins,
            uncounted=uncounted,
            attributes=tuple(each for each in attributes if any(each.channels.per_group)),
            parameters=tuple((name, tensor.axis) for name, tensor in self._loose.items()),
        )

    def _folds(self, layer: Layer) -> bool:
        """Return whether every call of a norm follows every call of the layer before it."""
        alone = {layer.name, layer.follows}.isdisjoint(self._again)
        return alone and self._calls[layer.name] == self._calls[layer.follows]

    def _pin_parameters_that_no_layer_writes_to(self) -> None:
        """Pin what a parameter alone gives to the layers: no layer would stand for the group."""
        roots = self.units.roots()
        written = [roots[units] for layer, _, units in self._layers if layer.has_weight]
        for name, tensor in self._loose.items():
            alone = ~np.isin(roots[tensor.units], np.concatenate([np.empty(0, int), *written]))
            self.units.pin(tensor.units[alone], name, "no layer writes these channels")

    def _pin_attributes_used_elsewhere(self) -> None:
        """Pin channels whose number is an attribute that the code uses for something else too."""
        readers: dict[Key, list[fx.Node]] = {}
        for node in self.graph.nodes:
            for key in keys_in(node.meta.get("numbers")):
                readers.setdefault(key, []).append(node)
        for key, (units, nodes) in self._attributes.items():
            if key in self._computed or len(readers[key]) > len(nodes):
                why = "the code uses this number for something else too"
                self.units.pin(units, f"{key.module}.{key.name}".strip("."), why)

    def _pin_layers_whose_weights_others_read(self) -> None:
        """Pin a layer whose weights an operation is given that is not that layer."""
        for node in self.graph.nodes:
            if node.op == "get_attr" and node.users:
                owner = str(node.target).rpartition(".")[0]
                for layer, reads, writes in self._layers:
                    if layer.name == owner and not any(
                        self._names.get(user) == owner for user in node.users
                    ):
                        self._again.add(owner)
                        for units in (reads, writes):
                            if units is not None:
                                self.units.pin(units, owner, "its weights are read elsewhere too")

    def _pins(self, roots: np.ndarray) -> list[Pin]:
        """Return which layers' output channels are pinned, by what, and why."""
        found = []
        for layer, _, writes in self._layers:
            if not layer.has_weight:
                continue
            left = roots[writes[writes != NO_UNIT]]
            for units, by, why in self.units.pins:
                taken = np.isin(left, roots[units])
                if taken.any():
                    found.append(Pin(layer.name, int(taken.sum()), by, why))
                    left = left[~taken]
        return found


def label(node: fx.Node) -> str:
    """Return the name of an operation as a user sees it."""
    return str(node.target) if node.op == "call_module" else node.name


def _check_channels_last(
    network: nn.Module, graph: fx.GraphModule, input_shape: InputShape
) -> None:
    """Refuse a ``view`` that fails on channels-last maps, which is how networks are run.

    Raises:
        UserError: names the operation.
    """
    if not any(function_name(node) == "view" for node in graph.graph.nodes):
        return
    images = zeros(network, input_shape, 2)
    try:
        with torch.inference_mode():
            feed(network, tree_map(_channels_last, images))
    except RuntimeError as error:
        if "view size is not compatible" not in str(error):
            raise
        raise UserError(
            f"{type(network).__name__} calls view on a map; networks are run channels-last, where "
            "that is an error: write flatten(1) or reshape in its place"
        ) from error


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=memory_format(images))


def _joined(size: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a map that lies on top of another one; of other widths, in one column."""
    if size[1:] == other[1:]:
        return (size[0] + other[0], *size[1:])
    return (math.prod(size) + math.prod(other), *(1,) * (len(size) - 1))
