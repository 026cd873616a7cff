"""Export networks to ONNX to measure them, and assign the nodes of the model to layers."""

import io
import warnings
from typing import Any, cast

import torch
from torch import nn

from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.inputs import arguments, zeros
from prune_gym.graph.layer_table import LayerTable
from prune_gym.profiling.node_layers import Node, owners_of

# Operators of the layers in a layer table; every other node belongs to one of these layers.
_LAYER_OPERATORS = {
    "Conv": ("conv", "depthwise"),
    "Gemm": ("linear",),
    "MatMul": ("linear",),
    "MaxPool": ("pool",),
    "AveragePool": ("pool",),
    "GlobalAveragePool": ("pool",),
    "GlobalMaxPool": ("pool",),
    "ReduceMean": ("pool",),
}


def to_onnx(network: nn.Module, input_shape: InputShape, batch: int) -> bytes:
    """Return a network in eval mode as an ONNX model for ``batch`` images of (C, H, W).

    The network takes its inputs by position (`prune_gym.graph.symbolic.by_position`).
    """
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The newer exporter needs another package and takes ten times as long, too long for the
        # hundred networks of a profile.
        warnings.simplefilter("ignore")
        args, _ = arguments(network, zeros(network, input_shape, batch))
        torch.onnx.export(network, args, cast(Any, file), dynamo=False)
    return file.getvalue()


def owners(model: bytes, table: LayerTable) -> dict[str, str]:
    """Return the layer that each node and each tensor of an ONNX model belongs to, by name.

    Raises:
        UserError: the model's nodes are not those of the table.
    """
    import onnx

    nodes = [
        Node(each.name, _LAYER_OPERATORS.get(each.op_type, ()), each.input, each.output)
        for each in onnx.load_from_string(model).graph.node
    ]
    return owners_of(nodes, table)
