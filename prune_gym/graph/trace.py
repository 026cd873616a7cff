"""From a network to its layer table, by one symbolic trace.

`prune_gym.graph.tracer` follows the channels through the network, and `prune_gym.graph.assemble`
makes the table of what it found.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym._utils.device import memory_format
from prune_gym.errors import UserError
from prune_gym.graph.assemble import assemble
from prune_gym.graph.branches import function_name
from prune_gym.graph.computed_weights import make_weights_plain
from prune_gym.graph.cuttable_heads import make_heads_cuttable
from prune_gym.graph.input_shapes import InputShape, as_input_shape
from prune_gym.graph.inputs import feed, zeros
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.module_state import in_eval_mode
from prune_gym.graph.shared_weights import find_aliases
from prune_gym.graph.symbolic import symbolic_trace
from prune_gym.graph.tracer import Tracer


def trace(network: nn.Module, input_shape: Any) -> LayerTable:
    """Return the layer table of ``network`` for images of ``input_shape``.

    That is (C, H, W); of signals (C, L), of volumes (C, D, H, W), of token ids (L,). Of several
    inputs it is a tuple of shapes, or a dict by the names of the forward's arguments; where they
    are not all floats and token ids, an `InputShapes`.
    In place, weights that are computed become plain (`prune_gym.graph.computed_weights`), and its
    ``nn.MultiheadAttention`` modules, and those of torchvision's Swin, are replaced by ones that
    compute the same and whose heads can be cut (`prune_gym.graph.cuttable_heads`).

    Raises:
        UserError: the network does not take such images, or its outermost forward cannot be traced.
    """
    with in_eval_mode(network):
        make_weights_plain(network)
    make_heads_cuttable(network)
    shape = as_input_shape(input_shape)
    graph = symbolic_trace(network, shape)
    tracer = Tracer(network, graph, find_aliases(network))
    example = zeros(network, shape)
    with in_eval_mode(network):
        with torch.no_grad(), tracer.multiply_adds:
            tracer.run(*tree_leaves(example))
        _check_channels_last(network, graph, shape)
    return replace(assemble(tracer), input_shape=shape)


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
