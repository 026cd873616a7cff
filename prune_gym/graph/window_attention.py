"""torchvision's attention in windows (Swin, and Swin V2) in a form whose heads can be cut.

Its own code computes the width of a head from the width of the tokens, so it cannot have fewer
heads of the same width, and it gives weights to functions in place of calling its layers.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

PARAMETERS = {f"{layer}.{kind}" for layer in ("qkv", "proj") for kind in ("weight", "bias")}
TABLE = {"relative_position_bias_table"}
COSINE = {"logit_scale", "cpb_mlp.0.weight", "cpb_mlp.0.bias", "cpb_mlp.2.weight"}
NUMBERS = ("window_size", "shift_size", "num_heads", "attention_dropout", "dropout")


class CuttableWindowAttention(nn.Module):
    """Computes what torchvision's ``ShiftedWindowAttention`` does, with any number of heads.

    The keys of its state dict are the same. Liu et al., "Swin Transformer", 2021, section 3.2.
    """

    relative_position_index: torch.Tensor

    def __init__(self, original: Any) -> None:
        """Take over the layers, the parameters and the buffers of ``original``."""
        super().__init__()
        self.qkv, self.proj = original.qkv, original.proj
        self._take_parameters(original)
        self.register_buffer("relative_position_index", original.relative_position_index)
        self.window_size, self.shift_size = tuple(original.window_size), tuple(original.shift_size)
        self.attention_dropout, self.dropout = original.attention_dropout, original.dropout
        self.head_dim = original.proj.in_features // original.num_heads
        self.train(original.training)

    def _take_parameters(self, original: Any) -> None:
        self.relative_position_bias_table = original.relative_position_bias_table

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tokens (N, height, width, channels), each with what it finds in its window."""
        height, width = int(x.shape[1]), int(x.shape[2])
        window = self.window_size
        x = F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
        size = height + -height % window[0], width + -width % window[1]
        shift = [
            0 if each >= whole else step
            for each, whole, step in zip(window, size, self.shift_size, strict=True)
        ]
        rows, columns = size[0] // window[0], size[1] // window[1]
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        x = x.unflatten(1, (rows, window[0])).unflatten(3, (columns, window[1])).transpose(2, 3)
        x = x.flatten(3, 4).flatten(0, 2)  # (windows of all images, tokens, channels)
        qkv = self.qkv(x).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = self._scores(q, k) + self._position_bias()
        if any(shift):
            mask = _mask(size, window, shift).to(x.device, x.dtype)
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        attention = F.dropout(scores.softmax(-1), self.attention_dropout, self.training)
        x = self.proj((attention @ v).transpose(1, 2).flatten(2))
        x = F.dropout(x, self.dropout, self.training)
        x = x.unflatten(0, (-1, rows, columns)).unflatten(3, (window[0], window[1]))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if any(shift):
            x = torch.roll(x, (shift[0], shift[1]), (1, 2))
        return x[:, :height, :width].contiguous()

    def unread_bias(self) -> torch.Tensor:
        """Return numbers of the original that it does not read; they must be 0 here."""
        return torch.zeros(0)

    def _scores(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Return how well tokens fit together, (windows, heads, tokens, tokens)."""
        return q * self.head_dim**-0.5 @ k.transpose(-2, -1)

    def _bias_by_place(self) -> torch.Tensor:
        """Return what is added to the scores for each relative position, (positions, heads)."""
        return self.relative_position_bias_table

    def _position_bias(self) -> torch.Tensor:
        """Return what is added to the scores of each head, (1, heads, tokens, tokens)."""
        tokens = self.window_size[0] * self.window_size[1]
        bias = self._bias_by_place()[self.relative_position_index]
        return bias.view(tokens, tokens, -1).permute(2, 0, 1).contiguous().unsqueeze(0)


class CuttableCosineAttention(CuttableWindowAttention):
    """Computes what torchvision's ``ShiftedWindowAttentionV2`` does, with any number of heads.

    The original sets the bias of the keys to 0 in each forward; here it is 0 from the start. Liu
    et al., "Swin Transformer V2", 2022, section 3.2.
    """

    def _take_parameters(self, original: Any) -> None:
        self.logit_scale, self.cpb_mlp = original.logit_scale, original.cpb_mlp
        self.register_buffer("relative_coords_table", original.relative_coords_table)

    def unread_bias(self) -> torch.Tensor:
        """Return the biases of the keys."""
        return super().unread_bias() if self.qkv.bias is None else self.qkv.bias.chunk(3)[1]

    def _scores(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        return cosines * self.logit_scale.clamp(max=math.log(100.0)).exp()

    def _bias_by_place(self) -> torch.Tensor:
        return self.cpb_mlp(self.relative_coords_table).flatten(0, 2)

    def _position_bias(self) -> torch.Tensor:
        return 16 * super()._position_bias().sigmoid()


def _mask(size: tuple[int, int], window: tuple[int, ...], shift: list[int]) -> torch.Tensor:
    """Return -100 for tokens of a window that lay apart before the shift, (windows, n, n)."""
    parts = []
    for whole, each, step in zip(size, window, shift, strict=True):
        place = torch.arange(whole)
        parts.append((place >= whole - each).int() + (place >= whole - step).int() * (step > 0))
    part = 3 * parts[0][:, None] + parts[1]
    part = part.unflatten(0, (-1, window[0])).unflatten(2, (-1, window[1])).transpose(1, 2)
    part = part.flatten(0, 1).flatten(1)
    return (part[:, None] != part[:, :, None]) * -100.0


def cuttable(module: nn.Module) -> nn.Module | None:
    """Return what computes the same as a module and can be cut; None where nothing here does."""
    names = {name for name, _ in module.named_parameters()} - PARAMETERS
    if names not in (TABLE, COSINE) or not all(hasattr(module, name) for name in NUMBERS):
        return None
    own: Any = module
    heads = len(own.logit_scale) if names == COSINE else own.relative_position_bias_table.shape[-1]
    channels = own.proj.in_features
    if own.num_heads != heads or channels % heads or own.qkv.out_features != 3 * channels:
        return None
    made = (CuttableCosineAttention if names == COSINE else CuttableWindowAttention)(module)
    size = [2 * each + 1 for each in own.window_size]
    count = size[0] * size[1] * channels
    tokens = torch.linspace(-3, 3, count).sin().mul(3).view(1, *size, channels)
    tokens = tokens.to(own.qkv.weight)
    training = module.training
    try:
        with torch.no_grad():
            expected = module.eval()(tokens)
            keys = made.unread_bias()
            before = keys.clone()
            keys.zero_()
            if torch.allclose(made.eval()(tokens), expected, 1e-3, 1e-5):
                return made
            keys.copy_(before)
            return None
    finally:
        made.train(training)
        module.train(training)
