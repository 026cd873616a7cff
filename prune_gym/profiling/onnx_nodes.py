"""Export networks to ONNX to measure them, and assign the nodes of the model to layers."""

import io
import warnings
from typing import Any, cast

import torch
from torch import nn

from prune_gym.costs.latency import TIMED
from prune_gym.errors import UserError
from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.inputs import arguments, zeros
from prune_gym.graph.layer_table import LayerTable

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

    Layers stand in the model in the order of the table; a node between them belongs to the layer
    that it reads, to the latest of several.

    Raises:
        UserError: the model's nodes are not those of the table.
    """
    import onnx

    layers = [layer for layer in table.layers if layer.kind in TIMED]
    found: dict[str, int] = {}
    count = 0
    for node in onnx.load_from_string(model).graph.node:
        if node.op_type in _LAYER_OPERATORS:
            kinds = _LAYER_OPERATORS[node.op_type]
            if count == len(layers) or layers[count].kind not in kinds:
                raise UserError(f"ONNX node {node.name!r} is no layer of the layer table")
            at, count = count, count + 1
        else:
            at = max((found[name] for name in node.input if name in found), default=-1)
        if at >= 0:
            found.update(dict.fromkeys([node.name, *node.output], at))
    if count < len(layers):
        raise UserError(f"layer {layers[count].name!r} is not in the ONNX model")
    return {name: layers[at].name for name, at in found.items()}
