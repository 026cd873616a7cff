"""The runtimes a latency table can be measured with: single layers as they are deployed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prune_gym.network.table import Kind


@dataclass(frozen=True)
class LayerModel:
    """A single layer at certain channel counts; convolutions come with bias and ReLU."""

    kind: Kind
    kernel: tuple[int, int]
    stride: int
    in_size: tuple[int, int]
    inputs: int
    outputs: int

    @property
    def channels_in(self) -> int:
        """Channels of the input tensor."""
        return self.inputs if self.kind in ("conv", "linear") else self.outputs

    def input(self, batch: int) -> np.ndarray:
        """Return a random input, float32."""
        shape = (batch, self.channels_in, *(self.in_size if self.kind != "linear" else ()))
        return np.random.default_rng(0).random(shape, dtype=np.float32)

    def weight(self) -> np.ndarray:
        """Return random weights, float32."""
        shape = (self.outputs, self.inputs, *(self.kernel if self.kind != "linear" else ()))
        return np.random.default_rng(1).random(shape, dtype=np.float32) - 0.5


def _torch_call(model: LayerModel, batch: int, threads: int) -> Callable[[], object]:
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    channels_last = torch.channels_last if model.kind != "linear" else torch.contiguous_format
    x = torch.from_numpy(model.input(batch)).to(memory_format=channels_last)
    if model.kind == "pool":

        def run() -> torch.Tensor:
            return F.max_pool2d(x, model.kernel, model.stride)
    else:
        w = torch.from_numpy(model.weight()).to(memory_format=channels_last)
        b = torch.zeros(model.outputs)
        groups = model.outputs if model.kind == "depthwise" else 1
        padding = (model.kernel[0] // 2, model.kernel[1] // 2)

        def run() -> torch.Tensor:
            if model.kind == "linear":
                return F.linear(x, w, b)
            return F.conv2d(x, w, b, model.stride, padding, groups=groups).relu_()

    return torch.inference_mode()(run)


def _onnxruntime_call(model: LayerModel, batch: int, threads: int) -> Callable[[], object]:
    try:
        import onnx
        import onnxruntime
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise ImportError(
            f"the runtime onnxruntime needs an extra ({error}): pip install 'prune-gym[onnx]', or "
            "take --runtime torch"
        ) from None

    nodes, weights = _onnx_nodes(model)
    shape = model.input(batch).shape
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    x = {"x": model.input(batch)}
    return lambda: session.run(None, x)


def _onnx_nodes(model: LayerModel) -> tuple[list, dict[str, np.ndarray]]:
    from onnx import helper

    kernel = list(model.kernel)
    if model.kind == "pool":
        strides = [model.stride] * 2
        pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=kernel, strides=strides)
        return [pool], {}
    weights = {"w": model.weight(), "b": np.zeros(model.outputs, np.float32)}
    if model.kind == "linear":
        return [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], weights
    conv = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["c"],
        kernel_shape=kernel,
        strides=[model.stride] * 2,
        pads=[kernel[0] // 2, kernel[1] // 2] * 2,
        group=model.outputs if model.kind == "depthwise" else 1,
    )
    return [conv, helper.make_node("Relu", ["c"], ["y"])], weights


def _torch_version() -> str:
    import torch

    return torch.__version__


def _onnxruntime_version() -> str:
    import onnxruntime

    return onnxruntime.__version__


# name -> (build a call that runs a layer once, version)
RUNTIMES: dict[
    str, tuple[Callable[[LayerModel, int, int], Callable[[], object]], Callable[[], str]]
] = {
    "onnxruntime": (_onnxruntime_call, _onnxruntime_version),
    "torch": (_torch_call, _torch_version),
}
