"""Time networks in PyTorch without a compiler."""

import time
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym._utils.device import memory_format, to_channels_last
from prune_gym.costs.latency import TIMED
from prune_gym.graph.inputs import feed, shape_of
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.symbolic import symbolic_trace
from prune_gym.profiling.node_layers import inherited
from prune_gym.profiling.session import Setting


class TorchSession:
    """PyTorch without a compiler: inference mode, channels-last."""

    def __init__(
        self, network: nn.Module, table: LayerTable, setting: Setting, int8: Collection[str] = ()
    ) -> None:
        """Take a network in eval mode whose batch-norm is folded; it has no int8."""
        assert not int8
        self._network = to_channels_last(network)
        self._images = tree_map(_as_tensor, setting.images())
        self._threads = setting.threads
        self._names = {layer.name for layer in table.layers if layer.kind in TIMED}
        self._clock: _Clock | None = None

    @torch.inference_mode()
    def run(self) -> object:
        """Call the network once."""
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        return feed(self._network, self._images)

    @torch.inference_mode()
    def run_profiled(self) -> object:
        """Call the network node by node."""
        if self._clock is None:
            self._clock = _Clock(symbolic_trace(self._network, shape_of(self._images)))
        self._clock.calls.append([])
        return self._clock.run(*tree_leaves(self._images))

    def node_times(self) -> tuple[list[str], np.ndarray]:
        """Return the layer of each node, and ms (calls, nodes)."""
        assert self._clock is not None, "run_profiled() comes first"
        nodes = [node for node in self._clock.graph.nodes if _computes(node)]
        names = [str(n.target) if n.op == "call_module" else n.name for n in nodes]
        return inherited([n if n in self._names else "" for n in names]), np.array(
            self._clock.calls
        )


class _Clock(fx.Interpreter):
    """Runs a graph and records the milliseconds of every node that computes."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.calls: list[list[float]] = []

    def run_node(self, n: fx.Node) -> Any:
        start = time.perf_counter()
        result = super().run_node(n)
        if _computes(n):
            self.calls[-1].append(1e3 * (time.perf_counter() - start))
        return result


def _as_tensor(images: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(images)
    return tensor.to(memory_format=memory_format(tensor))


def _computes(node: fx.Node) -> bool:
    return node.op in ("call_module", "call_function", "call_method")
