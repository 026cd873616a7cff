"""Fold batch-norm into the layer before it, for inference."""

import torch
from torch import nn

from prune_gym.compression.surgery import replace_module
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.layer_types import BatchNorm, Convolution


@torch.no_grad()
def fold_batch_norm(network: nn.Module, table: LayerTable) -> nn.Module:
    """Fold every batch-norm into the layer that it follows, in place; return ``network``.

    A batch-norm that is already folded, or is in a skipped block, is ignored.
    """
    modules = dict(network.named_modules())
    for layer in table.layers:
        norm = modules.get(layer.name)
        if not layer.follows or not isinstance(norm, BatchNorm):
            continue
        weighted = modules[layer.follows]
        assert isinstance(weighted, Convolution | nn.Linear)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = torch.zeros_like(scale) if weighted.bias is None else weighted.bias
        weighted.weight.mul_(scale.view(-1, *[1] * (weighted.weight.ndim - 1)))
        weighted.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
        replace_module(network, layer.name, nn.Identity())
    return network
