"""Prune single weights or blocks of them: set those of least magnitude to zero."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from prune_gym.graph.layer_table import LayerTable, kept_masks
from prune_gym.graph.layer_types import Convolution
from prune_gym.graph.skipped import running_modules

CHANCE_ZEROS = 0.01  # share of the weights of a layer; fewer zeros occur by chance


@torch.no_grad()
def sparsify(
    network: nn.Module,
    table: LayerTable,
    density: np.ndarray,
    importance: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> nn.Module:
    """Keep the share ``density`` of the weights of every layer by L1 norm, in place.

    ``table.block_size`` consecutive output channels share a mask (4: JCW, arXiv 2110.08013; 1:
    element-wise). The number of kept weights is that of `LayerTable.nonzeros`.

    Args:
        network: a candidate: cut, without its skipped blocks, with or without folded batch-norm.
        table: the layer table of the original network.
        density: share of kept weights per layer with weights, in (0, 1], ``float (layers,)``.
        importance: layer -> factors of the magnitudes of its weights, per output channel
            (outputs,) and per input channel (inputs,); a layer that is not named has factors of 1.

    Returns:
        ``network``.
    """
    importance = importance or {}
    modules = running_modules(network)
    for index, share in zip(table.weighted, density, strict=True):
        name = table.layers[index].name
        module = modules.get(name)  # None: in a skipped block
        if module is not None and share < 1:
            weight = module.get_parameter("weight")
            magnitude = weight.abs()
            if name in importance:
                outputs, inputs = importance[name]
                scale = (outputs[:, None] * inputs[None]).to(magnitude.device)
                magnitude = magnitude * scale.view(*scale.shape, *(1,) * (weight.ndim - 2))
            block_size = int(table.mask_sizes(np.array(len(weight))))
            weight.mul_(_mask(magnitude, block_size, float(share)))
    return network


def zeros_fill_masks(network: nn.Module, table: LayerTable) -> bool:
    """Return whether the zeros of sparse layers fill whole masks of ``table.block_size``."""
    for masks in _masks(network, table):
        if 1 - masks.float().mean() >= CHANCE_ZEROS:
            mixed = masks.any(1) & ~masks.all(1)
            if mixed.float().mean() >= CHANCE_ZEROS:
                return False
    return True


def densities(network: nn.Module, table: LayerTable) -> np.ndarray:
    """Return the share of masks that are not all zero, ``float64 (layers,)``.

    It is 1 for a layer with so few zeros that they occur by chance.
    """
    shares = np.array([float(masks.any(1).double().mean()) for masks in _masks(network, table)])
    return np.where(shares > 1 - CHANCE_ZEROS, 1.0, shares)


def _masks(network: nn.Module, table: LayerTable) -> Iterator[torch.Tensor]:
    """Yield which weights of each layer are not zero, (masks, channels per mask, weights)."""
    for index in table.weighted:
        weight = network.get_submodule(table.layers[index].name).get_parameter("weight")
        size = int(table.mask_sizes(np.array(len(weight))))
        yield (weight != 0).reshape(-1, size, weight[0].numel())


def keep_zeros(network: nn.Module) -> None:
    """Keep the zero weights of sparse layers at zero during training.

    Their gradients are set to zero; momentum and weight decay then do not move them.
    """
    for module in network.modules():
        if isinstance(module, Convolution | nn.Linear):
            mask = (module.weight != 0).float()
            if mask.mean() < 1 - CHANCE_ZEROS:
                module.weight.register_hook(lambda grad, mask=mask: grad * mask.to(grad.device))


def _mask(magnitude: torch.Tensor, block_size: int, density: float) -> torch.Tensor:
    """Return the 0/1 mask of weights (outputs, ...); ``block_size`` output channels share it."""
    groups = magnitude.contiguous().view(-1, block_size, magnitude[0].numel())
    norms = groups.sum(1).flatten().cpu().numpy()
    kept = int(kept_masks(density, norms.size))
    mask = np.zeros(norms.size, dtype=np.float32)
    mask[np.argpartition(-norms, kept - 1)[:kept]] = 1
    shared = (
        torch.from_numpy(mask)
        .to(magnitude.device)
        .view(-1, 1, magnitude[0].numel())
        .expand(groups.shape)
    )
    return shared.reshape(magnitude.shape)
