"""Say which layer of a layer table each node of a runtime belongs to."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from prune_gym.costs.latency import TIMED
from prune_gym.errors import UserError
from prune_gym.graph.layer_table import LayerTable


class Node(NamedTuple):
    """A node of a graph: what it is called, which kinds of layers it can be, and what it reads.

    Attributes:
        name: of the node.
        kinds: kinds of layers; () for a node that is no layer.
        reads: names of the tensors that it reads.
        writes: names of the tensors that it writes.
    """

    name: str
    kinds: Collection[str]
    reads: Iterable[str] = ()
    writes: Iterable[str] = ()


def layers_in_order(
    nodes: Sequence[Node], table: LayerTable, kinds: Collection[str] = TIMED
) -> list[str]:
    """Return the name of the layer that each node is, "" for nodes that are no layer.

    Layers stand in a runtime's graph in the order of the table.

    Args:
        nodes: of the runtime's graph, in order.
        table: of the network.
        kinds: of the layers that are nodes.

    Raises:
        UserError: the nodes are not the layers of the table.
    """
    layers = [layer for layer in table.layers if layer.kind in kinds]
    names: list[str] = []
    count = 0
    for node in nodes:
        if node.kinds and (count == len(layers) or layers[count].kind not in node.kinds):
            raise UserError(f"node {node.name!r} is no layer of the layer table")
        names.append(layers[count].name if node.kinds else "")
        count += bool(node.kinds)
    if count < len(layers):
        raise UserError(f"layer {layers[count].name!r} is not in the runtime's graph")
    return names


def owners_of(nodes: Sequence[Node], table: LayerTable) -> dict[str, str]:
    """Return the layer that each node and each tensor of a graph belongs to, by name.

    A node between layers belongs to the layer that it reads, to the latest of several.

    Raises:
        UserError: the nodes are not the layers of the table.
    """
    places = {layer.name: at for at, layer in enumerate(table.layers)}
    found: dict[str, int] = {}
    for node, layer in zip(nodes, layers_in_order(nodes, table), strict=True):
        read = [found[name] for name in node.reads if name in found]
        at = places[layer] if layer else max(read, default=-1)
        if at >= 0:
            found.update(dict.fromkeys([node.name, *node.writes], at))
    return {name: table.layers[at].name for name, at in found.items()}


def inherited(names: list[str]) -> list[str]:
    """Assign each node without a layer ("") to the layer before it, or else to the first layer."""
    last, result = next(name for name in names if name), []
    for name in names:
        last = name or last
        result.append(last)
    return result
