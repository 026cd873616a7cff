"""What attention does to the channels: products of two tensors, head by head.

Where code lays the channels of a tensor out in heads, `prune_gym.graph.shape_rules` makes the
channels of a head one, so heads are what is cut here. What one head computes needs no other.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import fx

from prune_gym.graph.units import NotUnderstood, Traced


def product(tracer: Any, node: fx.Node, result: torch.Tensor) -> Traced:
    """Multiply matrices of each head."""
    if node.kwargs or len(node.args) != 2:
        raise NotUnderstood("a product that is given by name")
    left, right = node.args
    units = _same_heads(tracer, node, [left, right])
    multiply_adds = result.numel() * tracer.shapes[left][-1]
    return _write(tracer, node, result, [left, right], units, multiply_adds)


def scaled_dot_product(tracer: Any, node: fx.Node, result: torch.Tensor) -> Traced:
    """Let each head attend by itself."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    if given.get("enable_gqa"):
        raise NotUnderstood("attention whose heads share keys")
    inputs: list[Any] = [given[name] for name in names[:3]]
    _check_mask(tracer, given.get("attn_mask"))
    units = _same_heads(tracer, node, inputs)
    shapes = [tracer.shapes[each] for each in inputs]
    each = math.prod(shapes[0][:-1]) * shapes[1][-2]
    return _write(tracer, node, result, inputs, units, each * (shapes[0][-1] + shapes[2][-1]))


def _check_mask(tracer: Any, mask: Any) -> None:
    """Take a parameter or buffer that is the same for all heads."""
    if mask is None:
        return
    if not isinstance(mask, fx.Node) or mask.op != "get_attr":
        raise NotUnderstood("attention with a mask that is computed")
    weights = tracer.fetch_attr(str(mask.target))
    if weights.ndim > 2 and weights.shape[-3] != 1:
        raise NotUnderstood("attention with a mask for each head")


def _same_heads(tracer: Any, node: fx.Node, inputs: list[Any]) -> np.ndarray:
    """Make the heads of all inputs one; heads are a dimension before the last two."""
    sources = [tracer.value(each) for each in inputs]
    if None in sources or any(each not in tracer.shapes for each in inputs):
        raise NotUnderstood("a product with a parameter or buffer")
    shapes = [tracer.shapes[each] for each in inputs]
    pairs = list(zip(sources, shapes, strict=True))
    same = len({(source.axis, *shape[:-2]) for source, shape in pairs}) == 1
    if not same or any(source.axis > len(shape) - 3 for source, shape in pairs):
        raise NotUnderstood("a product over channels")
    units, *others = (source.units for source in sources)
    for other in others:
        units = tracer.units.merge(units, other, node.name)
    return units


def _write(
    tracer: Any,
    node: fx.Node,
    result: torch.Tensor,
    inputs: list[Any],
    units: np.ndarray,
    multiply_adds: int,
) -> Traced:
    first = tracer.value(inputs[0])
    written = tracer.write(units, first.axis, result)
    name = f"{node.meta['scope']}.{node.name}".strip(".")
    about = (node, name, "attention", first, written.size, units, 0)
    tracer.layer(*about, multiply_adds=multiply_adds)
    return written
