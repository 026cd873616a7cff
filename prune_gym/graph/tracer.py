"""Follow every channel through the graph of a network.

Every channel of every tensor carries the name of the *unit* that writes it. Layers read and write
units; additions and products make two units one; so channels that must be cut together end up with
one name. This one pass yields the layers, the units and the lifetimes of the activations, and it
is exact where a group covers only a part of a tensor (concatenations, zero-padded shortcuts), which
is why it is done here.

An operation that is not understood is left alone: it pins the channels that it reads, what it
writes cannot be cut, and everything else can.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from prune_gym.graph.attributes import Key
from prune_gym.graph.branches import function_name
from prune_gym.graph.groups import NO_UNIT
from prune_gym.graph.inputs import tensors
from prune_gym.graph.multiply_adds import MultiplyAdds
from prune_gym.graph.operations import changes_numbers, knows_stacks, reads_parameters, rule_of
from prune_gym.graph.shape_tracer import all_sizes
from prune_gym.graph.traced_layers import TracedLayers
from prune_gym.graph.units import NotUnderstood, Traced, Units, size_of


@dataclass(eq=False)
class Buffer:
    """Memory that holds a tensor from one step to another."""

    units: np.ndarray
    pixels: int
    live_from: int
    live_until: int
    parts: tuple[int, ...]  # the buffers whose numbers it passes on
    layer: str  # that writes it
    readers: set[str] = field(default_factory=set)


class Tracer(fx.Interpreter):
    """Runs the graph once, on real shapes, and follows the units through it.

    Attributes:
        network: whose graph it is.
        units: of all channels.
        layers: with the units that they read and write.
        values: the traced tensor, or tensors, of every operation.
        buffers: the memory that holds them.
        step_of: the step of the forward pass in which an operation runs.
        shapes: of every tensor.
        multiply_adds: counts what an operation multiplies.
        uncounted: multiply-adds of operations that are left alone.
        pads: padding modules, each with the units of its zeros.
        attributes: numbers that modules hold, each with the units whose number it is and the
            operations that are given it as such.
        computed: numbers that modules hold and the code computes with.
        loose_parameters: parameters outside of layers, by their names.
    """

    def __init__(self, network: nn.Module, graph: fx.GraphModule, whole: Mapping[str, str]) -> None:
        """Take a network, its graph, and the modules that must stay whole, each with the reason."""
        super().__init__(graph)
        self.extra_traceback = False  # fx appends lines to every message
        self.network, self.units = network, Units()
        self.layers = TracedLayers(graph, whole, self.units)
        self.values: dict[fx.Node, Traced] = {}
        self.buffers: list[Buffer] = []
        self.step_of: dict[fx.Node, int] = {}
        self.shapes: dict[fx.Node, torch.Size] = {}
        self.multiply_adds = MultiplyAdds()
        self.uncounted: dict[str, int] = {}
        self.pads: list[tuple[str, np.ndarray]] = []
        self.attributes: dict[Key, tuple[np.ndarray, set[fx.Node]]] = {}
        self.computed: set[Key] = graph.meta["computed"]
        self.loose_parameters: dict[str, Traced] = {}
        self._parts: dict[fx.Node, list[np.ndarray]] = {}  # units of the tensors of a tuple
        self._step = 0

    def run_node(self, n: fx.Node) -> Any:
        """Run an operation and follow the units through it."""
        before = self.multiply_adds.total
        result = super().run_node(n)
        self._step += 1
        self.step_of[n] = self._step
        if isinstance(result, torch.Tensor):
            self.shapes[n] = result.shape
        if n.op == "output":
            for source in self.sources(n):
                self.units.pin(source.units, "output", "it is the network's output")
        elif self.loose(n) is not None:
            pass  # whoever reads it says what it is
        elif tensors(result):
            self.values[n] = self._follow(n, result, self.multiply_adds.total - before)
            for dimension, module in n.meta.get("read", {}).items():
                if dimension == self.values[n].axis:
                    where = f"the forward of {module or 'the network'}"
                    self.pin(self.values[n], where, "it uses the number of channels")
        for source in self.sources(n):
            self.buffers[source.buffer].live_until = self._step
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
        if name in self.loose_parameters:
            if self.loose_parameters[name].axis != weights.ndim + axis:
                raise NotUnderstood("a parameter whose channels are in another dimension elsewhere")
            return self.loose_parameters[name]
        named = self.network.named_parameters(remove_duplicate=False)
        if sum(each is weights for _, each in named) != 1 or self.layers.is_counted(weights):
            raise NotUnderstood("a buffer, or a parameter that is used otherwise elsewhere")
        units = self.layers.add_parameter(node, name, weights, axis)
        # Parameters are counted as weights, and take no memory of activations.
        self.loose_parameters[name] = self._new(units, weights.ndim + axis, (0, 0))
        return self.loose_parameters[name]

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
        return [self.values[each] for each in node.all_input_nodes if each in self.values]

    def original(self, name: str) -> nn.Module:
        """Return a module of the network, also one that the graph is traced into."""
        return self.network.get_submodule(name)

    def value(self, node: Any) -> Traced | None:
        """Return the traced tensor of a node; None for parameters and what is no node."""
        return self.values.get(node)

    def _follow(self, node: fx.Node, result: Any, multiply_adds: int) -> Traced:
        if node.op == "placeholder":
            return self.uncuttable(result)
        changed = len(self.layers.entries), len(self.buffers)
        try:
            if node.op == "call_module" and node.target in self.layers.whole:
                raise NotUnderstood(self.layers.whole[str(node.target)])
            rule, knows_sizes = rule_of(self, node)
            if any(source.stacked > 1 for source in self.sources(node)) and not knows_stacks(rule):
                raise NotUnderstood(f"{function_name(node) or 'a module'} of stacked tensors")
            if not knows_sizes:
                self.pin_sizes(node.all_input_nodes, node)
            return rule(self, node, result)
        except NotUnderstood as unknown:
            why = str(unknown)
        except (LookupError, TypeError, ValueError, AttributeError):
            if changed != (len(self.layers.entries), len(self.buffers)):
                raise
            why = f"{function_name(node) or node.target} is called in an unusual way"
        return self._leave_alone(node, result, why, multiply_adds)

    def _leave_alone(self, node: fx.Node, result: Any, why: str, multiply_adds: int) -> Traced:
        """Pin what an operation reads; nothing of what it writes can be cut."""
        for source in self.sources(node):
            self.pin(source, node, why)
        if node.op == "call_module":
            self.layers.pin_calls(str(node.target), why)
        self.pin_sizes(node.all_input_nodes, node)
        self.count_parameters(node)
        if multiply_adds:
            name = str(node.target) if node.op == "call_module" else node.name
            self.uncounted[name] = self.uncounted.get(name, 0) + multiply_adds
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
        if key in self.attributes:
            before, nodes = self.attributes[key]
            self.attributes[key] = (self.units.merge(before, units, node.name), nodes | {node})
        else:
            self.attributes[key] = (units, {node})

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
        buffer = Buffer(units, math.prod(size), self._step, self._step, parts, layer)
        self.buffers.append(buffer)
        return Traced(units, axis, size, len(self.buffers) - 1)

    def weighted(self, name: str, source: Traced) -> None:
        """Note that a layer with weights reads a tensor."""
        self.buffers[source.buffer].readers.add(name)

    def follows(self, node: fx.Node, source: Traced) -> str:
        """Return the layer that a norm can be folded into, "" where others read it too."""
        return source.writer if len(node.all_input_nodes[0].users) == 1 else ""

    def count_parameters(self, node: fx.Node) -> None:
        """Add the parameters that an operation is given, or holds, where they are no layer's."""
        owners = {str(node.target): node} if node.op == "call_module" else {}
        read = {each: self.loose(each) for each in node.all_input_nodes}
        loose = {str(found.target): each for each, found in read.items() if found is not None}
        for name, named in (owners | loose).items():
            if name in self.loose_parameters:
                self.pin(
                    self.loose_parameters[name], node, "a parameter that is also used otherwise"
                )
            held = self.fetch_attr(name)
            tensors = held.parameters() if isinstance(held, nn.Module) else [held]
            if self.layers.add_other(name, tensors):
                self.layers.names[named] = name


def label(node: fx.Node) -> str:
    """Return the name of an operation as a user sees it."""
    return str(node.target) if node.op == "call_module" else node.name
