"""Deployed networks as bytes, one encoder per coding scheme, and back.

The bytes hold weights, biases, scales, and where the weights are that were not pruned. Shapes,
densities and bits are those of the strategy, which is kept beside it, so the length is exactly
what `prune_gym.costs.size.Size` says.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.costs.size import place_bits, rice, value_bits
from prune_gym.errors import UserError
from prune_gym.graph.configuration import FLOAT_BITS, Configuration
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm
from prune_gym.graph.skipped import running_modules


@dataclass(frozen=True)
class _Shape:
    """What encoder and decoder both know of one layer: its matrix of masks and its bits."""

    name: str
    rows: int
    columns: int
    size: int  # output channels that share a mask
    kept: int
    bits: int

    @property
    def masks(self) -> int:
        return self.rows * self.columns


def _shapes(table: LayerTable, configuration: Configuration) -> Iterator[_Shape]:
    """Yield the shapes of the layers with weights that run, for one strategy."""
    rows, columns = table.weight_shapes(configuration.widths)
    sizes, weights = table.mask_sizes(rows), table.nonzeros(configuration)
    for at, index in enumerate(table.weighted):
        size, bits = int(sizes[0, at]), configuration.weight_bits
        if weights[0, at] > 0:
            yield _Shape(
                table.layers[index].name,
                int(rows[0, at]) // size,
                int(columns[0, at]),
                size,
                int(weights[0, at]) // size,
                FLOAT_BITS if bits is None else int(bits[0, at]),
            )


def encode(
    network: nn.Module, table: LayerTable, configuration: Configuration, coding: str
) -> bytes:
    """Return a deployed candidate as bytes.

    Args:
        network: batch-norm folded, pruned and quantized as ``configuration`` says.
        table: the original network's layer table.
        configuration: one strategy.
        coding: one of `prune_gym.costs.size.CODINGS`.
    """
    parts = []
    for shape in _shapes(table, configuration):
        module = network.get_submodule(shape.name)
        weight = module.get_parameter("weight").detach().numpy()
        rows = weight.reshape(shape.rows, shape.size, shape.columns)
        masks = rows.transpose(0, 2, 1).reshape(shape.masks, shape.size)
        if coding == "dense":
            parts.append(_pack_values(masks, _stored_bits(shape, coding)))
        else:
            at = _kept(masks, shape.kept)
            parts.append(_pack_values(masks[at], shape.bits))
            parts.append(np.packbits(_places(at, shape, coding)).tobytes())
        parts += [tensor.numpy().tobytes() for tensor in _vectors(module)]
    parts += [tensor.numpy().tobytes() for tensor in _between(network, table)]
    return b"".join(parts)


def decode(
    payload: bytes, network: nn.Module, table: LayerTable, configuration: Configuration, coding: str
) -> nn.Module:
    """Fill ``network``, a candidate of the same strategy, with what was encoded; return it.

    Raises:
        UserError: the payload has another length than this strategy's.
    """
    reader = _Reader(payload)
    for shape in _shapes(table, configuration):
        module = network.get_submodule(shape.name)
        masks = np.zeros((shape.masks, shape.size), dtype=np.float32)
        if coding == "dense":
            masks[:] = reader.values(masks.size, _stored_bits(shape, coding)).reshape(masks.shape)
        else:
            values = reader.values(shape.kept * shape.size, shape.bits)
            masks[_find(reader, shape, coding)] = values.reshape(-1, shape.size)
        weight = masks.reshape(shape.rows, shape.columns, shape.size).transpose(0, 2, 1)
        target = module.get_parameter("weight")
        target.data = torch.tensor(weight.reshape(target.shape))
        for tensor in _vectors(module):
            tensor.copy_(reader.floats(tensor))
    for tensor in _between(network, table):
        tensor.copy_(reader.floats(tensor))
    reader.close()
    return network


def _stored_bits(shape: _Shape, coding: str) -> int:
    kept, masks = np.float64(shape.kept), np.float64(shape.masks)
    return int(value_bits(coding, np.float64(shape.bits), kept, masks))


def _vectors(module: nn.Module) -> list[torch.Tensor]:
    """Return the float32 tensors of a layer beside its weight."""
    tensors = [getattr(module, name, None) for name in ("bias", "weight_scale")]
    if isinstance(module, QuantizedLayer) and module.activation_bits < FLOAT_BITS:
        tensors.append(module.input_scale)
    return [tensor.detach() for tensor in tensors if tensor is not None]


def _between(network: nn.Module, table: LayerTable) -> list[torch.Tensor]:
    """Return the float32 tensors of what stands between the layers with weights.

    They are of batch-norms that no layer could take in, group-norms and PReLUs; skipped blocks
    have none.
    """
    modules = running_modules(network)
    found = [modules.get(layer.name) for layer in table.layers if not layer.has_weight]
    stored = [each for each in found if isinstance(each, BatchNorm | nn.GroupNorm | nn.PReLU)]
    return [x for each in stored for x in each.state_dict().values() if x.is_floating_point()]


def _kept(masks: np.ndarray, count: int) -> np.ndarray:
    """Return which ``count`` masks are stored, ascending: all that are not zero, and then some.

    Quantization sets small weights to zero too; which zero masks make up the number is arbitrary.
    """
    zero = ~masks.any(axis=1)
    return np.sort(np.argsort(zero, kind="stable")[:count])


def _pack_values(values: np.ndarray, bits: int) -> bytes:
    """Pack values: raw float32, a sign, or whole numbers from -(2^(b-1) - 1) up."""
    if bits == FLOAT_BITS:
        return np.ascontiguousarray(values, dtype="<f4").tobytes()
    codes = values.ravel() > 0 if bits == 1 else values.ravel() + (2 ** (bits - 1) - 1)
    return np.packbits(_to_bits(codes.astype(np.uint8), bits)).tobytes()


def _to_bits(numbers: np.ndarray, width: int) -> np.ndarray:
    """Return the ``width`` lowest bits of each number, (n * width,) of 0 and 1."""
    bits = (numbers[:, None] >> np.arange(width, dtype=numbers.dtype)) & 1
    return bits.astype(np.uint8).ravel()


def _from_bits(bits: np.ndarray, count: int) -> np.ndarray:
    """Invert `_to_bits`, int64 (count,)."""
    width = len(bits) // count
    return bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width))


def _places(at: np.ndarray, shape: _Shape, coding: str) -> np.ndarray:
    """Return the bits that say where the kept masks are."""
    if coding == "coo":
        row, column = np.divmod(at, shape.columns)
        widths = _coordinate_bits(shape)
        return np.concatenate([_to_bits(row, widths[0]), _to_bits(column, widths[1])])
    length, low = _rice(shape)
    if length == 0:
        return np.zeros(0, dtype=np.uint8)
    gaps = np.diff(at, prepend=-1) - 1
    unary = np.zeros(length - low * shape.kept, dtype=np.uint8)
    unary[np.cumsum(gaps >> low) + np.arange(shape.kept)] = 1
    return np.concatenate([unary, _to_bits(gaps, low)])


def _find(reader: "_Reader", shape: _Shape, coding: str) -> np.ndarray:
    """Read where the kept masks are, ascending."""
    if coding == "coo":
        widths = _coordinate_bits(shape)
        bits = reader.bits(shape.kept * sum(widths))
        row, column = (
            _from_bits(part, shape.kept) for part in np.split(bits, [shape.kept * widths[0]])
        )
        return row * shape.columns + column
    length, low = _rice(shape)
    if length == 0:
        return np.arange(shape.kept)
    bits = reader.bits(length)
    unary, rest = np.split(bits, [length - low * shape.kept])
    high = np.diff(np.flatnonzero(unary)[: shape.kept], prepend=-1) - 1
    gaps = (high << low) + _from_bits(rest, shape.kept)
    return np.cumsum(gaps + 1) - 1


def _coordinate_bits(shape: _Shape) -> tuple[int, int]:
    return (shape.rows - 1).bit_length(), (shape.columns - 1).bit_length()


def _rice(shape: _Shape) -> tuple[int, int]:
    """Return the length of the code of a layer's places and its low bits."""
    kept, masks = np.float64(shape.kept), np.float64(shape.masks)
    length = place_bits("csr", kept, masks, np.float64(shape.rows), np.float64(shape.columns))
    return int(length), int(rice(kept, masks)[1])


class _Reader:
    """Takes sections off a payload, each from a whole byte on."""

    def __init__(self, payload: bytes) -> None:
        self._bytes, self._at = np.frombuffer(payload, dtype=np.uint8), 0

    def _take(self, count: int) -> np.ndarray:
        taken = self._bytes[self._at : self._at + count]
        if len(taken) < count:
            raise UserError(f"expected at least {self._at + count} bytes, got {len(self._bytes)}")
        self._at += count
        return taken

    def bits(self, count: int) -> np.ndarray:
        """Return the next section of ``count`` bits."""
        return np.unpackbits(self._take(-(-count // 8)))[:count]

    def values(self, count: int, bits: int) -> np.ndarray:
        """Return the next section of ``count`` values, float32."""
        if bits == FLOAT_BITS:
            return self._take(4 * count).view("<f4")
        codes = _from_bits(self.bits(count * bits), count)
        whole = 2 * codes - 1 if bits == 1 else codes - (2 ** (bits - 1) - 1)
        return whole.astype(np.float32)

    def floats(self, like: torch.Tensor) -> torch.Tensor:
        """Return the next float32 tensor of the shape of ``like``."""
        return torch.tensor(self._take(4 * like.numel()).view("<f4")).view_as(like)

    def close(self) -> None:
        """Raise ``ValueError`` where something is left."""
        if self._at != len(self._bytes):
            raise UserError(f"expected {self._at} bytes, got {len(self._bytes)}")
