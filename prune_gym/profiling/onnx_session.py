"""Time networks in ONNX Runtime on the processor."""

import json
import re
import tempfile
from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym.errors import MissingExtraError, UserError
from prune_gym.graph.inputs import ordered
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.symbolic import by_position
from prune_gym.graph.trace import trace
from prune_gym.profiling.node_layers import inherited
from prune_gym.profiling.onnx_int8 import quantize_model
from prune_gym.profiling.onnx_nodes import owners, to_onnx
from prune_gym.profiling.session import Setting


def onnx_model(
    network: nn.Module, table: LayerTable, setting: Setting, int8: Collection[str]
) -> bytes:
    """Return the ONNX model of a folded network; the layers named in ``int8`` have 8 bits."""
    if not int8:
        return to_onnx(network, setting.input_shape, setting.batch)
    # Biases of untrained networks are equal; the exporter would share one tensor among layers.
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(1e-3 * torch.randn(parameter.shape, generator=generator))
    model = to_onnx(network, setting.input_shape, setting.batch)
    names = [table.layers[index].name for index in table.weighted]
    floats = [name for name in names if name not in int8]
    deployed = trace(network, setting.input_shape) if floats else None  # without skipped blocks
    return quantize_model(model, [ordered(network, setting.images())], deployed, floats)


class OnnxRuntimeSession:
    """ONNX Runtime on the processor with its default optimizations."""

    def __init__(
        self, network: nn.Module, table: LayerTable, setting: Setting, int8: Collection[str] = ()
    ) -> None:
        """Take a network in eval mode whose batch-norm is folded, and the names of int8 layers.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        import_onnxruntime()  # before the work of an export
        self._table, self._setting = table, setting
        network = by_position(network, setting.input_shape)
        self._model = onnx_model(network, table, setting, int8)
        self._session = open_session(self._model, setting.threads)
        self._feed = feed_of(self._session, ordered(network, setting.images()))
        self._profiled: Any = None
        self._folder: tempfile.TemporaryDirectory | None = None

    def run(self) -> object:
        """Call the network once."""
        return self._session.run(None, self._feed)

    def run_profiled(self) -> object:
        """Call the network once in a second session that takes times."""
        if self._profiled is None:
            self._folder = tempfile.TemporaryDirectory()
            profile = Path(self._folder.name, "profile")
            self._profiled = open_session(self._model, self._setting.threads, profile)
        return self._profiled.run(None, self._feed)

    def node_times(self) -> tuple[list[str], np.ndarray]:
        """Return the layer of each node of the optimized model, and ms (calls, nodes)."""
        assert self._folder is not None, "run_profiled() comes first"
        events = json.loads(Path(self._profiled.end_profiling()).read_text())
        self._folder.cleanup()
        calls = sum(event["name"] == "model_run" for event in events)
        events = sorted((e for e in events if e["cat"] == "Node"), key=lambda event: event["ts"])
        times = 1e-3 * np.array([event["dur"] for event in events]).reshape(calls, -1)
        of = owners(self._model, self._table)
        names = [
            re.sub(r"(_token_\d+)?(_nchwc)?_kernel_time$", "", event["name"])
            for event in events[: times.shape[1]]
        ]
        return inherited([of.get(name, "") for name in names]), times


def feed_of(session: Any, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return what a session of ONNX Runtime is given, from the inputs in the model's order."""
    names = (each.name for each in session.get_inputs())
    return dict(zip(names, inputs, strict=True))


def open_session(
    model: bytes | str, threads: int | None = None, profile: Path | None = None
) -> Any:
    """Return a session of ONNX Runtime on the processor.

    Once the process shares threads, all sessions use them (see `share_threads`).

    Args:
        model: an ONNX model, or the path of its file.
        threads: of the processor; None takes all.
        profile: how the name of the file begins to which the times of nodes are written, if any.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if _shared_pool() is None and threads is not None:
        options.intra_op_num_threads = threads
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def import_onnxruntime(*others: str) -> Any:
    """Return the module onnxruntime; ``others`` are the modules that are needed with it.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    try:
        for name in ("onnx", *others):
            import_module(name)
        return import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtraError(
            f"ONNX and its runtime need an extra ({error}): pip install 'prune-gym[onnx]'"
        ) from None


def share_threads(threads: int) -> None:
    """Let all sessions of this process share their threads.

    The private threads of a session spin for tens of milliseconds after a call and slow down the
    next session, which disturbs interleaved measurements.

    Raises:
        UserError: the process already shares a different number of threads.
    """
    if _shared_pool() not in (None, threads):
        raise UserError(
            f"this process measures with {_shared_pool()} threads, and ONNX Runtime cannot change "
            f"that: measure with {threads} in another process"
        )
    if _shared_pool() is None and threads > 1:
        onnxruntime = import_onnxruntime()
        onnxruntime.set_global_thread_pool_sizes(threads, 1)
        onnxruntime.SessionOptions = _options_with_shared_threads(onnxruntime.SessionOptions)
        _POOL.append(threads)


def _options_with_shared_threads(options: Any) -> type:
    # From now on ONNX Runtime refuses every session with threads of its own, those of its own
    # quantizer too, which takes no options from its caller.
    class SessionOptions(options):
        def __init__(self) -> None:
            super().__init__()
            self.use_per_session_threads = False

    return SessionOptions


_POOL: list[int] = []  # threads of the shared pool of the process, which can be made only once


def _shared_pool() -> int | None:
    return _POOL[0] if _POOL else None
