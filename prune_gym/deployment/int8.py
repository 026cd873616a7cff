"""Make 8-bit ONNX models, calibrated on training images."""

from collections.abc import Iterator

import numpy as np
from torch import nn

from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.deployable import Deployable, folded
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.inputs import ordered
from prune_gym.graph.trace import trace
from prune_gym.profiling.onnx_int8 import quantize_model

IMAGES, BATCH = 512, 64


def quantize_onnx(model: bytes, given: Deployable) -> bytes:
    """Return the ONNX model of a network whose layers multiply 8-bit whole numbers.

    It is calibrated on 512 training images. Where the network's strategy says bits, layers without
    bits of weights stay float32.

    Args:
        model: in float32, batch-norm folded.
        given: the network that it was exported from, and its data.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
    """
    if not given.quantized:
        return quantize_model(model, _batches(given))
    table = trace(folded(given.network, given.input_shape), given.input_shape)
    names = [table.layers[index].name for index in table.weighted]
    floats = [name for name in names if not _has_bits(given.network.get_submodule(name))]
    return quantize_model(model, _batches(given), table, floats)


def _has_bits(module: nn.Module) -> bool:
    return isinstance(module, QuantizedLayer) and module.weight_bits < FLOAT_BITS


def _batches(given: Deployable) -> Iterator[list[np.ndarray]]:
    data = given.data
    evenly = data.train.images[:: max(len(data.train.images) // IMAGES, 1)][:IMAGES]
    for rows in np.array_split(np.arange(len(evenly)), IMAGES // BATCH):
        if len(rows):
            inputs = ordered(given.network, normalize(evenly[rows], data))
            yield [each.contiguous().numpy() for each in inputs]
