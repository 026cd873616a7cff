"""Make 8-bit ONNX models: static quantization by ONNX Runtime."""

import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils._pytree import tree_leaves

from prune_gym.graph.layer_table import LayerTable
from prune_gym.profiling.onnx_nodes import owners


class _Feeds:
    """Gives ONNX Runtime its calibration images: one feed a call, None at the end."""

    def __init__(self, names: Sequence[str], batches: Iterable[Any]) -> None:
        self._feeds = (dict(zip(names, tree_leaves(each), strict=True)) for each in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantize_model(
    model: bytes,
    batches: Iterable[np.ndarray | list[np.ndarray]],
    table: LayerTable | None = None,
    float_layers: Collection[str] = (),
) -> bytes:
    """Return an ONNX model whose layers multiply 8-bit whole numbers.

    Weights are signed, of 7 bits, with a scale per output channel; activations unsigned with a
    scale and a zero point each, from their range over the calibration images. What lies between
    layers has the precision of the layer that it reads.

    Args:
        model: in float32, batch-norm folded.
        batches: calibration images, float32 (N, C, H, W) each; or lists of all inputs of the model.
        table: of the network; needed for ``float_layers``.
        float_layers: names of layers that stay float32.

    Raises:
        UserError: the model's nodes are not those of ``table``.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, ready, out = (Path(folder, name) for name in ("a.onnx", "b.onnx", "c.onnx"))
        source.write_bytes(model)
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        graph = onnx.load(str(ready)).graph
        excluded = []
        if table is not None and float_layers:
            of = owners(ready.read_bytes(), table)
            excluded = [node.name for node in graph.node if of.get(node.name) in float_layers]
        quantize_static(
            str(ready),
            str(out),
            _Feeds([each.name for each in graph.input], batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # x86 processors without VNNI add pairs of 8-bit products in 16 bits: with weights of
            # up to 64 instead of 127 no pair saturates.
            reduce_range=True,
            nodes_to_exclude=excluded,
        )
        return out.read_bytes()
