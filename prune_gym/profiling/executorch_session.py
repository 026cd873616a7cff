"""Time networks in ExecuTorch, which runs them in XNNPACK as phones do."""

import tempfile
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym.costs.latency import TIMED
from prune_gym.errors import UserError
from prune_gym.graph.inputs import ordered
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.symbolic import by_position
from prune_gym.graph.trace import trace
from prune_gym.profiling.executorch_program import import_executorch, quantized, to_executorch
from prune_gym.profiling.node_layers import Node, inherited, layers_in_order
from prune_gym.profiling.session import Setting

# How the names of operators of layers begin: those of XNNPACK, then those of ExecuTorch itself.
_LAYER_OPERATORS = {
    "Convolution": ("conv", "depthwise", "batch_norm"),  # where no convolution precedes the norm
    "Fully Connected": ("conv", "linear"),  # XNNPACK runs a 1x1 convolution as one
    "Max Pooling": ("pool",),
    "Average Pooling": ("pool",),
    "Global Average Pooling": ("pool",),
    "Mean": ("pool",),
    "native_call_convolution": ("conv", "depthwise"),
    "native_call_addmm": ("linear",),
    "native_call_linear": ("linear",),
    "native_call_max_pool2d": ("pool",),
    "native_call_avg_pool2d": ("pool",),
    "native_call__adaptive_avg_pool2d": ("pool",),
    "native_call_mean": ("pool",),
    "native_call__native_batch_norm": ("batch_norm",),
}


class ExecuTorchSession:
    """ExecuTorch with XNNPACK on the processor."""

    def __init__(
        self, network: nn.Module, table: LayerTable, setting: Setting, int8: Collection[str] = ()
    ) -> None:
        """Take a network in eval mode whose batch-norm is folded, and the names of int8 layers.

        Raises:
            MissingExtraError: ExecuTorch is not installed.
            UserError: the process already measures with a different number of threads.
        """
        self._runtime = import_runtime(setting.threads)
        network = by_position(network, setting.input_shape)
        self._table = trace(network, setting.input_shape)  # without what is folded or skipped
        self._images = tuple(map(torch.from_numpy, ordered(network, setting.images())))
        if int8:
            network = quantized(network, self._images, self._table, int8)
        self._program = to_executorch(network, self._images)  # modules read from these bytes
        self._module = self._load(profiled=False)
        self._profiled: Any = None

    def _load(self, profiled: bool) -> Any:
        load = self._runtime._load_for_executorch_from_buffer
        return load(self._program, enable_etdump=profiled)

    def run(self) -> object:
        """Call the network once."""
        return self._module.forward(self._images)

    def run_profiled(self) -> object:
        """Call the network once in a second module that takes times."""
        if self._profiled is None:
            self._profiled = self._load(profiled=True)
        return self._profiled.forward(self._images)

    def node_times(self) -> tuple[list[str], np.ndarray]:
        """Return the layer of each operator that ran, and ms (calls, operators)."""
        serialize = import_executorch("devtools.etdump.serialize")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "times.etdump")
            self._profiled.write_etdump_result_to_file(str(file))
            dump = serialize.deserialize_from_etdump_flatcc(file.read_bytes())
        runs = [[each.profile_event for each in run.events] for run in dump.run_data]
        calls = [found for run in runs if (found := [each for each in run if _operator(each)])]
        nodes = [Node(name := _operator(each), _kinds(name)) for each in calls[0]]
        ms = [[1e-6 * (each.end_time - each.start_time) for each in call] for call in calls]
        names = layers_in_order(nodes, self._table, (*TIMED, "batch_norm"))
        timed = {layer.name for layer in self._table.layers if layer.kind in TIMED}
        return inherited([name if name in timed else "" for name in names]), np.array(ms)


def _operator(event: Any) -> str:
    """Return the name of an event's operator, "" for an event that contains others."""
    if event.delegate_debug_id_str:
        return event.delegate_debug_id_str
    return event.name if str(event.name).startswith("native_call_") else ""


def _kinds(operator: str) -> Collection[str]:
    matching = (kinds for name, kinds in _LAYER_OPERATORS.items() if operator.startswith(name))
    return next(matching, ())


def executorch_version() -> str:
    """Return the version of ExecuTorch.

    Raises:
        MissingExtraError: it is not installed.
    """
    import_executorch("exir")
    return version("executorch")


def import_runtime(threads: int) -> Any:
    """Return ExecuTorch's runtime, which runs everything on this number of threads.

    Its threads belong to the process, and networks that are loaded hold on to them.

    Raises:
        MissingExtraError: ExecuTorch is not installed.
        UserError: the process already measures with a different number of threads.
    """
    runtime = import_executorch("extension.pybindings.portable_lib")
    if not _THREADS:
        runtime._unsafe_reset_threadpool(threads)
        _THREADS.append(threads)
    elif _THREADS != [threads]:
        raise UserError(
            f"this process measures with {_THREADS[0]} threads, and ExecuTorch cannot change that: "
            f"measure with {threads} in another process"
        )
    return runtime


_THREADS: list[int] = []  # of the process, once a network was loaded
