"""Residual blocks: found in the traced graph, and taken out of a network."""

import copy
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from prune_gym._utils.formatting import unique_name
from prune_gym.graph.branches import ADDITIONS, between, function_name, replace_additions
from prune_gym.graph.input_shapes import InputShape
from prune_gym.graph.inputs import Tensors, different, feed, shape_of, tensors, zeros
from prune_gym.graph.layers import Block, Layer
from prune_gym.graph.module_state import in_eval_mode
from prune_gym.graph.skipped import Skipped
from prune_gym.graph.symbolic import symbolic_trace


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
    branch = between(x, end)
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


def skip_blocks(network: nn.Module, blocks: Sequence[Block], input_shape: InputShape) -> nn.Module:
    """Return ``network`` without the branches of ``blocks``; it shares the weights that stay.

    It is a copy of the network, of the same class, in which `Skipped` modules stand for
    those of the branches. Where a branch computes something else than 0 without its modules, or
    needs one that runs elsewhere too, it is a ``torch.fx`` graph of eval mode.

    Args:
        network: it is left as it is.
        blocks: what its layer table says of the blocks.
        input_shape: that of an image (C, H, W).
    """
    if not blocks:
        return network
    operations = symbolic_trace(network, input_shape)
    inside, graph = _modules_inside(operations.graph, blocks), without_blocks(operations, blocks)
    _keep_heads(graph, network)
    with in_eval_mode(network):
        whole = _with_zeros(network, inside, input_shape)
        return whole if whole is not None and _equal(whole, graph, input_shape) else graph


def without_blocks(network: fx.GraphModule, blocks: Sequence[Block]) -> fx.GraphModule:
    """Return a copy of the operations of a network without the branches of ``blocks``."""
    small = fx.GraphModule(network, copy.deepcopy(network.graph), type(network).__name__)
    nodes = {node.name: node for node in small.graph.nodes}
    replace_additions(small, {nodes[b.addition]: nodes[b.source] for b in blocks})
    return small


def for_inference(network: nn.Module, input_shape: InputShape) -> nn.Module:
    """Return a network in eval mode as it is deployed: no zeros are added in skipped blocks.

    ``input_shape`` is that of an image (C, H, W).
    """
    if not any(isinstance(module, Skipped) for module in network.modules()):
        return network
    graph = symbolic_trace(network, input_shape)
    _keep_heads(graph, network)
    return graph


def _keep_heads(graph: fx.GraphModule, network: nn.Module) -> None:
    """Keep how a detector's outputs are read, which the tracer leaves behind."""
    if hasattr(network, "heads"):
        graph.heads = network.heads


def _modules_inside(graph: fx.Graph, blocks: Sequence[Block]) -> list[str]:
    """Return the outermost modules that run in the branches of ``blocks`` alone."""
    nodes = {node.name: node for node in graph.nodes}
    branches: set[fx.Node] = set()
    for block in blocks:
        x = nodes[block.source]
        branches |= between(x, *(n for n in nodes[block.addition].all_input_nodes if n is not x))
    runs: dict[str, bool] = {}  # whether a module runs in branches alone
    for node in graph.nodes:
        stack = [name for name, _ in node.meta.get("nn_module_stack", {}).values()]
        for name in [*stack, str(node.target)] if node.op == "call_module" else stack:
            runs[name] = runs.get(name, True) and (node in branches or _unused(node))
    return [
        name
        for name, inside in runs.items()
        if inside and not any(runs.get(each, False) for each in _parents(name))
    ]


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


@torch.no_grad()
def _with_zeros(
    network: nn.Module, names: Sequence[str], input_shape: InputShape
) -> nn.Module | None:
    """Return a copy in which zeros stand for modules; None where one writes no single tensor."""
    memo: dict[int, Any] = {
        id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())
    }

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if inputs and torch.is_tensor(inputs[0]) and torch.is_tensor(output):
            memo.setdefault(id(module), Skipped(inputs[0].shape, output.shape))

    modules = [network.get_submodule(name) for name in names]
    handles = [module.register_forward_hook(note) for module in modules]
    try:
        feed(network, zeros(network, input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return copy.deepcopy(network, memo) if all(id(m) in memo for m in modules) else None


@torch.no_grad()
def _equal(network: nn.Module, graph: fx.GraphModule, input_shape: InputShape) -> bool:
    """Return whether a network in eval mode computes what the graph does, to the last bit."""
    images = different(network, input_shape)
    try:
        found = feed(network, images)
    except Exception:  # whatever its forward raises without the modules
        return False
    pairs = zip(tensors(found), tensors(feed(graph, images)), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@torch.inference_mode()
def branch_shares(network: nn.Module, blocks: Sequence[Block], images: Tensors) -> list[float]:
    """Return per block the energy of ``branch(x)`` as a share of that of x and branch(x).

    ``images`` are normalized, (N, C, H, W).
    """
    recorder = _Recorder(symbolic_trace(network, shape_of(images)), blocks)
    recorder.run(*tree_leaves(images))
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
            energy = {
                n.name: float(self.env[n].float().square().mean()) for n in node.all_input_nodes
            }
            x = energy.pop(self._additions[node.name])
            (branch,) = energy.values()
            self.shares.append(branch / max(branch + x, 1e-12))
        return super().run_node(node)
