"""Quantize a trained network: uniform, symmetric, 1 to 8 bits.

Weights have one scale per output channel. Activations (the input of a layer) have one scale per
layer, which is calibrated on training images. Integers of up to 8 bits are exact in bfloat16, so a
quantized layer multiplies integers in the precision that the network is scored in, and scales the
result in float32.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prune_gym._utils.device import device_of, fast_forward, outside_contexts
from prune_gym.compression.surgery import replace_module
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.inputs import Tensors, feed
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import Convolution
from prune_gym.graph.skipped import running_modules

CALIBRATION_IMAGES = 64
ACTIVATION_SAMPLES = 16_384  # values on which the range of an activation is chosen
WEIGHT_SAMPLES = 256  # values on which the range of an output channel is chosen
# Candidate ranges, as shares of the largest value.
CLIP_RATIOS = torch.linspace(0.2, 1.0, 17, dtype=torch.float32)


class QuantizedLayer(nn.Module):
    """A convolution or linear layer that multiplies integers.

    Attributes:
        weight: integers, or the original weights where those stay float.
        bias: float32 (outputs,), or None.
        weight_scale: real value of the integer 1 in ``weight``, float32 (outputs,); None where the
            weights stay float.
        input_scale: real value of the integer 1 in a quantized input, float32 (); negative for a
            signed input, 0 where the input stays float.
        weight_bits: bits of the weights.
        activation_bits: bits of the input.
    """

    weight: nn.Parameter
    bias: torch.Tensor | None
    weight_scale: torch.Tensor | None
    input_scale: torch.Tensor

    def __init__(
        self, layer: Convolution | nn.Linear, weight_bits: int, activation_bits: int
    ) -> None:
        """Quantize the weights of ``layer``; the input stays float until its scale is set."""
        super().__init__()
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self._conv = isinstance(layer, Convolution)
        self._conv_args: tuple[Any, ...] = ()
        self._padding_mode, self._padding = "zeros", list[int]()  # for other modes than zeros
        if isinstance(layer, Convolution):
            self._conv_args = (layer.stride, layer.padding, layer.dilation, layer.groups)
            self._padding_mode, self._padding = (
                layer.padding_mode,
                layer._reversed_padding_repeated_twice,
            )
        weight, scale = layer.weight.detach(), None
        if weight_bits < FLOAT_BITS:
            weight, scale = quantize_weight(weight, weight_bits)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self.register_buffer("weight_scale", scale)
        self.register_buffer(
            "input_scale", torch.zeros((), dtype=torch.float32, device=weight.device)
        )

    def _apply(self, fn, recurse=True):
        """Convert the weights only: scales and biases stay float32."""
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, tensor in exact.items():
            self._buffers[name] = tensor if tensor is None else tensor.to(self.weight.device)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, in the type of ``x``."""
        input_scale, dtype = float(self.input_scale), x.dtype
        if input_scale:
            x = quantize_to_int(x.float(), input_scale, self.activation_bits).to(dtype)
        y = self._convolve(x) if self._conv else F.linear(x, self.weight)
        shape = (-1, *(1,) * (self.weight.ndim - 2))
        unit = abs(input_scale) or 1.0
        weight_scale = self.weight_scale
        y = y.float().mul_(unit if weight_scale is None else (weight_scale * unit).view(shape))
        return (y if self.bias is None else y.add_(self.bias.view(shape))).to(dtype)

    def _convolve(self, x: torch.Tensor) -> torch.Tensor:
        stride, padding, *rest = self._conv_args
        if self._padding_mode != "zeros":
            x, padding = F.pad(x, self._padding, mode=self._padding_mode), 0
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.weight.ndim - 3]
        return convolve(x, self.weight, None, stride, padding, *rest)

    def as_float(self) -> Convolution | nn.Linear:
        """Return the layer in float32, with the same weights and an input that is not quantized."""
        outputs, inputs = self.weight.shape[:2]
        layer: Convolution | nn.Linear
        if self._conv:
            kernel: Any = tuple(self.weight.shape[2:])
            kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(kernel) - 1]
            more: tuple[Any, ...] = (
                *self._conv_args,
                False,
                self._padding_mode,
            )  # False: no bias yet
            layer = kind(inputs * self._conv_args[-1], outputs, kernel, *more)
        else:
            layer = nn.Linear(inputs, outputs)
        weight = self.weight.detach().float()
        if self.weight_scale is not None:
            weight = weight * self.weight_scale.view(-1, *(1,) * (weight.ndim - 1))
        layer.weight = nn.Parameter(weight)
        layer.bias = None if self.bias is None else nn.Parameter(self.bias.float())
        return layer


def quantize_to_int(x: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    """Return float32 ``x`` (any shape) as integers, signed where ``scale`` < 0.

    One signed bit gives -1 or 1.
    """
    if scale < 0 and bits == 1:
        return torch.where(x >= 0, 1.0, -1.0)
    high = 2 ** (bits - 1) - 1 if scale < 0 else 2**bits - 1
    return (x / abs(scale)).round_().clamp_(-high if scale < 0 else 0, high)


def quantize_weight(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return integers (outputs, ...) and scales (outputs,); zeros stay zeros.

    One bit: the sign, times the mean magnitude of the weights that are not zero. More bits: the
    range out of `CLIP_RATIOS` with the least squared error.
    """
    rows = weight.flatten(1)
    if bits == 1:
        scale = rows.abs().sum(1) / (rows != 0).sum(1).clamp_min(1)
        return weight.sign(), scale
    high = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny * 2**20)
    sample = rows[:, :: max(rows.shape[1] // WEIGHT_SAMPLES, 1)]
    scale = _best_scale(sample, largest / high, -high, high)
    codes = (rows / scale[:, None]).round_().clamp_(-high, high)
    return codes.view_as(weight).contiguous(memory_format=_layout(weight)), scale


def _layout(weight: torch.Tensor) -> torch.memory_format:
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _best_scale(rows: torch.Tensor, widest: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Return the scale of least squared error per row: (rows, n), (rows,) -> (rows,)."""
    least, best = torch.full_like(widest, torch.inf), widest
    for ratio in CLIP_RATIOS:
        scale = widest * ratio
        codes = (rows / scale[:, None]).round_().clamp_(low, high)
        error = codes.mul_(scale[:, None]).sub_(rows).square_().sum(1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


def activation_scale(x: torch.Tensor, bits: int) -> float:
    """Return the scale for inputs such as ``x`` (any shape), negative where they are signed."""
    flat = x.float().flatten()
    flat = flat[:: max(flat.numel() // ACTIVATION_SAMPLES, 1)]
    signed = bool((x < 0).any())
    if signed and bits == 1:
        return -max(float(flat.abs().mean()), torch.finfo(torch.float32).tiny)
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    widest = x.abs().max().float().clamp_min(1e-30) / high
    scale = float(_best_scale(flat[None], widest[None], -high if signed else 0, high))
    return -scale if signed else scale


@outside_contexts
@torch.no_grad()
def quantize(
    network: nn.Module,
    table: LayerTable,
    weight_bits: np.ndarray,
    activation_bits: np.ndarray,
    images: Tensors,
    num_nonzero: np.ndarray | None = None,
) -> nn.Module:
    """Quantize the layers with weights in place, as they are deployed, and return ``network``.

    Args:
        network: a candidate with batch-norm folded, in eval mode, float32.
        table: the original network's layer table.
        weight_bits: 1 to 8, or 32 for float, per layer with weights, ``int (layers,)``.
        activation_bits: 1 to 8, or 32 for float, for the input of each layer, ``int (layers,)``.
        images: normalized training images (N, C, H, W); the first 64 set the input scales.
        num_nonzero: how many weights each layer keeps (`LayerTable.nonzeros`),
            ``(layers,)``; None: those that are not 0.
    """
    if num_nonzero is None:
        num_nonzero = np.zeros(len(table.weighted))
    modules = running_modules(network)
    layers_to_calibrate: list[QuantizedLayer] = []
    layers = zip(table.weighted, weight_bits, activation_bits, num_nonzero, strict=True)
    for index, weights, inputs, count in layers:
        name = table.layers[index].name
        if name in modules and min(weights, inputs) < FLOAT_BITS:  # else in a skipped block
            if weights == 1:
                weight = modules[name].get_parameter("weight")
                _avoid_zero_codes(weight, int(count), int(table.mask_sizes(np.array(len(weight)))))
            quantized = QuantizedLayer(cast(Any, modules[name]), int(weights), int(inputs))
            replace_module(network, name, quantized)
            if inputs < FLOAT_BITS:
                layers_to_calibrate.append(quantized)
    if layers_to_calibrate:
        some = images[:CALIBRATION_IMAGES].to(device_of(network))
        _set_input_scales(network, layers_to_calibrate, some)
    return network


def _avoid_zero_codes(weight: torch.Tensor, num_nonzero: int, block_size: int) -> None:
    """Replace kept weights that happen to be 0 by the smallest positive number, in place.

    One bit stores a sign, and a sign has no zero. Where a whole mask is 0, the first such masks
    count as kept, as in the encoder.

    Args:
        weight: weights of one layer, (outputs, ...).
        num_nonzero: how many weights are kept.
        block_size: output channels that share a mask.
    """
    stored = (weight.flatten(1).unflatten(0, (-1, block_size)) != 0).any(1)  # (mask rows, columns)
    first = torch.argsort(~stored.flatten(), stable=True)[: num_nonzero // block_size]
    stored.view(-1)[first] = True
    kept = stored.repeat_interleave(block_size, 0).view(weight.shape)
    weight.masked_fill_(kept & (weight == 0), torch.finfo(weight.dtype).tiny)


def _set_input_scales(network: nn.Module, layers: list[QuantizedLayer], images: Tensors) -> None:
    """Calibrate the input scales in one pass, each layer behind layers that are quantized."""
    before: dict[nn.Module, torch.Tensor] = {}  # some inputs of its calls

    def set_scale(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert isinstance(layer, QuantizedLayer)
        values = inputs[0].flatten()
        if layer in before:  # it runs several times
            values = torch.cat([before[layer], values])
        layer.input_scale.fill_(activation_scale(values, layer.activation_bits))
        before[layer] = values[:: max(len(values) // ACTIVATION_SAMPLES, 1)]

    handles = [layer.register_forward_pre_hook(cast(Any, set_scale)) for layer in layers]
    try:
        with fast_forward(images.device):
            feed(network, images)
    finally:
        for handle in handles:
            handle.remove()
