"""Load and time whole networks in a runtime, as they are deployed."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from prune_gym._utils.device import memory_format, to_channels_last
from prune_gym.costs.latency import TIMED
from prune_gym.errors import MissingExtraError, UserError, unknown
from prune_gym.graph.input_shapes import InputShape, InputShapes, Shape, kind_of
from prune_gym.graph.inputs import Inputs, feed, ordered, shape_of
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.symbolic import by_position, symbolic_trace
from prune_gym.graph.trace import trace
from prune_gym.profiling.onnx_int8 import quantize_model
from prune_gym.profiling.onnx_nodes import owners, to_onnx


class Session(Protocol):
    """A network, ready to be called again and again on one random input."""

    def run(self) -> object:
        """Call the network once."""
        ...

    def run_profiled(self) -> object:
        """Call the network once and record the time of every node."""
        ...

    def node_times(self) -> tuple[list[str], np.ndarray]:
        """Return the layer of each node, and the recorded ms as float64 (calls, nodes)."""
        ...


class Setting(NamedTuple):
    """How networks are called: batch size, image shape (C, H, W), and processor threads."""

    batch: int
    input_shape: InputShape
    threads: int

    def images(self) -> Any:
        """Return random images, float32 (N, C, H, W); of texts, ids of the first token.

        Of several inputs, all of them; booleans are true.
        """
        if isinstance(self.input_shape, InputShapes):
            each = zip(self.input_shape.shapes, self.input_shape.kinds, strict=True)
            return Inputs(tuple(self._numbers(*one) for one in each), self.input_shape.names)
        return self._numbers(self.input_shape, kind_of(self.input_shape))

    def _numbers(self, shape: Shape, kind: str) -> np.ndarray:
        shape = (self.batch, *shape)
        if kind == "float":
            return np.random.default_rng(0).random(shape, dtype=np.float32)
        return np.ones(shape, dtype=bool) if kind == "bool" else np.zeros(shape, dtype=np.int64)


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


def inherited(names: list[str]) -> list[str]:
    """Assign each node without a layer ("") to the layer before it, or else to the first layer."""
    last, result = next(name for name in names if name), []
    for name in names:
        last = name or last
        result.append(last)
    return result


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
        self._runtime = import_onnxruntime()
        self._table, self._setting = table, setting
        network = by_position(network, setting.input_shape)
        self._model = onnx_model(network, table, setting, int8)
        self._session = self._load(self._options())
        self._feed = feed_of(self._session, ordered(network, setting.images()))
        self._profiled: Any = None
        self._folder: tempfile.TemporaryDirectory | None = None

    def _options(self) -> Any:
        return session_options(self._setting.threads)

    def _load(self, options: Any) -> Any:
        providers = ["CPUExecutionProvider"]
        return self._runtime.InferenceSession(self._model, options, providers=providers)

    def run(self) -> object:
        """Call the network once."""
        return self._session.run(None, self._feed)

    def run_profiled(self) -> object:
        """Call the network once in a second session that takes times."""
        if self._profiled is None:
            self._folder = tempfile.TemporaryDirectory()
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._folder.name, "profile"))
            self._profiled = self._load(options)
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


def session_options(threads: int | None = None) -> Any:
    """Return the options of ONNX Runtime for a number of threads; None takes all processors.

    Once the process shares threads, all sessions use them (see `share_threads`).
    """
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = 3
    if _shared_pool() is None and threads is not None:
        options.intra_op_num_threads = threads
    return options


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


def share_threads(runtime: str, threads: int) -> None:
    """Let all sessions of this process share their threads, where the runtime allows it.

    The private threads of a session spin for tens of milliseconds after a call and slow down the
    next session, which disturbs interleaved measurements.

    Raises:
        UserError: the process already shares a different number of threads.
    """
    if runtime != "onnxruntime":
        return
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


def _openvino_session(
    network: nn.Module, table: LayerTable, setting: Setting, int8: Collection[str]
) -> Session:
    from prune_gym.profiling.openvino import OpenVinoSession  # it builds on this module

    return OpenVinoSession(network, table, setting, int8)


def import_openvino() -> Any:
    """Return the module openvino.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return import_module("openvino")
    except ImportError as error:
        raise MissingExtraError(
            f"the runtime openvino needs an extra ({error}): pip install 'prune-gym[openvino]'"
        ) from None


class Runtime(NamedTuple):
    """A runtime: how it loads a network, its version, and whether it has int8 layers.

    ``load`` takes a folded network, its layer table, the setting and the names of int8 layers.
    """

    load: Callable[[nn.Module, LayerTable, Setting, Collection[str]], Session]
    version: Callable[[], str]
    has_int8: bool


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(OnnxRuntimeSession, lambda: import_onnxruntime().__version__, True),
    "openvino": Runtime(_openvino_session, lambda: import_openvino().__version__, True),
    "torch": Runtime(TorchSession, lambda: torch.__version__, False),
}


def runtime_named(name: str) -> Runtime:
    """Return a runtime by name.

    Raises:
        UserError: no such runtime.
    """
    if name not in RUNTIMES:
        raise UserError(unknown("runtime", name, RUNTIMES))
    return RUNTIMES[name]
