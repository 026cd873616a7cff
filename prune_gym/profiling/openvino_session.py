"""Time networks in OpenVINO on the processor."""

from collections.abc import Collection
from importlib import import_module
from typing import Any

import numpy as np
from torch import nn

from prune_gym.errors import MissingExtraError
from prune_gym.graph.inputs import ordered
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.symbolic import by_position
from prune_gym.profiling.node_layers import inherited
from prune_gym.profiling.onnx_nodes import owners
from prune_gym.profiling.onnx_session import onnx_model
from prune_gym.profiling.session import Setting

WITHOUT_BIAS = "/WithoutBiases"  # what OpenVINO appends to the name of a layer


class OpenVinoSession:
    """OpenVINO on the processor, tuned for latency; float layers stay float32."""

    def __init__(
        self, network: nn.Module, table: LayerTable, setting: Setting, int8: Collection[str] = ()
    ) -> None:
        """Take a network in eval mode whose batch-norm is folded, and the names of int8 layers.

        Raises:
            MissingExtraError: OpenVINO or ONNX Runtime, which quantizes, is not installed.
        """
        self._table, self._setting = table, setting
        self._core = import_openvino().Core()
        network = by_position(network, setting.input_shape)
        self._model = onnx_model(network, table, setting, int8)
        self._images = ordered(network, setting.images())
        self._request = self._load(profiled=False)
        self._profiled: Any = None
        self._calls: list[list[Any]] = []

    def _load(self, profiled: bool) -> Any:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._setting.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERF_COUNT": profiled,
        }
        model = self._core.read_model(self._model)
        return self._core.compile_model(model, "CPU", options).create_infer_request()

    def run(self) -> object:
        """Call the network once."""
        return self._request.infer(self._images, share_inputs=True)

    def run_profiled(self) -> object:
        """Call the network once in a second session that takes times."""
        if self._profiled is None:
            self._profiled = self._load(profiled=True)
        result = self._profiled.infer(self._images, share_inputs=True)
        nodes = self._profiled.get_profiling_info()
        self._calls.append([node for node in nodes if node.status == node.Status.EXECUTED])
        return result

    def node_times(self) -> tuple[list[str], np.ndarray]:
        """Return the layer of each node that ran, and ms (calls, nodes)."""
        of = owners(self._model, self._table)
        names = [node.node_name.removesuffix(WITHOUT_BIAS) for node in self._calls[0]]
        times = [[1e3 * node.real_time.total_seconds() for node in call] for call in self._calls]
        return inherited([of.get(name, "") for name in names]), np.array(times)


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
