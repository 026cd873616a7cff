"""The operations that the tracer understands: what each does to the channels.

A rule takes the tracer, the node and its result, and returns the traced tensor. It raises
``NotUnderstood`` before it changes anything where the operation is used in a way that it does not
cover; the tracer then leaves the operation alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from prune_gym.graph import attention, layer_rules, shape_rules
from prune_gym.graph.branches import ADDITIONS, function_name
from prune_gym.graph.groups import NO_UNIT
from prune_gym.graph.layer_types import (
    ELEMENTWISE,
    ELEMENTWISE_MODULES,
    BatchNorm,
    Convolution,
    is_of_torch,
)
from prune_gym.graph.units import NotUnderstood, Traced

if TYPE_CHECKING:
    from prune_gym.graph.tracer import Tracer

# What to give in the place of a module.
_INSTEAD: dict[type[nn.Module], str] = {
    nn.SyncBatchNorm: "SyncBatchNorm; put a BatchNorm2d with its state_dict in its place"
}

Rule: TypeAlias = "Callable[[Tracer, fx.Node, Any], Traced]"

_PRODUCTS = ("mul", "imul", "mul_")  # of a map and its gate, as in squeeze-and-excitation
_BINARY = (*ADDITIONS, *_PRODUCTS, "sub", "isub", "sub_", "truediv", "div", "maximum", "minimum")
_REDUCTIONS = ("mean", "sum", "amax", "amin", "std", "var")


def _of_every_rank(where: Any, name: str) -> list[Any]:
    """Return the functions or modules of a name for one, two and three dimensions."""
    return [getattr(where, f"{name}{rank}d") for rank in (1, 2, 3)]


_PADS = tuple(
    pad
    for kind in ("Constant", "Reflection", "Replication", "Circular")
    for pad in _of_every_rank(nn, f"{kind}Pad")
)
_POOLS = tuple(
    pool
    for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")
    for pool in _of_every_rank(nn, f"{kind}Pool")
)
_WINDOWED = (
    *_of_every_rank(F, "max_pool"),
    *_of_every_rank(F, "avg_pool"),
    *_of_every_rank(torch, "max_pool"),
)
_TO_A_SIZE = (*_of_every_rank(F, "adaptive_avg_pool"), *_of_every_rank(F, "adaptive_max_pool"))


def rule_of(tracer: Tracer, node: fx.Node) -> tuple[Rule, bool]:
    """Return the rule of an operation, and whether it knows what to do with numbers of channels.

    Raises:
        NotUnderstood: there is none; it says what the operation is.
    """
    if node.op == "call_module":
        return _module_rule(tracer.fetch_attr(str(node.target)), node), False
    name = function_name(node)
    if node.target in _WINDOWED:
        return _windowed_pool, False
    if node.target in _TO_A_SIZE:
        return _pool_to_a_size, False
    if not _is_torchs(node) or name not in _FUNCTIONS:
        raise NotUnderstood(name)
    return _FUNCTIONS[name], name in shape_rules.KNOW_SIZES


def knows_stacks(rule: Rule) -> bool:
    """Return whether a rule can read stacked tensors."""
    return rule in shape_rules.KNOW_STACKS


def changes_numbers(node: fx.Node) -> bool:
    """Return whether a function changes each number of one tensor alone."""
    known = node.op in ("call_function", "call_method") and _is_torchs(node)
    return known and function_name(node) in ELEMENTWISE and len(node.all_input_nodes) == 1


def reads_parameters(node: fx.Node) -> bool:
    """Return whether an operation can read a parameter with a number for each channel."""
    known = node.op in ("call_function", "call_method") and _is_torchs(node)
    return known and (function_name(node) in _BINARY or changes_numbers(node))


def _is_torchs(node: fx.Node) -> bool:
    """Return whether a function is PyTorch's or Python's, and not one that has the same name."""
    if node.op == "call_method":
        return True
    module = getattr(node.target, "__module__", None) or "torch"
    return module.split(".")[0] in ("torch", "_operator", "builtins", "torchvision") or (
        function_name(node) == "stochastic_depth"
    )


def _module_rule(module: nn.Module, node: fx.Node) -> Rule:
    if not (is_of_torch(module) or "acts_as" in node.meta):
        raise NotUnderstood(type(module).__name__)
    for kinds, rule in _MODULES:
        if isinstance(module, kinds):
            return rule
    raise NotUnderstood(_INSTEAD.get(type(module), type(module).__name__))


def only_source(tracer: Tracer, node: fx.Node) -> Traced:
    """Return the one tensor that an operation reads.

    Raises:
        NotUnderstood: it reads several, or parameters, or a tuple.
    """
    if not node.all_input_nodes:
        raise NotUnderstood(f"{function_name(node)} of no tensor")
    first, *others = node.all_input_nodes
    source = tracer.value(first)
    tensors = [each for each in others if "sizes" not in each.meta]
    if source is None or tensors or first not in tracer.shapes:
        raise NotUnderstood(f"{function_name(node) or 'a module'} of several tensors")
    return source


def _elementwise(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    return tracer.in_place(node, only_source(tracer, node))


def _softmax(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    """Keep every channel: without one of them the others have other values."""
    source = only_source(tracer, node)
    if node.op == "call_module":
        dim = getattr(tracer.fetch_attr(str(node.target)), "dim", None)
    else:
        dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    if not isinstance(dim, int) or dim % result.ndim == source.axis:
        tracer.pin(source, node, "softmax over channels")
    return tracer.in_place(node, source)


def _normalize(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    """Divide by the length along another dimension than the channels'."""
    source = only_source(tracer, node)
    dim = node.kwargs.get("dim", node.args[2] if len(node.args) > 2 else 1)
    if not isinstance(dim, int) or dim % result.ndim == source.axis:
        raise NotUnderstood("normalize over the channels")
    return tracer.write(source.units, source.axis, result, [source])


def _binary(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Make channels that meet one; with a number, or a weight of one number, nothing changes."""
    tensors = [each for each in node.all_input_nodes if tracer.value(each) is not None]
    loose = [each for each in node.all_input_nodes if tracer.loose(each) is not None]
    if len(tensors) == 1 and all(_is_alike(tracer, n, tensors[0]) for n in loose):
        source = tracer.values[tensors[0]]
        if tracer.shapes.get(tensors[0]) != result.shape:
            raise NotUnderstood(f"{function_name(node)} that changes the shape")
        tracer.count_parameters(node)
        if node.all_input_nodes[0] is not tensors[0]:  # nothing is written over a weight
            return tracer.write(source.units, source.axis, result, [source])
        return tracer.in_place(node, source)
    if len(tensors) == len(loose) == 1:
        return _with_parameter(tracer, node, tensors[0], loose[0], result)
    if loose:
        raise NotUnderstood(f"{function_name(node)} with several parameters or buffers")
    if len(tensors) != 2 or any(each not in tracer.shapes for each in tensors):
        raise NotUnderstood(function_name(node))
    left, right = (tracer.values[each] for each in tensors)
    shapes = [tracer.shapes[each] for each in tensors]
    shown = " and ".join(str(tuple(shape)) for shape in shapes)
    fixed = [bool((each.units == NO_UNIT).all()) for each in (left, right)]
    if all(fixed):
        raise NotUnderstood("neither side can be cut")
    if any(fixed):
        at = fixed.index(False)
        return _with_fixed(tracer, node, tensors[at], tensors[1 - at], result)
    # A dimension counts from the end where shapes of different length meet.
    if left.axis - len(shapes[0]) != right.axis - len(shapes[1]):
        raise NotUnderstood(f"{function_name(node)} of different channels, {shown}")
    if len(left.units) == len(right.units):
        units = tracer.units.merge(left.units, right.units, node.name)
    elif 1 in (len(left.units), len(right.units)):  # one channel meets all of the others
        one, many = sorted((left, right), key=lambda each: len(each.units))
        tracer.pin(one, node, "one channel meets all channels of the other side")
        units = many.units
    else:
        raise NotUnderstood(f"{function_name(node)} of different channels, {shown}")
    axis = max(left.axis, right.axis)
    return tracer.write(units, axis, result, [left, right])


def _with_parameter(
    tracer: Tracer, node: fx.Node, tensor: fx.Node, loose: fx.Node, result: torch.Tensor
) -> Traced:
    """Cut a parameter that has a number for each channel with the channels."""
    source, shape = tracer.values[tensor], tracer.shapes.get(tensor)
    if shape != result.shape:
        raise NotUnderstood(f"{function_name(node)} that changes the shape")
    if (source.units == NO_UNIT).all():
        raise NotUnderstood("the other side cannot be cut")
    name = _name_of(tracer, loose)
    given = tracer.parameter(loose, source.axis - len(shape), name)
    units = tracer.units.merge(source.units, given.units, node.name)
    if node.all_input_nodes[0] is not tensor:  # nothing is written over a weight
        return tracer.write(units, source.axis, result, [source])
    return replace(tracer.in_place(node, source), units=units)


def _with_fixed(
    tracer: Tracer, node: fx.Node, tensor: fx.Node, fixed: fx.Node, result: torch.Tensor
) -> Traced:
    """Keep the channels of a tensor whose other side is the same for all of them."""
    source, shape, other = tracer.values[tensor], tracer.shapes[tensor], tracer.shapes[fixed]
    from_end = len(shape) - source.axis
    if len(other) >= from_end and other[-from_end] != 1:
        raise NotUnderstood("the other side cannot be cut")
    sources = [source, tracer.values[fixed]]
    return tracer.write(source.units, result.ndim - from_end, result, sources)


def _is_alike(tracer: Tracer, loose: fx.Node, tensor: fx.Node) -> bool:
    """Return whether a parameter or buffer does the same to all channels of a tensor."""
    weights = tracer.fetch_attr(_name_of(tracer, loose))
    from_end = len(tracer.shapes.get(tensor, ())) - tracer.values[tensor].axis
    return weights.numel() == 1 or from_end > weights.ndim or weights.shape[-from_end] == 1


def _name_of(tracer: Tracer, loose: fx.Node) -> str:
    found = tracer.loose(loose)
    assert found is not None
    return str(found.target)


def _reduction(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    """Reduce dimensions that are not the channels'."""
    source = only_source(tracer, node)
    if not node.users:  # such as attention's weights, which most forwards throw away
        return tracer.uncuttable(result, [source])
    shape = tracer.shapes[node.all_input_nodes[0]]
    args, kwargs = tracer.fetch_args_kwargs_from_env(node)
    given = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dims = [given] if isinstance(given, int) else given
    if not isinstance(result, torch.Tensor) or not isinstance(dims, tuple | list) or not dims:
        raise NotUnderstood(f"{function_name(node)} over the channels")
    dims = {d % len(shape) for d in dims}
    if source.axis in dims:
        raise NotUnderstood(f"{function_name(node)} over the channels")
    if function_name(node) == "mean" and dims == {2, 3} and len(shape) == 4:
        return layer_rules.pool(tracer, node, node.name, source, result, None)
    kept = result.ndim == len(shape)
    axis = source.axis if kept else source.axis - sum(d < source.axis for d in dims)
    return tracer.write(source.units, axis, result, [source])


def _pool_module(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    module = tracer.fetch_attr(str(node.target))
    kernel, stride = (getattr(module, key, None) for key in ("kernel_size", "stride"))
    source = only_source(tracer, node)
    return layer_rules.pool(tracer, node, str(node.target), source, result, kernel, stride)


def _pool_to_a_size(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    source = only_source(tracer, node)
    return layer_rules.pool(tracer, node, node.name, source, result, None)


def _windowed_pool(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    args, kwargs = tracer.fetch_args_kwargs_from_env(node)
    given = dict(zip(("input", "kernel_size", "stride"), args, strict=False)) | kwargs
    source = only_source(tracer, node)
    window, stride = given["kernel_size"], given.get("stride")
    return layer_rules.pool(tracer, node, node.name, source, result, window, stride)


def _resize(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    """Change the size of a map alone, such as height and width."""
    source = only_source(tracer, node)
    if source.axis != 1 or result.ndim < 3:
        raise NotUnderstood(f"{function_name(node) or 'a resize'} of a tensor that is no map")
    return tracer.write(source.units, 1, result, [source])


def _cat(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    args, kwargs = tracer.fetch_args_kwargs_from_env(node)
    given = node.args[0] if node.args else node.kwargs["tensors"]
    if isinstance(given, fx.Node):
        raise NotUnderstood("cat of a whole tuple")
    parts = cast(list[fx.Node], given)
    sources = [tracer.values[part] for part in parts if part in tracer.values]
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % result.ndim
    if len(sources) < len(parts) or any(part not in tracer.shapes for part in parts):
        raise NotUnderstood("cat with a parameter or buffer")
    axes = {source.axis for source in sources}
    if len(axes) != 1:
        raise NotUnderstood("cat of tensors whose channels are in different dimensions")
    (axis,) = axes
    if dim == axis:
        units = np.concatenate([source.units for source in sources])
    else:
        units, *others = (source.units for source in sources)
        for other in others:
            units = tracer.units.merge(units, other, node.name)
    return tracer.write(units, axis, result, sources)


def _pad(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    source = only_source(tracer, node)
    args, kwargs = tracer.fetch_args_kwargs_from_env(node)
    given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
    amounts = list(given["pad"])
    place = 2 * (result.ndim - 1 - source.axis)
    before, after = amounts[place : place + 2] if len(amounts) > place else (0, 0)
    zeros = given.get("mode", "constant") == "constant" and not given.get("value")
    if min(before, after) < 0 or ((before or after) and not zeros):
        raise NotUnderstood("padding of channels that crops, or is not with zeros")
    units = np.pad(source.units, (before, after), constant_values=NO_UNIT)
    return tracer.write(units, source.axis, result, [source])


def _pad_module(tracer: Tracer, node: fx.Node, result: Any) -> Traced:
    """Pad a map, or its channels with zeros.

    Zeros have units of their own: surgery can change how many there are.
    """
    name = str(node.target)
    module, source = tracer.fetch_attr(name), only_source(tracer, node)
    rank, padded = result.ndim - 2, len(module.padding) // 2
    if padded <= rank:
        return _resize(tracer, node, result)
    before, after = module.padding[-2:]
    with_zeros = isinstance(module, nn.ConstantPad3d) and module.value == 0
    if not with_zeros or rank != 2 or source.axis != 1:
        raise NotUnderstood(type(module).__name__)
    twice = [zeros for other, zeros in tracer.pads if other == name]
    for zeros in twice:
        tracer.units.pin(zeros, name, "padding that is called twice")
    if min(before, after) < 0 or twice:
        raise NotUnderstood("padding that crops, or that is called twice")
    zeros = tracer.units.fresh(before + after)
    tracer.pads.append((name, zeros))
    units = np.concatenate([zeros[:before], source.units, zeros[before:]])
    return tracer.write(units, 1, result, [source])


_MODULES: tuple[tuple[Any, Rule], ...] = (
    (Convolution, layer_rules.convolution),
    (nn.Linear, layer_rules.linear),
    (nn.Embedding, layer_rules.embedding),
    (BatchNorm, layer_rules.batch_norm),
    (nn.GroupNorm, layer_rules.group_norm),
    (nn.LayerNorm, layer_rules.layer_norm),
    (nn.PReLU, layer_rules.prelu),
    (ELEMENTWISE_MODULES, _elementwise),
    ((nn.Softmax, nn.LogSoftmax, nn.Softmax2d), _softmax),
    (_POOLS, _pool_module),
    (nn.Upsample, _resize),
    (_PADS, _pad_module),
    (nn.Flatten, shape_rules.reshape),
)
_FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    "normalize": _normalize,
    **dict.fromkeys(("cat", "concat"), _cat),
    **shape_rules.RULES,
    **dict.fromkeys(("matmul", "bmm"), attention.product),
    "scaled_dot_product_attention": attention.scaled_dot_product,
    "layer_norm": layer_rules.layer_norm_function,
    "interpolate": _resize,
    "pad": _pad,
}
