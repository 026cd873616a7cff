"""Make 8-bit ONNX models: static quantization by ONNX Runtime, calibrated on training images."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prune_gym.datasets import AnyData
from prune_gym.datasets.normalize import normalize

IMAGES, BATCH = 512, 64


class _TrainingImages:
    """Gives ONNX Runtime its calibration images: one feed a call, None at the end."""

    def __init__(self, data: AnyData, name: str) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = (
            {name: normalize(images, data).contiguous().numpy()}
            for images in np.array_split(_evenly(data.train.images), IMAGES // BATCH)
            if len(images)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _evenly(images: np.ndarray) -> np.ndarray:
    return images[:: max(len(images) // IMAGES, 1)][:IMAGES]


def quantize_onnx(model: bytes, data: AnyData, name: str) -> bytes:
    """Return an ONNX model whose layers multiply 8-bit whole numbers.

    Weights are signed, of 7 bits, with a scale per output channel; activations unsigned with a
    scale and a zero point each, from their range over 512 training images.

    Args:
        model: in float32, batch-norm folded.
        data: whose training images calibrate.
        name: of the model's input.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, ready, out = (Path(folder, name) for name in ("a.onnx", "b.onnx", "c.onnx"))
        source.write_bytes(model)
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(out),
            _TrainingImages(data, name),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # x86 processors without VNNI add pairs of 8-bit products in 16 bits: with weights of
            # up to 64 instead of 127 no pair saturates.
            reduce_range=True,
        )
        return out.read_bytes()
