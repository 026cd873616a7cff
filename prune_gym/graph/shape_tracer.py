"""Trace operations with the values that an example makes of them.

``fx.Tracer`` gives up where a forward asks for a shape, because its values are only names. Here
every traced value carries what an example makes of it. Sizes stay symbolic in the graph and become
numbers where Python needs one: in a comparison, ``range`` or ``int``.
"""

import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate
from torch.fx.proxy import Attribute

from prune_gym.graph.attributes import Key, key_of, numbers_of, plain
from prune_gym.graph.inputs import (
    Inputs,
    Tensors,
    argument_names,
    tensors,
)
from prune_gym.graph.layer_types import (
    ELEMENTWISE,
    ELEMENTWISE_MODULES,
    BatchNorm,
    is_of_torch,
)
from prune_gym.graph.skipped import Skipped

_DEPENDS_ON_VALUES = ("item", "tolist", "equal", "allclose", "is_nonzero", "numpy")
_KNOWS_NO_SIZE = ("dim", "ndimension", "get_device", "element_size")
_PARENTS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm),
)
_CONTAINERS = (
    *(nn.Sequential, nn.Transformer, nn.TransformerEncoder, nn.TransformerEncoderLayer),
    *(nn.TransformerDecoder, nn.TransformerDecoderLayer, nn.DataParallel),
)


class _DependsOnValues(Exception):
    """Python code asks for the value of a tensor."""


class _Value(fx.Proxy):
    """A traced value that knows what it is for the example."""

    value: Any

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.value, name)
        if name == "shape" or isinstance(found, torch.Tensor):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return Attribute(self, name) if callable(found) else found

    def _as_number(self) -> Any:
        if isinstance(self.value, torch.Tensor):
            if self.node.op == "get_attr":
                return self.value
            raise _DependsOnValues("its forward depends on the values of tensors")
        self.tracer.note_read(self.node)  # type: ignore[attr-defined]
        return self.value

    def __bool__(self) -> bool:
        return bool(self._as_number())

    def __int__(self) -> int:
        return int(self._as_number())

    __index__ = __int__

    def __float__(self) -> float:
        return float(self._as_number())

    def __round__(self, digits: int | None = None) -> float:
        return round(self._as_number(), digits)

    def __len__(self) -> int:
        if isinstance(self.value, torch.Tensor):
            return int(self.shape[0])
        return len(self.value)

    def __getitem__(self, index: Any) -> Any:
        if (
            isinstance(index, slice)
            and isinstance(self.value, tuple | list)
            and tensors(self.value)
        ):
            return tuple(self[each] for each in range(*index.indices(len(self.value))))
        return super().__getitem__(index)  # type: ignore[misc]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return (self[index] for index in range(len(self)))


class ShapeTracer(fx.Tracer):
    """Runs a network on an example and notes its operations."""

    def __init__(self, example: Tensors, opaque: frozenset[str]) -> None:
        """Take the example; modules whose names are in ``opaque`` are called whole."""
        super().__init__()
        self.example, self.opaque = example, opaque
        self._given: dict[str, torch.Tensor] = {}  # the example's inputs by placeholder
        self.batch_readers: set[str] = set()  # modules that use the number of images as a number
        self.computed: set[Key] = set()  # attributes that code computes with
        self._thread = threading.get_ident()
        self._running = False
        self._scopes = [""]
        self._attributes: dict[str, fx.Proxy] = {}
        self._names: dict[int, str] = {}

    def create_args_for_root(
        self, root_fn: Callable, is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable, list[Any]]:
        """Give the inputs alone; the other arguments keep their defaults."""
        named = [*self.root.named_parameters(), *self.root.named_buffers()]
        self._names = {id(tensor): name for name, tensor in named}
        several = self.example if isinstance(self.example, Inputs) else Inputs((self.example,))
        names = several.names or argument_names(self.root, self.example)
        self._given = dict(zip(names, several.parts, strict=True))
        parameters, inputs = inspect.signature(self.root.forward).parameters, {}
        for name in names:
            kind = parameters[name].annotation if name in parameters else inspect.Parameter.empty
            kind = None if kind is inspect.Parameter.empty else kind
            inputs[name] = self.create_proxy("placeholder", name, (), {}, type_expr=kind)
        if not several.names:
            return root_fn, [self.root, *inputs.values()]

        def by_name(root: Any, *values: Any) -> Any:
            return root_fn(root, **dict(zip(names, values, strict=True)))

        return by_name, [self.root, *inputs.values()]

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Return the operations of a network whose modules' numbers are known by name."""
        with numbers_of(root, self.computed):
            return super().trace(root, concrete_args)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the value that a node stands for."""
        return _Value(node, self)

    def create_arg(self, a: Any) -> Any:
        """Turn an argument into what the graph holds."""
        return a.node if isinstance(a, fx.Proxy) else super().create_arg(a)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any
    ):
        """Note an operation and compute it; what is no tensor and no number is returned as is."""
        if kind in ("call_function", "call_method"):
            name = target if isinstance(target, str) else getattr(target, "__name__", "")
            if name in _DEPENDS_ON_VALUES:
                raise _DependsOnValues(f"its forward depends on the values of tensors ({name})")
        if kind == "call_function" and is_wrapped(target) and name != "stochastic_depth":
            result = self._inside(target, args, kwargs)
            if result is not None:
                return result
        numbers = map_aggregate((args, kwargs), key_of)
        args, kwargs = map_aggregate((args, kwargs), plain)
        value = self._compute(kind, target, args, kwargs)
        if value is None or isinstance(value, bool | str | torch.dtype | torch.device):
            map_aggregate(
                (args, kwargs),
                lambda each: self.note_read(each.node) if isinstance(each, fx.Proxy) else None,
            )
            return value
        proxy: Any = super().create_proxy(kind, target, args, kwargs, *more, **named)
        proxy.value = value
        proxy.node.meta |= {"scope": self._scopes[-1], "numbers": numbers}
        if isinstance(value, torch.Tensor):
            proxy.node.meta["shape"] = tuple(value.shape)
        elif not tensors(value):
            proxy.node.meta["sizes"] = _sizes(proxy.node, value)
        return proxy

    def _inside(self, function: Any, args: Any, kwargs: Any) -> fx.Proxy | None:
        """Trace into a function; None where it cannot be traced or returns several tensors."""
        last = next(iter(reversed(self.graph.nodes)))
        try:
            result = function(*args, **kwargs)
        except Exception:  # whatever it raises: it is called whole
            result = None
        if isinstance(result, fx.Proxy):
            return result
        self._forget_after(last)
        return None

    def _compute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self._given[target]
        args, kwargs = map_aggregate(
            (args, kwargs), lambda each: each.value if isinstance(each, fx.Proxy) else each
        )
        running, self._running = self._running, True
        try:
            if kind == "call_function":
                return target(*args, **kwargs)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            found: Any = self.root
            for part in target.split("."):
                found = getattr(found, part)
            return found if kind == "get_attr" else found(*args, **kwargs)
        finally:
            self._running = running

    def note_read(self, node: fx.Node) -> None:
        """Note that code of the present module uses a number that was computed from sizes."""
        for source, dimension in all_sizes(node):
            source.meta.setdefault("read", {})[dimension] = self._scopes[-1]
            if dimension == 0 and source.op != "get_attr":
                self.batch_readers.add(self._scopes[-1])

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return a parameter or buffer as a traced value."""
        name = self._names.get(id(attr_val))
        if self._elsewhere() or name is None or not isinstance(attr_val, torch.Tensor):
            return attr_val
        if name not in self._attributes:
            self._attributes[name] = self.create_proxy("get_attr", name, (), {})
        return self._attributes[name]

    def _elsewhere(self) -> bool:
        """Return whether a network runs that is not traced: in another thread, or the example."""
        return self._running or threading.get_ident() != self._thread

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one operation."""
        if module_qualified_name in self.opaque or isinstance(m, torch.jit.ScriptModule | Skipped):
            return True
        return is_of_torch(m) and not isinstance(m, _CONTAINERS)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        """Trace into a module, or note its call where it is one operation or cannot be traced."""
        name = None if self._elsewhere() else (self.submodule_paths or {}).get(m)
        if name is None:  # not traced now, or made in a forward
            return forward(*args, **kwargs)
        if self.is_leaf_module(m, name):
            return self.create_proxy("call_module", name, args, kwargs)
        if self._acts_as_parent(m, args, kwargs):
            proxy = self.create_proxy("call_module", name, args, kwargs)
            proxy.node.meta["acts_as"] = "its parent"
            return proxy
        last = next(iter(reversed(self.graph.nodes)))
        self._scopes.append(name)
        stack = self.module_stack.copy()
        try:
            result = super().call_module(m, forward, args, kwargs)
        except Exception:  # whatever its forward raises: it is called whole
            self._forget_after(last)
            self.module_stack = stack
            return self.create_proxy("call_module", name, args, kwargs)
        finally:
            self._scopes.pop()
        if isinstance(m, BatchNorm) and _is_norm_and_activation(m, name, last, result):
            self._forget_after(last)
            result = self.create_proxy("call_module", name, args, kwargs)
            result.node.meta["acts_as"] = "a norm and an activation"
        return result

    def _acts_as_parent(self, m: nn.Module, args: tuple, kwargs: dict[str, Any]) -> bool:
        """Return whether a subclass of a layer computes what that layer does, to the last bit."""
        parent = next((each for each in _PARENTS if isinstance(m, each)), None)
        own = {name for name, _ in m.named_parameters()} <= {"weight", "bias"}
        if parent is None or not own or kwargs or len(args) != 1 or is_of_torch(m, False):
            return False
        if not (isinstance(args[0], _Value) and torch.is_tensor(args[0].value)):
            return False
        value = args[0].value
        values = torch.linspace(-3, 3, value.numel(), dtype=torch.float64).sin().mul(3)
        values = values.to(value).view_as(value)
        self._running = True
        try:
            return torch.equal(m(values), cast(Any, parent).forward(m, values))
        except Exception:  # it takes other inputs than its parent
            return False
        finally:
            self._running = False

    def _forget_after(self, last: fx.Node) -> None:
        """Take back what was noted after ``last``."""
        while (node := next(iter(reversed(self.graph.nodes)))) is not last:
            self.graph.erase_node(node)
            if node.op == "get_attr":
                self._attributes.pop(str(node.target), None)


def is_wrapped(function: Any) -> bool:
    """Return whether a function is one that torch.fx was told not to trace into."""
    return inspect.isfunction(function) and not function.__module__.startswith("torch.")


def _is_norm_and_activation(m: nn.Module, name: str, last: fx.Node, result: Any) -> bool:
    """Return whether what stands after ``last`` is a layer's batch-norm, then an activation."""
    nodes, node = [], last.next
    while node.op != "root":
        nodes += [node] if node.op != "get_attr" and "sizes" not in node.meta else []
        node = node.next
    if not nodes or nodes[0].target is not nn.functional.batch_norm:
        return False
    names = ("running_mean", "running_var", "weight", "bias")
    given = dict(zip(("input", *names), nodes[0].args, strict=False)) | nodes[0].kwargs
    if any(getattr(given.get(key), "target", None) != f"{name}.{key}" for key in names):
        return False
    for before, node in itertools.pairwise(nodes):
        function = getattr(node.target, "__name__", node.target)
        kind = (
            type(m.get_submodule(str(node.target)[len(name) + 1 :]))
            if node.op == "call_module"
            else None
        )
        known = issubclass(kind, ELEMENTWISE_MODULES) if kind else function in ELEMENTWISE
        if not known or node.all_input_nodes != [before]:
            return False
    return isinstance(result, fx.Proxy) and result.node is nodes[-1]


def all_sizes(number: fx.Node) -> set[tuple[fx.Node, int]]:
    """Return the dimensions of tensors that a number, or a tuple of numbers, depends on."""
    sizes = number.meta.get("sizes", set())
    return set().union(*sizes) if isinstance(sizes, list) else sizes


def _sizes(node: fx.Node, value: Any) -> Any:
    """Return which dimensions a new number depends on, for a tuple a set for each entry."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    source = next(iter(node.all_input_nodes), None)
    if source is None or name in _KNOWS_NO_SIZE:
        return set()
    if "shape" in source.meta:
        whole = [{(source, dimension)} for dimension in range(len(source.meta["shape"]))]
        if name == "size" or (name == "getattr" and node.args[1] == "shape"):
            given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
            if name == "getattr" or given is None:
                return whole
            return whole[given] if isinstance(given, int) else set().union(*whole)
        return set().union(*whole)
    found = source.meta.get("sizes")
    if name == "getitem" and isinstance(found, list) and isinstance(node.args[1], int | slice):
        return found[node.args[1]]
    union = set().union(*(all_sizes(each) for each in node.all_input_nodes))
    return [union] * len(value) if isinstance(value, tuple | list) else union
