"""Symbolic tracing that knows shapes: the operations of a network as a ``torch.fx`` graph.

``fx.symbolic_trace`` gives up where a forward asks for a shape, because its values are only names.
Here every traced value carries what an example image makes of it. Sizes stay symbolic in the
graph, so that it runs on other batches and on cut networks, and become numbers where Python
needs one: in a comparison, ``range`` or ``int``. A module that cannot be traced is called whole.
"""

import threading

import torch
from torch import fx, nn

from prune_gym.errors import UserError, first_line
from prune_gym.graph.branches import drop_skipped
from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.inputs import (
    Inputs,
    Tensors,
    arguments,
    different,
    feed,
    shape_of,
    tensors,
    zeros,
)
from prune_gym.graph.module_state import in_eval_mode, left_as_it_was
from prune_gym.graph.shape_tracer import ShapeTracer, is_wrapped

# torch.fx replaces nn.Module.__call__ for the whole process while it traces.
_lock = threading.RLock()


def symbolic_trace(network: nn.Module, input_shape: InputShape) -> fx.GraphModule:
    """Return the operations of ``network``, in eval mode, on images of ``input_shape`` (C, H, W).

    A shape of one dimension, (L,), is that of token ids. Each of several inputs is a placeholder.
    The graph shares its modules with the network; skipped blocks do not occur in it. Nodes have in
    ``meta``: ``shape``, of a tensor, that for one image; ``sizes``, of a number that was computed
    from sizes, the dimensions (node, dimension) that it depends on, for a tuple a set for each
    entry; ``read``, of a tensor, the dimensions whose size Python code has used as a plain number,
    each with the name of a module whose code did so; ``scope``, the name of the module that calls
    it; ``numbers``, its arguments (positional, named) with a ``Key`` in the place of numbers that
    are attributes of modules and None in the place of all else. The graph's ``meta`` has
    ``computed``, the attributes that Python code computes with.

    Raises:
        UserError: the network does not take such images, or what it computes depends on values.
    """
    example = zeros(network, input_shape)
    opaque: frozenset[str] = frozenset()
    with _lock, in_eval_mode(network), torch.no_grad():
        while True:
            tracer = ShapeTracer(example, opaque)
            try:
                with left_as_it_was(network):
                    operations = tracer.trace(network)
                    operations._tracer_cls = None  # pickles are read back by torch.fx's own
                    for node in operations.nodes:  # torch.fx marks the last of a function's
                        if not is_wrapped(node.target):
                            node.meta.pop("is_wrapped", None)
                    graph = fx.GraphModule(network, operations, type(network).__name__)
                graph.meta["computed"] = tracer.computed
            except Exception as error:  # whatever its forward raises
                raise UserError(_why_not(network, example, error)) from error
            more = frozenset(tracer.batch_readers) - opaque
            if not more or _agree(network, graph, input_shape):
                drop_skipped(graph)
                return graph
            if "" in more:
                raise UserError(
                    f"{type(network).__name__} cannot be traced: its forward uses the number of "
                    "images as a plain number; write -1 or x.shape[0] in its place"
                )
            opaque |= more


def by_position(network: nn.Module, input_shape: InputShape) -> nn.Module:
    """Return a network that takes its inputs by position: a graph where it takes some by name."""
    _, named = arguments(network, zeros(network, input_shape))
    return symbolic_trace(network, input_shape) if named else network


def _why_not(network: nn.Module, example: Tensors, error: Exception) -> str:
    name = type(network).__name__
    try:
        feed(network, example)
    except Exception as refused:  # whatever its forward raises on such images
        if isinstance(example, Inputs):
            return f"{name} cannot run on inputs of {shape_of(example)}: {first_line(refused)}"
        shape = "x".join(map(str, example.shape[1:]))
        return (
            f"{name} cannot run on images of {shape} (channels, height, width): "
            f"{first_line(refused)}"
        )
    return (
        f"{name} cannot be traced ({first_line(error)}); the outermost forward must not depend on "
        "the values of tensors"
    )


def _agree(network: nn.Module, graph: fx.GraphModule, input_shape: InputShape) -> bool:
    """Return whether the graph computes what the network does on two images."""
    images = different(network, input_shape)
    try:
        pairs = zip(tensors(feed(graph, images)), tensors(feed(network, images)), strict=True)
        return all(
            a.shape == b.shape and torch.allclose(a, b, 1e-3, 1e-4, equal_nan=True)
            for a, b in pairs
        )
    except Exception:  # a number of images that stands in the graph
        return False
