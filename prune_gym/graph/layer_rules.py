"""What layers do to the channels: those that have weights, norms and pools."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import fx, nn

from prune_gym.graph.layers import Kind
from prune_gym.graph.units import NotUnderstood, Traced, size_of

if TYPE_CHECKING:
    from prune_gym.graph.tracer import Tracer


def _weights_of(module: nn.Module) -> None:
    """Refuse a layer whose weight is no parameter.

    Raises:
        NotUnderstood: surgery cannot cut such a weight.
    """
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        raise NotUnderstood("its weight is no parameter")


def _only_input(tracer: Tracer, node: fx.Node) -> Traced:
    if len(node.all_input_nodes) != 1:
        raise NotUnderstood("a layer of several tensors")
    (read,) = node.all_input_nodes
    source = tracer.value(read)
    if read.op == "get_attr" and not isinstance(tracer.fetch_attr(str(read.target)), nn.Parameter):
        source = tracer.constant(read)
    if source is None or node.all_input_nodes[0] not in tracer.shapes:
        raise NotUnderstood("a layer of several tensors")
    return source


def convolution(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Give a convolution's outputs units of their own; a depthwise one's are its inputs'."""
    name = str(node.target)
    module, source = tracer.fetch_attr(name), _only_input(tracer, node)
    _weights_of(module)
    if result.ndim != module.weight.ndim:
        raise NotUnderstood(f"a convolution of a tensor of {result.ndim} dimensions")
    tracer.layers.check_whole(name)
    kind: Kind = "conv"
    reads = tracer.along(source, 1, module.in_channels, node)
    groups = module.groups
    if 1 < groups == len(reads):
        kind, writes = "depthwise", np.repeat(reads, result.shape[1] // groups)
    else:
        writes = tracer.units.fresh(result.shape[1])
    if kind == "conv" and groups > 1:
        reads = tracer.units.tie(reads, groups, name)[: len(reads) // groups]
        writes = tracer.units.tie(writes, groups, name)
    shape = tuple(module.kernel_size), module.stride[0], groups
    params_per_channel = int(module.bias is not None)
    shapes = tracer.shapes[node.all_input_nodes[0]], result.shape
    in_size, size = (size_of(each, 1, each[1]) for each in shapes)
    read = replace(source, units=reads, size=in_size)
    tracer.layers.add(node, name, kind, read, size, writes, params_per_channel, *shape)
    tracer.weighted(name, source)
    return replace(tracer.write(writes, 1, result, layer=name), writer=name)


def linear(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Give a linear layer's outputs units of their own; the channels are the last dimension."""
    name = str(node.target)
    module, source = tracer.fetch_attr(name), _only_input(tracer, node)
    _weights_of(module)
    if result.ndim < 2:
        raise NotUnderstood(f"a linear layer of a tensor of {result.ndim} dimensions")
    tracer.layers.check_whole(name)
    last = result.ndim - 1
    reads = tracer.along(source, last, module.in_features, node)
    writes = tracer.units.fresh(module.out_features)
    positions = (result.numel() // module.out_features, 1)
    # A flattened map counts as one position, whatever its size was.
    read = replace(source, units=reads, size=source.size if result.ndim == 2 else positions)
    tracer.layers.add(node, name, "linear", read, positions, writes, int(module.bias is not None))
    tracer.weighted(name, source)
    return replace(tracer.write(writes, last, result, layer=name), writer=name)


def embedding(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Give the channels of the vectors of tokens units of their own, as of any parameter."""
    name = str(node.target)
    module = tracer.fetch_attr(name)
    if module.max_norm is not None:
        raise NotUnderstood("an embedding whose vectors are normalized as a whole")
    _weights_of(module)
    vectors = tracer.parameter(node, -1, f"{name}.weight")
    return tracer.write(vectors.units, result.ndim - 1, result)


def channelwise(
    tracer: Tracer,
    node: fx.Node,
    name: str,
    kind: Kind,
    source: Traced,
    result: torch.Tensor,
    params_per_channel: int,
    units: np.ndarray | None = None,
    follows: str = "",
) -> Traced:
    """Add a layer that works on each channel alone, over its input."""
    written = source.units if units is None else units
    tracer.layers.add(
        node, name, kind, source, source.size, written, params_per_channel, follows=follows
    )
    return tracer.in_place(node, source)


def batch_norm(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Keep the channels."""
    name = str(node.target)
    module, source = tracer.fetch_attr(name), _only_input(tracer, node)
    if not (module.affine and module.track_running_stats):
        raise NotUnderstood("batch-norm without scale, shift or running statistics")
    if source.axis != 1:
        raise NotUnderstood("batch-norm of another dimension than the channels")
    # What applies an activation too cannot be replaced by the layer before it.
    alone = node.meta.get("acts_as") != "a norm and an activation"
    follows = tracer.follows(node, source) if alone else ""
    if len(node.all_input_nodes[0].users) > 1:  # others read it too: it cannot be folded
        source = replace(source, writer="")
    return channelwise(tracer, node, name, "batch_norm", source, result, 2, follows=follows)


def prelu(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Keep the channels; one slope for all of them stays."""
    name = str(node.target)
    module, source = tracer.fetch_attr(name), _only_input(tracer, node)
    each = module.num_parameters == len(source.units)
    if source.axis != 1 and module.num_parameters > 1:
        raise NotUnderstood("PReLU of another dimension than the channels")
    units = source.units if each else np.array([-1])
    return channelwise(tracer, node, name, "prelu", source, result, 1, units)


def group_norm(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Cut whole groups: with a part of one gone, the rest of it has other values."""
    name = str(node.target)
    module, source = tracer.fetch_attr(name), _only_input(tracer, node)
    if not module.affine:
        raise NotUnderstood("group-norm without scale and shift")
    if source.axis != 1:
        raise NotUnderstood("group-norm of another dimension than the channels")
    tracer.layers.check_whole(name)
    if module.num_groups == 1:
        tracer.pin(source, node, "group-norm over all channels")
    else:
        each = module.num_channels // module.num_groups
        first = tracer.units.merge_in_rows(source.units, module.num_groups, name)
        source = replace(source, units=np.repeat(first, each))
    return channelwise(tracer, node, name, "group_norm", source, result, 2)


def layer_norm(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Keep the channels: those that are left are normalized by their own mean and deviation."""
    return _layer_norm(tracer, node, str(node.target), _only_input(tracer, node), result)


def layer_norm_function(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Do the same where a layer-norm's own forward moves the channels to the end first."""
    names = ("input", "normalized_shape", "weight", "bias")
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    vectors = [str(getattr(given.get(key), "target", "")).rpartition(".") for key in names[2:]]
    (owner, *_), source = vectors[0], tracer.value(given["input"])
    if source is None or [each[::2] for each in vectors] != [(owner, key) for key in names[2:]]:
        raise NotUnderstood("layer-norm by other numbers than a layer's scale and shift")
    if not isinstance(tracer.original(owner), nn.LayerNorm):
        raise NotUnderstood("layer-norm by the numbers of another layer")
    return _layer_norm(tracer, node, owner, source, result)


def _layer_norm(
    tracer: Tracer, node: fx.Node, name: str, source: Traced, result: torch.Tensor
) -> Traced:
    module = cast(nn.LayerNorm, tracer.original(name))
    normalized = len(module.normalized_shape)
    if source.axis < result.ndim - normalized:
        tracer.count_parameters(node)
        return tracer.in_place(node, source)
    if normalized > 1 or module.weight is None or module.bias is None:
        raise NotUnderstood("layer-norm over more than the channels, or without scale and shift")
    return channelwise(tracer, node, name, "layer_norm", source, result, 2)


def pool(
    tracer: Tracer,
    node: fx.Node,
    name: str,
    source: Traced,
    result: Any,
    kernel: Any,
    stride: Any = None,
) -> Traced:
    """Add a pool; one without a kernel covers its input with as many windows as outputs.

    Raises:
        NotUnderstood: of what is no map, or with the places of the largest numbers.
    """
    shape = tracer.shapes[node.all_input_nodes[0]]
    if not isinstance(result, torch.Tensor) or source.axis != 1 or len(shape) < 3:
        raise NotUnderstood("a pool that returns places, or of a tensor that is no map")
    rank = len(shape) - 2
    size = tuple(result.shape[2:]) if result.ndim == len(shape) else (1,) * rank
    if kernel is None:
        kernel = [max(i // o, 1) for i, o in zip(shape[2:], size, strict=True)]
    window, step = _along(kernel, rank), _along(stride or kernel, rank)[0]
    size = (shape[0] * size[0], *size[1:])
    tracer.layers.add(node, name, "pool", source, size, source.units, 0, window, step)
    return tracer.write(source.units, 1, result, [source], name)


def _along(value: Any, rank: int) -> tuple[int, ...]:
    """Return a number for each of so many dimensions of what may be given once for all."""
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * rank if len(numbers) == 1 else numbers
