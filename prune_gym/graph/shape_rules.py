"""What changes of shape do to the channels: reshapes, permutations, parts and indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import fx

from prune_gym.graph.branches import function_name
from prune_gym.graph.shape_tracer import all_sizes
from prune_gym.graph.units import NotUnderstood, Traced, size_of

if TYPE_CHECKING:
    from prune_gym.graph.tracer import Tracer

AS_OTHER = ("reshape_as", "view_as")


def _source(tracer: Tracer, node: fx.Node) -> tuple[Traced, torch.Size]:
    first = node.all_input_nodes[0]
    source = tracer.tensor(first)
    if source is None or first not in tracer.shapes:
        raise NotUnderstood(f"{function_name(node)} of several tensors")
    return source, tracer.shapes[first]


def reshape(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Find where the channels stand afterwards; a flattened map repeats each for its pixels."""
    source, shape = _source(tracer, node)
    rows = _rows_after(shape, source.axis, result.shape)
    if rows is not None and function_name(node) not in AS_OTHER:
        return _split(tracer, node, source, result, *rows)
    axis, tiles, repeats = _place_after(shape, source.axis, result.shape)
    units = np.tile(np.repeat(source.units, repeats), tiles)
    if function_name(node) in AS_OTHER:
        units = _as_other(tracer, node, units, axis)
    else:
        _check_written(tracer, node, replace(source, units=units), axis, result.ndim)
    size = size_of(result.shape, axis, len(units))
    return replace(source, units=units, axis=axis, size=size, writer="")


def _check_written(tracer: Tracer, node: fx.Node, source: Traced, axis: int, ndim: int) -> None:
    """Pin the channels where the shape that the code gives cannot follow their number."""
    written = _written_shape(node, (node.args, node.kwargs), ndim)
    if written is not None and len(written) == ndim:
        given = written[axis]
        keys = _written_shape(node, node.meta["numbers"], ndim) or []
        if isinstance(given, fx.Node):
            _name_width(tracer, node, given, source)
        elif isinstance(given, int) and given >= 0 and keys[axis] is not None:
            tracer.follow_width(node, keys[axis], source.units)
        elif isinstance(given, int) and given >= 0:
            tracer.pin(source, node, "the number of channels is written in the code")
        others = [each for at, each in enumerate(written) if at != axis]
        tracer.pin_sizes([each for each in others if isinstance(each, fx.Node)], node)
    elif written is not None:  # a shape that was computed as a whole
        tracer.pin(source, node, "a shape that is computed as a whole")
        tracer.pin_sizes(node.all_input_nodes, node)


def _as_other(tracer: Tracer, node: fx.Node, units: np.ndarray, axis: int) -> np.ndarray:
    """Make channels one with those of the tensor whose shape is taken."""
    other = tracer.value(node.args[1])
    if other is None or other.axis != axis or len(other.units) != len(units):
        raise NotUnderstood("the shape of a tensor of other channels")
    return tracer.units.merge(units, other.units, node.name)


def _rows_after(
    before: Sequence[int], axis: int, after: Sequence[int]
) -> tuple[int, tuple[int, ...]] | None:
    """Return where the channels stand after a reshape that lays them out in rows.

    Returns:
        the first dimension and the sizes: (rows, channels of each), or with how many such tensors
        are stacked before it; None where the reshape does something else.
    """
    outer, channels = math.prod(before[:axis]), before[axis]
    for place in range(1, len(after)):
        for count in (2, 3):
            sizes = tuple(after[place : place + count])
            same_rest = tuple(after[place + count :]) == tuple(before[axis + 1 :])
            whole = math.prod(after[:place]) == outer and math.prod(sizes) == channels
            lays_out = len(sizes) == count and sizes[-1] > 1 and (count == 2 or sizes[0] > 1)
            if lays_out and same_rest and whole:
                return place, sizes
    return None


def _split(
    tracer: Tracer,
    node: fx.Node,
    source: Traced,
    result: torch.Tensor,
    place: int,
    sizes: tuple[int, ...],
) -> Traced:
    """Cut whole rows, such as heads of attention: the code knows how many channels each has."""
    stacked = sizes[0] if len(sizes) == 3 else 1
    axis = place + len(sizes) - 2
    rows = tracer.units.merge_in_rows(source.units, stacked * sizes[-2], node.name)
    parts = tracer.units.tie(rows, stacked, node.name) if stacked > 1 else rows
    _check_written(tracer, node, replace(source, units=parts[: sizes[-2]]), axis, result.ndim)
    size = (result.numel() // len(parts), 1)
    stack = (stacked, place) if stacked > 1 else (1, -1)
    return Traced(parts, axis, size, source.buffer, "", *stack)


def _place_after(before: Sequence[int], axis: int, after: Sequence[int]) -> tuple[int, int, int]:
    """Return the channels' dimension after a reshape, how often all stand there, and each of them.

    A flattened map has each channel for all of its pixels in a row; where dimensions before the
    channels are flattened with them, all channels stand there again and again.
    """
    channels = before[axis]
    outer = [math.prod(before[:start]) for start in (axis, *range(axis - 1, 0, -1))]
    inner = [math.prod(before[axis + 1 : end]) for end in range(axis + 1, len(before) + 1)]
    for whole in outer:
        tiles = outer[0] // whole
        for place, size in enumerate(after):
            repeats, left = divmod(size, channels * tiles)
            if place and math.prod(after[:place]) == whole and not left and repeats in inner:
                return place, tiles, repeats
    raise NotUnderstood(f"a change of shape from {tuple(before)} to {tuple(after)}")


def _written_shape(node: fx.Node, arguments: Any, ndim: int) -> list[Any] | None:
    """Return the shape that the arguments of a change of shape give; None where they give none."""
    if node.op == "call_module" or function_name(node) in ("flatten", "squeeze", "unsqueeze"):
        return None
    args, kwargs = arguments
    if function_name(node) == "unflatten":
        dim = cast(int, node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None))
        sizes = list(kwargs.get("sizes", args[2] if len(args) > 2 else ()))
        at = dim % (ndim - len(sizes) + 1)
        return [None] * at + sizes + [None] * (ndim - at - len(sizes))
    given = kwargs.get("shape", kwargs.get("size", args[1:]))
    parts = list(given) if isinstance(given, tuple | list) else [given]
    if len(parts) == 1 and isinstance(parts[0], tuple | list):
        parts = list(parts[0])
    return parts


def _name_width(tracer: Tracer, node: fx.Node, given: fx.Node, source: Traced) -> None:
    """Make the channels one with those whose number the code gives as the width."""
    sizes = [(tracer.value(each), dim) for each, dim in all_sizes(given)]
    named = [value for value, dim in sizes if value is not None and value.axis == dim]
    plain = _is_product(given) and len(named) == 1
    if plain and len(named[0].units) == len(source.units):
        tracer.units.merge(source.units, named[0].units, node.name)
    elif not (plain and tracer.units.repeats(source.units, named[0].units)):
        tracer.pin(source, node, "the number of channels is computed in the code")
        tracer.pin_sizes([given], node)


def _is_product(number: fx.Node) -> bool:
    """Return whether a number is a size, or a product of sizes."""
    if function_name(number) == "mul":
        return all(isinstance(a, int) or _is_product(cast(fx.Node, a)) for a in number.args)
    return function_name(number) in ("getitem", "size")


def expand(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Repeat along other dimensions than the channels'."""
    source, shape = _source(tracer, node)
    axis = source.axis + result.ndim - len(shape)
    if result.shape[axis] != len(source.units):
        raise NotUnderstood("expand of the channels")
    written = _written_shape(node, (node.args, node.kwargs), result.ndim)
    given = (written or [])[axis : axis + 1]
    if given and isinstance(given[0], fx.Node):
        _name_width(tracer, node, given[0], source)
    elif given and given[0] != -1:
        tracer.pin(source, node, "the number of channels is written in the code")
    return tracer.write(source.units, axis, result, [source])


def expand_as(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Repeat along other dimensions than the channels', as often as another tensor does."""
    source, shape = _source(tracer, node)
    if result.ndim != len(shape) or result.shape[source.axis] != len(source.units):
        raise NotUnderstood("expand_as of the channels")
    if len(node.all_input_nodes) == 2:
        other = tracer.value(node.all_input_nodes[1])
        if other is None or other.axis != source.axis:
            raise NotUnderstood("expand_as a tensor of other channels")
        tracer.units.merge(source.units, other.units, node.name)
    size = size_of(result.shape, source.axis, len(source.units))
    return replace(source, size=size, writer="")


def permute(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Move the channels to another dimension."""
    source, shape = _source(tracer, node)
    dims: Any = node.kwargs.get("dims", node.args[1:])
    order = list(dims) if isinstance(dims, tuple | list) else [dims]
    if len(order) == 1 and isinstance(order[0], tuple | list):
        order = list(order[0])
    return _moved(source, [d % len(shape) for d in order], result)


def transpose(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Exchange two dimensions."""
    source, shape = _source(tracer, node)
    names = ("dim0", "dim1")
    given = [
        node.kwargs.get(name, node.args[at + 1] if len(node.args) > at + 1 else None)
        for at, name in enumerate(names)
    ]
    first, second = cast(list[int], given)
    order = list(range(len(shape)))
    order[first], order[second] = order[second], order[first]
    return _moved(source, order, result)


def last_two(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Exchange the last two dimensions, as the attribute ``mT`` does."""
    source, shape = _source(tracer, node)
    if node.args[1] != "mT":
        raise NotUnderstood(f"the attribute {node.args[1]} of a tensor")
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    return _moved(source, order, result)


def _moved(source: Traced, order: list[int], result: torch.Tensor) -> Traced:
    axis = order.index(source.axis)
    if source.stacked > 1:
        return replace(source, axis=axis, stack_axis=order.index(source.stack_axis), writer="")
    size = size_of(result.shape, axis, len(source.units))
    return replace(source, axis=axis, size=size, writer="")


def roll(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Move along other dimensions than the channels'."""
    source, shape = _source(tracer, node)
    given = node.kwargs.get("dims", node.args[2] if len(node.args) > 2 else None)
    dims = given if isinstance(given, tuple | list) else (given,)
    if any(not isinstance(d, int) or d % len(shape) == source.axis for d in dims):
        raise NotUnderstood("roll of the channels")
    return tracer.write(source.units, source.axis, result, [source])


def squeeze(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Drop or add dimensions of size 1 that are named."""
    source, shape = _source(tracer, node)
    given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    dims = given if isinstance(given, tuple | list) else (given,)
    # Without a name the channels would go too where one is left.
    if any(not isinstance(d, int) or d % len(shape) in (0, source.axis) for d in dims):
        raise NotUnderstood("squeeze of the images, or of the channels")
    return reshape(tracer, node, result)


def chunk(tracer: Tracer, node: fx.Node, result: Sequence[torch.Tensor]) -> Traced:
    """Tie the channels of equal parts: cut alike in each, the parts stay equal."""
    source, shape = _source(tracer, node)
    dim = _dim(node, 2) % len(shape)
    if dim != source.axis:
        return _in_parts(tracer, node, source, [source.units] * len(result), source.units)
    if len({part.shape[dim] for part in result}) > 1:
        raise NotUnderstood("chunk into parts of different size")
    units = tracer.units.tie(source.units, len(result), node.name)
    return _in_parts(tracer, node, source, np.split(units, len(result)), units)


def unbind(tracer: Tracer, node: fx.Node, result: Sequence[torch.Tensor]) -> Traced:
    """Take tensors apart that are stacked."""
    source, shape = _source(tracer, node)
    dim = _dim(node, 1) % len(shape)
    if source.stacked > 1:
        return _in_parts(tracer, node, *_unstacked(source, dim, result[0]))
    if dim == source.axis:
        raise NotUnderstood("each channel as a tensor of its own")
    moved = replace(source, axis=source.axis - (dim < source.axis))
    return _in_parts(tracer, node, moved, [source.units] * len(result), source.units)


def _unstacked(
    source: Traced, dim: int, first: torch.Tensor
) -> tuple[Traced, list[np.ndarray], np.ndarray]:
    """Return what one of stacked tensors is, the units of each, and those of the first."""
    axis = source.axis - (dim < source.axis)
    if dim != source.stack_axis or axis == 0:
        raise NotUnderstood("channels in the place of the images")
    parts = np.split(source.units, source.stacked)
    size = (first.numel() // len(parts[0]), 1)
    one = replace(source, units=parts[0], axis=axis, size=size, stacked=1, stack_axis=-1)
    return one, parts, parts[0]


def split(tracer: Tracer, node: fx.Node, result: Sequence[torch.Tensor]) -> Traced:
    """Pin the channels that are split at places that are written in the code."""
    source, shape = _source(tracer, node)
    dim = _dim(node, 2) % len(shape)
    if dim != source.axis:
        return _in_parts(tracer, node, source, [source.units] * len(result), source.units)
    tracer.pin(source, node, "the places of the split are written in the code")
    ends = np.cumsum([part.shape[dim] for part in result])
    return _in_parts(tracer, node, source, np.split(source.units, ends[:-1]), source.units)


def _dim(node: fx.Node, at: int) -> int:
    given = node.kwargs.get("dim", node.args[at] if len(node.args) > at else 0)
    if not isinstance(given, int):
        raise NotUnderstood(f"{function_name(node)} along a computed dimension")
    return given


def _in_parts(
    tracer: Tracer, node: fx.Node, source: Traced, parts: list[np.ndarray], units: np.ndarray
) -> Traced:
    tracer.set_parts(node, parts)
    return replace(source, units=units, writer="")


def getitem(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Take a part of a tuple, or of a tensor."""
    first, index = cast(tuple[fx.Node, Any], node.args)
    source = tracer.tensor(first)
    if source is None:
        raise NotUnderstood("a part of something else than tensors")
    if first.op == "get_attr" and isinstance(index, fx.Node):
        return _rows_of(tracer, source, first, result)
    if _is_buffer_of_places(tracer, index) and source.stacked == 1:
        return _rows_of(tracer, source, first, result)
    if first not in tracer.shapes:
        parts = tracer.parts(first)
        if not isinstance(result, torch.Tensor) or not isinstance(index, int) or not parts:
            return tracer.uncuttable(result, [source])
        if function_name(first) == "unbind":
            return replace(source, units=parts[index], writer="")
        return tracer.write(parts[index], source.axis, result, [source])
    if source.stacked > 1:
        if not isinstance(index, int):
            raise NotUnderstood("a part of stacked tensors")
        one, parts, _ = _unstacked(source, 0, result)
        return replace(one, units=parts[index], writer="")
    units, axis = _indexed(tracer, node, source, len(tracer.shapes[first]), index)
    return tracer.write(units, axis, result, [source])


def _is_buffer_of_places(tracer: Tracer, index: Any) -> bool:
    if not isinstance(index, fx.Node) or index.op != "get_attr":
        return False
    return tracer.fetch_attr(str(index.target)).dtype == torch.int64


def _rows_of(tracer: Tracer, table: Traced, node: fx.Node, result: torch.Tensor) -> Traced:
    """Take rows at any places, such as position biases."""
    if table.axis == 0 or node not in tracer.shapes:
        raise NotUnderstood("an index of channels")
    axis = table.axis + result.ndim - len(tracer.shapes[node])
    return tracer.write(table.units, axis, result)


def _indexed(
    tracer: Tracer, node: fx.Node, source: Traced, ndim: int, index: Any
) -> tuple[np.ndarray, int]:
    """Return the units of ``tensor[index]`` and their dimension."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(part, list | fx.Node) for part in parts):
        raise NotUnderstood("an index of places")
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts[at : at + 1] = [slice(None)] * (ndim - taken)
    axis, dim = 0, 0
    for part in parts:
        if dim == source.axis and part is not None:
            if not isinstance(part, slice):
                raise NotUnderstood("one channel of a tensor")
            bounds = (part.start, part.stop, part.step)
            if axis == 0 or any(isinstance(bound, fx.Node) for bound in bounds):
                raise NotUnderstood("a slice of channels at computed places")
            takes_all = len(range(*part.indices(len(source.units)))) == len(source.units)
            if not (takes_all and part.step in (None, 1)):  # else it takes all of fewer too
                tracer.pin(source, node, "the places of the slice are written in the code")
            return source.units[part], axis
        dim += part is not None
        axis += part is None or isinstance(part, slice)
    raise NotUnderstood("getitem")


KNOW_SIZES = ("view", "reshape", "flatten", "unflatten", "expand", "expand_as", *AS_OTHER)
KNOW_STACKS = (permute, transpose, unbind, getitem)
RULES: dict[str, Callable[[Any, fx.Node, Any], Traced]] = {
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", *AS_OTHER), reshape),
    "expand": expand,
    "expand_as": expand_as,
    "permute": permute,
    **dict.fromkeys(("transpose", "swapaxes"), transpose),
    "roll": roll,
    "squeeze": squeeze,
    "unsqueeze": reshape,
    "getattr": last_two,
    "unbind": unbind,
    "chunk": chunk,
    **dict.fromkeys(("split", "split_with_sizes"), split),
    "getitem": getitem,
}
