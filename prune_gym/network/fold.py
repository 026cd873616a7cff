"""Folding batch-norm into the convolution before it, for inference."""

import torch
from torch import nn

from prune_gym.network.surgery import replace_module
from prune_gym.network.table import LayerTable


@torch.no_grad()
def fold_batch_norm(network: nn.Module, table: LayerTable) -> nn.Module:
    """Fold every batch-norm of ``network`` into the layer it follows, in place, and return it."""
    for layer in table.layers:
        if not layer.follows:
            continue
        conv, norm = network.get_submodule(layer.follows), network.get_submodule(layer.name)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = torch.zeros_like(scale) if conv.bias is None else conv.bias
        conv.weight.mul_(scale.view(-1, 1, 1, 1))
        conv.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias)
        replace_module(network, layer.name, nn.Identity())
    return network
