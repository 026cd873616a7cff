"""Export networks to ExecuTorch programs that run in XNNPACK, in float32 and in int8."""

import warnings
from collections.abc import Collection
from importlib import import_module
from typing import Any

import torch
from torch import nn

from prune_gym.errors import MissingExtraError
from prune_gym.graph.layer_table import LayerTable
from prune_gym.profiling.node_layers import Node, owners_of

aten = torch.ops.aten

# Operations of the layers in a layer table, as torch.export writes them.
_LAYER_OPERATIONS: dict[Any, tuple[str, ...]] = {
    aten.conv1d.default: ("conv", "depthwise"),
    aten.conv2d.default: ("conv", "depthwise"),
    aten.linear.default: ("linear",),
    aten.max_pool2d.default: ("pool",),
    aten.avg_pool2d.default: ("pool",),
    aten.adaptive_avg_pool2d.default: ("pool",),
    aten.adaptive_max_pool2d.default: ("pool",),
    aten.mean.dim: ("pool",),
}


def import_executorch(name: str) -> Any:
    """Return a module of ExecuTorch, such as "exir".

    Raises:
        MissingExtraError: ExecuTorch is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its interface is experimental
            return import_module(f"executorch.{name}")
    except ImportError as error:
        raise MissingExtraError(
            f"the runtime executorch needs an extra ({error}): pip install 'prune-gym[executorch]'"
        ) from None


def to_executorch(network: nn.Module, args: tuple[Any, ...]) -> bytes:
    """Return a network in eval mode, or one from `quantized`, as an ExecuTorch program.

    What XNNPACK cannot run, ExecuTorch's own operators do.

    Args:
        network: takes its inputs by position.
        args: example inputs; the program takes inputs of these shapes.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
    """
    exir = import_executorch("exir")
    partition = import_executorch("backends.xnnpack.partition.xnnpack_partitioner")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of ExecuTorch about its own parts
        lowered = exir.to_edge_transform_and_lower(
            torch.export.export(network, args), partitioner=[partition.XnnpackPartitioner()]
        )
        return lowered.to_executorch().buffer


def quantized(
    network: nn.Module, args: tuple[Any, ...], table: LayerTable, int8: Collection[str]
) -> nn.Module:
    """Return a network some of whose layers multiply 8-bit whole numbers, for `to_executorch`.

    Weights are signed with a scale per output channel; activations signed with a scale and a zero
    point each, from their range over ``args``. What lies between layers has the precision of the
    layer that it reads.

    Args:
        network: in eval mode, batch-norm folded, takes its inputs by position.
        args: example inputs.
        table: of the network.
        int8: names of the layers with 8 bits.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        UserError: the network's operations are not the layers of ``table``.
    """
    xnnpack = import_executorch("backends.xnnpack.quantizer.xnnpack_quantizer")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e  # comes with it

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph = torch.export.export(network, args).module()
        nodes = [
            Node(each.name, _LAYER_OPERATIONS.get(each.target, ()), map(str, each.all_input_nodes))
            for each in graph.graph.nodes
        ]
        names = {node for node, layer in owners_of(nodes, table).items() if layer in int8}
        quantizer = xnnpack.XNNPACKQuantizer()
        quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))
        # It asks about the weights of an operation too, which go with it.
        quantizer.set_filter_function(lambda node: node.op == "get_attr" or node.name in names)
        prepared = prepare_pt2e(graph, quantizer)
        prepared(*args)
        return convert_pt2e(prepared)
