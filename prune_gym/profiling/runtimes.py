"""The runtimes in which networks are timed, by name."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import nn

from prune_gym.errors import UserError, unknown
from prune_gym.graph.layer_table import LayerTable
from prune_gym.profiling.executorch_session import ExecuTorchSession, executorch_version
from prune_gym.profiling.onnx_session import (
    OnnxRuntimeSession,
    import_onnxruntime,
    share_threads,
)
from prune_gym.profiling.openvino_session import OpenVinoSession, import_openvino
from prune_gym.profiling.session import Session, Setting
from prune_gym.profiling.torch_session import TorchSession


class Runtime(NamedTuple):
    """A runtime: how it loads a network, its version, and whether it has int8 layers.

    ``load`` takes a folded network, its layer table, the setting and the names of int8 layers.
    ``share_threads`` takes a number of threads that all sessions of this process share from then
    on, where that makes them disturb each other less.
    """

    load: Callable[[nn.Module, LayerTable, Setting, Collection[str]], Session]
    version: Callable[[], str]
    has_int8: bool
    share_threads: Callable[[int], None] = lambda threads: None


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(
        OnnxRuntimeSession, lambda: import_onnxruntime().__version__, True, share_threads
    ),
    "openvino": Runtime(OpenVinoSession, lambda: import_openvino().__version__, True),
    "executorch": Runtime(ExecuTorchSession, executorch_version, True),
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
