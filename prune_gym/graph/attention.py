"""What attention does to the channels: products of two tensors, head by head.

Where code lays the channels of a tensor out in heads, `prune_gym.graph.shape_rules` makes the
channels of a head one, so heads are what is cut here. What one head computes needs no other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from prune_gym.graph.groups import NO_UNIT
from prune_gym.graph.layers import Product
from prune_gym.graph.units import NotUnderstood, Traced

if TYPE_CHECKING:
    from prune_gym.graph.tracer import Tracer


def product(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Multiply matrices of each head."""
    if node.kwargs or len(node.args) != 2:
        raise NotUnderstood("a product that is given by name")
    inputs: list[Any] = [*node.args]
    units = _same_heads(tracer, node, inputs)
    *each, rows, inner = tracer.shapes[inputs[0]]
    products = (Product(math.prod(each) // len(units), rows, inner, result.shape[-1]),)
    return _write(tracer, node, result, inputs, units, products)


def scaled_dot_product(tracer: Tracer, node: fx.Node, result: torch.Tensor) -> Traced:
    """Let each head attend by itself."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    if given.get("enable_gqa"):
        raise NotUnderstood("attention whose heads share keys")
    inputs: list[Any] = [given[name] for name in names[:3]]
    mask: Any = given.get("attn_mask")
    _check_mask(tracer, mask, inputs[0])
    units = _with_mask(tracer, node, mask, _same_heads(tracer, node, inputs))
    *each, queries, width = tracer.shapes[inputs[0]]
    keys, width_of_values = tracer.shapes[inputs[2]][-2:]
    count = math.prod(each) // len(units)
    products = (
        Product(count, queries, width, keys),
        Product(count, queries, keys, width_of_values),
    )
    return _write(tracer, node, result, inputs, units, products)


def _check_mask(tracer: Tracer, mask: Any, query: Any) -> None:
    """Refuse a mask that is neither the same for all heads nor has a dimension of heads."""
    if mask is None or _is_alike(tracer, mask):
        return
    source, queries = tracer.value(mask), tracer.value(query)
    if source is None or queries is None or (source.units == NO_UNIT).all():
        raise NotUnderstood("attention with a mask for each head, which cannot be cut")
    if source.axis - len(tracer.shapes[mask]) != queries.axis - len(tracer.shapes[query]):
        raise NotUnderstood("attention with a mask of other channels than the heads")


def _is_alike(tracer: Tracer, mask: fx.Node) -> bool:
    """Return whether a mask is the same for all heads."""
    shape = tracer.shapes[mask]
    return len(shape) < 3 or shape[-3] == 1


def _with_mask(tracer: Tracer, node: fx.Node, mask: Any, units: np.ndarray) -> np.ndarray:
    """Make heads one with those of their mask."""
    source = tracer.value(mask)
    if source is None:
        return units
    if _is_alike(tracer, mask):
        tracer.pin(source, node, "a mask for all heads")
        return units
    return tracer.units.merge(units, source.units, node.name)


def _same_heads(tracer: Tracer, node: fx.Node, inputs: list[Any]) -> np.ndarray:
    """Make the heads of all inputs one; heads are a dimension before the last two."""
    sources = [tracer.values[each] for each in inputs if each in tracer.values]
    if len(sources) < len(inputs) or any(each not in tracer.shapes for each in inputs):
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
    tracer: Tracer,
    node: fx.Node,
    result: torch.Tensor,
    inputs: list[Any],
    units: np.ndarray,
    products: tuple[Product, ...],
) -> Traced:
    first = tracer.values[inputs[0]]
    written = tracer.write(units, first.axis, result)
    name = f"{node.meta['scope']}.{node.name}".strip(".")
    tracer.layers.add(node, name, "attention", first, written.size, units, 0, products=products)
    return written
