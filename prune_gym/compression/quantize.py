"""Post-training quantisation: uniform, symmetric, 1 to 8 bits.

Weights have a scale per output channel, activations (a layer's input) one per layer, calibrated on
training images. Whole numbers up to 8 bits are exact in bfloat16, so a quantised layer multiplies
whole numbers in whichever precision the network is scored in, and scales the result in float32.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prune_gym.compression.precision import fast_forward
from prune_gym.compression.surgery import replace_module
from prune_gym.graph.configuration import FLOAT_BITS
from prune_gym.graph.layer_table import LayerTable

CALIBRATION_IMAGES = 64
SAMPLES = 16_384  # numbers that an activation's range is chosen on
ROW_SAMPLES = 256  # numbers that an output channel's range is chosen on
CLIPS = torch.linspace(0.2, 1.0, 17)  # shares of the largest number, tried as the range


class QuantizedLayer(nn.Module):
    """A convolution or linear layer on whole numbers.

    Attributes:
        weight: whole numbers, or the layer's own weights where those stay float.
        bias: float32 (outputs,), or None.
        scale: what 1 in ``weight`` stands for, float32 (outputs,); None where weights stay float.
        step: what 1 in a quantised input stands for, float32 (); negative for a signed input, 0
            where the input stays float.
        weight_bits: bits of the weights.
        activation_bits: bits of the input.
    """

    weight: nn.Parameter
    bias: torch.Tensor | None
    scale: torch.Tensor | None
    step: torch.Tensor

    def __init__(
        self, layer: nn.Conv2d | nn.Linear, weight_bits: int, activation_bits: int
    ) -> None:
        """Take the weights of ``layer``; the input stays float until ``step`` is set."""
        super().__init__()
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self._conv = isinstance(layer, nn.Conv2d)
        self._how: tuple[Any, ...] = ()
        self._mode, self._around = "zeros", list[int]()  # of padding that is not zeros
        if isinstance(layer, nn.Conv2d):
            self._how = (layer.stride, layer.padding, layer.dilation, layer.groups)
            self._mode, self._around = layer.padding_mode, layer._reversed_padding_repeated_twice
        weight, scale = layer.weight.detach(), None
        if weight_bits < FLOAT_BITS:
            weight, scale = quantise_weight(weight, weight_bits)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())
        self.register_buffer("scale", scale)
        self.register_buffer("step", torch.zeros(()))

    def _apply(self, fn, recurse=True):
        """Convert the weights alone: scales and biases stay float32."""
        exact = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, tensor in exact.items():
            self._buffers[name] = tensor if tensor is None else tensor.to(self.weight.device)
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, in the type of ``x``."""
        step, dtype = float(self.step), x.dtype
        if step:
            x = whole_numbers(x.float(), step, self.activation_bits).to(dtype)
        y = self._convolved(x) if self._conv else F.linear(x, self.weight)
        shape = (-1, 1, 1) if self._conv else (-1,)
        unit = abs(step) or 1.0
        y = y.float().mul_(unit if self.scale is None else (self.scale * unit).view(shape))
        return (y if self.bias is None else y.add_(self.bias.view(shape))).to(dtype)

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        stride, padding, *rest = self._how
        if self._mode != "zeros":
            x, padding = F.pad(x, self._around, mode=self._mode), 0
        return F.conv2d(x, self.weight, None, stride, padding, *rest)

    def as_float(self) -> nn.Conv2d | nn.Linear:
        """Return the layer in float32: the same weights, its input as it comes."""
        outputs, inputs = self.weight.shape[:2]
        layer: nn.Conv2d | nn.Linear
        if self._conv:
            kernel = (self.weight.shape[2], self.weight.shape[3])
            more: tuple[Any, ...] = (*self._how, False, self._mode)  # False: no bias yet
            layer = nn.Conv2d(inputs * self._how[-1], outputs, kernel, *more)
        else:
            layer = nn.Linear(inputs, outputs)
        weight = self.weight.detach().float()
        if self.scale is not None:
            weight = weight * self.scale.view(-1, *(1,) * (weight.ndim - 1))
        layer.weight = nn.Parameter(weight)
        layer.bias = None if self.bias is None else nn.Parameter(self.bias.float())
        return layer


def whole_numbers(x: torch.Tensor, step: float, bits: int) -> torch.Tensor:
    """Quantise float32 ``x`` (any shape), signed where ``step`` < 0; 1 bit, signed: -1 or 1."""
    if step < 0 and bits == 1:
        return torch.where(x >= 0, 1.0, -1.0)
    high = 2 ** (bits - 1) - 1 if step < 0 else 2**bits - 1
    return (x / abs(step)).round_().clamp_(-high if step < 0 else 0, high)


def quantise_weight(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return whole numbers (outputs, ...) and scales (outputs,); zeros stay zeros.

    1 bit: the sign times the mean magnitude of what is not zero. More: the range with the least
    squared error out of :data:`CLIPS`.
    """
    rows = weight.flatten(1)
    if bits == 1:
        scale = rows.abs().sum(1) / (rows != 0).sum(1).clamp_min(1)
        return weight.sign(), scale
    high = 2 ** (bits - 1) - 1
    largest = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny * 2**20)
    sample = rows[:, :: max(rows.shape[1] // ROW_SAMPLES, 1)]
    scale = _best_step(sample, largest / high, -high, high)
    whole = (rows / scale[:, None]).round_().clamp_(-high, high)
    return whole.view_as(weight).contiguous(memory_format=_layout(weight)), scale


def _layout(weight: torch.Tensor) -> torch.memory_format:
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _best_step(rows: torch.Tensor, widest: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Return the step of least squared error per row: (rows, n), (rows,) -> (rows,)."""
    least, best = torch.full_like(widest, torch.inf), widest
    for clip in CLIPS:
        step = widest * clip
        whole = (rows / step[:, None]).round_().clamp_(low, high)
        error = whole.mul_(step[:, None]).sub_(rows).square_().sum(1)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return best


def activation_step(x: torch.Tensor, bits: int) -> float:
    """Return the step for inputs like ``x``, negative where they have a sign (any shape)."""
    flat = x.float().flatten()
    flat = flat[:: max(flat.numel() // SAMPLES, 1)]
    signed = bool((x < 0).any())
    if signed and bits == 1:
        return -max(float(flat.abs().mean()), torch.finfo(torch.float32).tiny)
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    widest = x.abs().max().float().clamp_min(1e-30) / high
    step = float(_best_step(flat[None], widest[None], -high if signed else 0, high))
    return -step if signed else step


@torch.no_grad()
def quantize(
    network: nn.Module,
    table: LayerTable,
    weight_bits: np.ndarray,
    activation_bits: np.ndarray,
    images: torch.Tensor,
    kept: np.ndarray | None = None,
) -> nn.Module:
    """Quantise the layers with weights in place, as they are deployed, and return ``network``.

    Args:
        network: a candidate with batch-norm folded, in eval mode, float32.
        table: the original network's layer table.
        weight_bits: 1 to 8, or 32 for float, per layer with weights, ``int (layers,)``.
        activation_bits: the same of each layer's input, ``int (layers,)``.
        images: normalized training images (N, C, H, W); the first 64 set the ranges.
        kept: how many weights each layer keeps (:meth:`LayerTable.nonzeros`), ``(layers,)``; None:
            those that are not 0.
    """
    if kept is None:
        kept = np.zeros(len(table.weighted))
    modules = dict(network.named_modules())
    inexact: dict[str, QuantizedLayer] = {}
    layers = zip(table.weighted, weight_bits, activation_bits, kept, strict=True)
    for index, weights, inputs, stay in layers:
        name = table.layers[index].name
        if name in modules and min(weights, inputs) < FLOAT_BITS:  # else in a skipped block
            if weights == 1:
                weight = modules[name].get_parameter("weight")
                _leave_no_zero(weight, int(stay), int(table.mask_sizes(np.array(len(weight)))))
            quantized = QuantizedLayer(modules[name], int(weights), int(inputs))  # type: ignore[arg-type]
            replace_module(network, name, quantized)
            if inputs < FLOAT_BITS:
                inexact[name] = quantized
    if inexact:
        _calibrate(network, list(inexact.values()), images[:CALIBRATION_IMAGES])
    return network


def _leave_no_zero(weight: torch.Tensor, kept: int, together: int) -> None:
    """Make kept weights that happen to be 0 the least above it, in place: a sign has no zero.

    Of masks that are all 0 the first ones are those that stay, as the encoder has it.

    Args:
        weight: of one layer, (outputs, ...).
        kept: how many weights stay.
        together: output channels that share a mask.
    """
    stored = (weight.flatten(1).unflatten(0, (-1, together)) != 0).any(1)  # (masks' rows, columns)
    first = torch.argsort(~stored.flatten(), stable=True)[: kept // together]
    stored.view(-1)[first] = True
    stays = stored.repeat_interleave(together, 0).view(weight.shape)
    weight.masked_fill_(stays & (weight == 0), torch.finfo(weight.dtype).tiny)


def _calibrate(network: nn.Module, layers: list[QuantizedLayer], images: torch.Tensor) -> None:
    """Set the steps in one pass: each layer's once the layers before it are quantised."""

    def set_step(layer: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        assert isinstance(layer, QuantizedLayer)
        layer.step.fill_(activation_step(inputs[0], layer.activation_bits))

    handles = [layer.register_forward_pre_hook(set_step) for layer in layers]  # type: ignore[arg-type]
    try:
        with fast_forward():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
