"""Branches of residual blocks in a ``torch.fx`` graph: followed, and left out."""

from collections.abc import Mapping

from torch import fx

from prune_gym.graph.skipped import Skipped

ADDITIONS = ("add", "iadd", "add_")


def function_name(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls, "" for a module."""
    if node.op == "call_module":
        return ""
    target = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def between(x: fx.Node, *ends: fx.Node) -> set[fx.Node]:
    """Return the nodes that ``ends`` are computed from, going back as far as x, and ``ends``."""
    found: set[fx.Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node is x or node in found:
            continue
        found.add(node)
        waiting.extend(node.all_input_nodes)
    return found


def replace_additions(graph: fx.GraphModule, additions: Mapping[fx.Node, fx.Node]) -> None:
    """Let x stand for each addition (addition -> x, in the graph's order), in place.

    Operations that nobody reads are left out then.
    """
    instead: dict[fx.Node, fx.Node] = {}
    for addition, x in additions.items():
        instead[addition] = instead.get(x, x)  # x may be an addition before it
        addition.replace_all_uses_with(instead[addition])
    _drop_unread(graph)


def _drop_unread(graph: fx.GraphModule) -> None:
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()


def drop_skipped(graph: fx.GraphModule) -> None:
    """Take the additions of skipped blocks out of a graph, and the zeros that they add."""
    step = {node: at for at, node in enumerate(graph.graph.nodes)}
    zeros = {node for node in step if _writes_zeros(graph, node)}
    if not zeros:
        return
    for node in step:
        if function_name(node) in ADDITIONS and len(node.all_input_nodes) == 2:
            x, end = sorted(node.all_input_nodes, key=step.__getitem__)
            if not zeros.isdisjoint(between(x, end)):
                node.replace_all_uses_with(x)
    _drop_unread(graph)


def _writes_zeros(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), Skipped)
