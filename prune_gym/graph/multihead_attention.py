"""``nn.MultiheadAttention`` in a form whose heads can be cut.

PyTorch's own computes the width of a head from the width of the tokens, so it cannot have fewer
heads of the same width.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

PARTS = ("q_proj", "k_proj", "v_proj")


class CuttableAttention(nn.MultiheadAttention):
    """Computes what ``nn.MultiheadAttention`` does, with any number of heads.

    The keys of its state dict are the same. There is a linear layer each for queries, keys and
    values, and its forward writes no number of heads.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        """Take over the weights of ``original``."""
        nn.Module.__init__(self)
        self.embed_dim, self.kdim, self.vdim = original.embed_dim, original.kdim, original.vdim
        self.head_dim, self.dropout = original.head_dim, original.dropout
        self.batch_first, self.add_zero_attn = original.batch_first, False
        self.bias_k = self.bias_v = None
        self._qkv_same_embed_dim = False  # nn.TransformerEncoderLayer calls forward then
        biases = [None] * 3 if original.in_proj_bias is None else original.in_proj_bias.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(
            _linear, original.in_proj_weight.chunk(3), biases
        )
        self.out_proj = original.out_proj
        self.train(original.training)
        for parameter in self.parameters():
            parameter.requires_grad_(original.in_proj_weight.requires_grad)

    @property
    def num_heads(self) -> int:  # type: ignore[override]
        """Return how many heads there are."""
        return len(self._parts("weight")[0]) // self.head_dim

    @property
    def in_proj_weight(self) -> torch.Tensor:  # type: ignore[override]
        """Return the weights for queries, keys and values, one below the other."""
        return torch.cat(self._parts("weight"))

    @property
    def in_proj_bias(self) -> torch.Tensor | None:  # type: ignore[override]
        """Return the biases of queries, keys and values, one after the other."""
        parts = self._parts("bias")
        return torch.cat(parts) if parts else None

    def _parts(self, kind: str) -> list[torch.Tensor]:
        """Return the weights or biases of the three layers, as plain tensors also when traced."""
        layers = [self.get_submodule(name) for name in PARTS]
        found = [(layer._parameters | layer._buffers)[kind] for layer in layers]
        return [each for each in found if each is not None]

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what ``nn.MultiheadAttention`` returns; a causal mask must be given as a mask."""
        images = 0 if self.batch_first or query.dim() == 2 else 1
        q = self._heads(query, self.q_proj, images)
        k = self._heads(key, self.k_proj, images)
        v = self._heads(value, self.v_proj, images)
        mask = _mask(q, key_padding_mask, attn_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            scores = scores if mask is None else scores + mask
            each_head = F.dropout(scores.softmax(-1), dropout)
            attended = each_head @ v
            weights = each_head.mean(1) if average_attn_weights else each_head
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        output = self.out_proj(attended.transpose(1, 2).flatten(2))
        if query.dim() == 2:
            return output[0], None if weights is None else weights[0]
        return output.transpose(0, 1) if images else output, weights

    def _heads(self, tokens: torch.Tensor, layer: nn.Module, images: int) -> torch.Tensor:
        """Return (N, heads, tokens, channels of a head)."""
        if tokens.dim() == 2:
            tokens = tokens.unsqueeze(0)
        elif images:
            tokens = tokens.transpose(0, 1)
        return layer(tokens).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def state_dict(self, *args: Any, prefix: str = "", **kwargs: Any) -> Any:
        """Return the tensors under the names that ``nn.MultiheadAttention`` gives them.

        Those of quantized layers stay apart: each may have bits of its own.
        """
        state = super().state_dict(*args, prefix=prefix, **kwargs)
        if not all(type(self.get_submodule(name)) is nn.Linear for name in PARTS):
            return state
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{prefix}{name}.{kind}", None) for name in PARTS]
            if parts[0] is not None:
                state[f"{prefix}in_proj_{kind}"] = torch.cat(parts)
        return state

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for kind in ("weight", "bias"):
            whole = state_dict.pop(f"{prefix}in_proj_{kind}", None)
            if whole is not None:
                for name, part in zip(PARTS, whole.chunk(3), strict=True):
                    state_dict[f"{prefix}{name}.{kind}"] = part
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _mask(
    query: torch.Tensor, padding: torch.Tensor | None, mask: torch.Tensor | None
) -> torch.Tensor | None:
    """Return what is added to the scores (N, heads, queries, keys)."""
    if mask is not None:
        mask = _additive(mask, query)
        if mask.dim() == 3:  # one for each image and head
            mask = mask.unflatten(0, (query.shape[0], -1))
    if padding is None:
        return mask
    padding = _additive(padding, query)
    padding = padding[:, None, None, :] if padding.dim() == 2 else padding
    return padding if mask is None else mask + padding


def _additive(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return -inf where a mask of booleans forbids to look, 0 elsewhere."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def is_special(module: nn.MultiheadAttention) -> bool:
    """Return whether attention adds tokens, or is changed from outside."""
    adds_tokens = module.bias_k is not None or module.add_zero_attn
    plain = isinstance(module._parameters.get("in_proj_weight"), nn.Parameter)
    return adds_tokens or not plain or "forward" in vars(module) or bool(module._forward_hooks)
