"""Residual blocks: found in the traced graph, and taken out of a network."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from prune_gym._utils.formatting import unique_name
from prune_gym.graph.layer_table import Block, Layer
from prune_gym.graph.symbolic import symbolic_trace

ADDITIONS = ("add", "iadd", "add_")


def find_blocks(
    steps: Mapping[fx.Node, int],
    names: Mapping[fx.Node, str],
    layers: Iterable[Layer],
    holders: Mapping[fx.Node, int],
) -> tuple[Block, ...]:
    """Return the residual blocks ``x + branch(x)`` of a traced network, in forward order.

    A block's branch holds at least one layer with weights, starts at x alone and is read by the
    addition alone, so that it can be skipped; one whose shortcut holds a layer or a padding is
    no such block.

    Args:
        steps: every node of the graph with its step of the forward pass.
        names: the nodes that are layers, with the layers' names.
        layers: the table's layers.
        holders: every tensor's node with the index of the activation that holds it.
    """
    kinds = {layer.name: layer.has_weight for layer in layers}
    found = (_block_at(node, steps, names, kinds, holders) for node in steps)
    seen: Counter[str] = Counter()  # a module may hold several blocks
    return tuple(
        dataclasses.replace(block, name=unique_name(block.name, seen))
        for block in found
        if block is not None
    )


def _block_at(
    addition: fx.Node,
    steps: Mapping[fx.Node, int],
    layers: Mapping[fx.Node, str],
    kinds: Mapping[str, bool],
    holders: Mapping[fx.Node, int],
) -> Block | None:
    sources = addition.all_input_nodes
    if function_name(addition) not in ADDITIONS or len(sources) != 2:
        return None
    if not all(node in holders for node in (*sources, addition)):  # a parameter is added
        return None
    # The later of the two ends the branch, the earlier is x.
    x, end = sorted(sources, key=steps.__getitem__)
    if x.meta["shape"] != addition.meta["shape"]:  # x alone is no substitute for the sum
        return None
    branch = _between(x, end)
    names = tuple(layers[node] for node in sorted(branch, key=steps.__getitem__) if node in layers)
    readers = {user for n in branch for user in n.users if not _unused(user)}
    leaves = readers - branch - {addition}
    enters = any(
        source not in branch and source is not x
        for n in branch
        for source in n.args
        if isinstance(source, fx.Node)
    )
    if not any(kinds[name] for name in names) or leaves or enters:
        return None
    saved = min(steps[node] for node in branch), steps[addition]
    held = holders[x], holders[addition]
    overwritten = any(holders.get(user) == holders[addition] for user in addition.users)
    return Block(_common_module(names), names, x.name, addition.name, saved, held, overwritten)


def _unused(node: fx.Node) -> bool:
    return not node.users and node.op != "output"  # such as the height in `n, c, h, w = x.size()`


def _common_module(names: Sequence[str]) -> str:
    parts = zip(*(name.split(".") for name in names), strict=False)
    common = [part[0] for part in itertools.takewhile(lambda part: len(set(part)) == 1, parts)]
    return ".".join(common) or names[0]


def _between(x: fx.Node, end: fx.Node) -> set[fx.Node]:
    """Return the nodes that ``end`` is computed from, ``end`` included, going back as far as x."""
    found: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is x or node in found:
            continue
        found.add(node)
        waiting.extend(node.all_input_nodes)
    return found


def function_name(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls, "" for a module."""
    if node.op == "call_module":
        return ""
    target = node.target
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def skip_blocks(
    network: nn.Module, blocks: Sequence[Block], input_shape: tuple[int, ...]
) -> nn.Module:
    """Return ``network`` without the branches of ``blocks``; its modules are shared, not copied.

    ``input_shape`` is that of an image (C, H, W).
    """
    if not blocks:
        return network
    graph = symbolic_trace(network, input_shape)
    nodes = {node.name: node for node in graph.graph.nodes}
    for block in blocks:
        # x may itself be the addition of a skipped block: follow it to what replaced it.
        nodes[block.addition].replace_all_uses_with(nodes[block.source])
        nodes[block.addition] = nodes[block.source]
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    if hasattr(network, "heads"):  # how a detector's outputs are read; the tracer leaves it behind
        graph.heads = network.heads
    return graph


@torch.inference_mode()
def branch_shares(network: nn.Module, blocks: Sequence[Block], images: torch.Tensor) -> list[float]:
    """Return per block the energy of ``branch(x)`` as a share of that of x and branch(x).

    ``images`` are normalized, (N, C, H, W).
    """
    recorder = _Recorder(symbolic_trace(network, tuple(images.shape[1:])), blocks)
    recorder.run(images)
    return recorder.shares


class _Recorder(fx.Interpreter):
    """Runs a network and keeps the energies at its blocks."""

    def __init__(self, graph: fx.GraphModule, blocks: Sequence[Block]) -> None:
        super().__init__(graph)
        self.shares: list[float] = []
        self._additions = {block.addition: block.source for block in blocks}

    def run_node(self, node: fx.Node) -> Any:
        if node.name in self._additions:
            # Before the addition, which may write over one of the two.
            energy = {n.name: float(self.env[n].square().mean()) for n in node.all_input_nodes}
            x = energy.pop(self._additions[node.name])
            (branch,) = energy.values()
            self.shares.append(branch / max(branch + x, 1e-12))
        return super().run_node(node)
