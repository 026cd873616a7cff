"""Weights pruned one by one: the smallest are set to zero, whole masks at a time."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from prune_gym.graph.layer_table import LayerTable, kept_masks

CHANCE_ZEROS = 0.01  # share of a layer's weights; fewer zeros are chance and not a mask


@torch.no_grad()
def sparsify(
    network: nn.Module,
    table: LayerTable,
    density: np.ndarray,
    importance: Mapping[str, tuple[torch.Tensor, torch.Tensor]] | None = None,
) -> nn.Module:
    """Keep the share ``density`` of every layer's weights by L1 norm, in place; return ``network``.

    Consecutive output channels share masks as ``table.block_size`` says (4: JCW, arXiv
    2110.08013; 1: element-wise). As many weights stay as :meth:`LayerTable.nonzeros` counts.

    Args:
        network: a candidate: cut, with skipped blocks left out, batch-norm folded or not.
        table: the original network's layer table.
        density: share per layer with weights, in (0, 1], ``float (layers,)``.
        importance: layer -> factors by which its weights' magnitudes count, per output channel
            (outputs,) and per input channel (inputs,); 1 where a layer is not named.
    """
    importance = importance or {}
    modules = dict(network.named_modules())
    for index, share in zip(table.weighted, density, strict=True):
        name = table.layers[index].name
        module = modules.get(name)  # None: in a skipped block
        if module is not None and share < 1:
            weight = module.get_parameter("weight")
            magnitude = weight.abs()
            if name in importance:
                outputs, inputs = importance[name]
                scale = outputs[:, None] * inputs[None]
                magnitude = magnitude * scale.view(*scale.shape, *(1,) * (weight.ndim - 2))
            together = int(table.mask_sizes(np.array(len(weight))))
            weight.mul_(_mask(magnitude, together, float(share)))
    return network


def zeros_fill_masks(network: nn.Module, table: LayerTable) -> bool:
    """Return whether the zeros of sparse layers come in whole masks, as the table has them."""
    for masks in _masks(network, table):
        if 1 - masks.float().mean() >= CHANCE_ZEROS:
            mixed = masks.any(1) & ~masks.all(1)
            if mixed.float().mean() >= CHANCE_ZEROS:
                return False
    return True


def densities(network: nn.Module, table: LayerTable) -> np.ndarray:
    """Return the share of every layer's masks that hold a weight, ``float64 (layers,)``.

    1 where there are so few zeros that they are chance.
    """
    shares = np.array([float(masks.any(1).double().mean()) for masks in _masks(network, table)])
    return np.where(shares > 1 - CHANCE_ZEROS, 1.0, shares)


def _masks(network: nn.Module, table: LayerTable) -> Iterator[torch.Tensor]:
    """Yield which weights of each layer are not zero, (output channels, in a mask, weights)."""
    for index in table.weighted:
        weight = network.get_submodule(table.layers[index].name).get_parameter("weight")
        yield (weight != 0).view(
            -1, int(table.mask_sizes(np.array(len(weight)))), weight[0].numel()
        )


def keep_zeros(network: nn.Module) -> None:
    """Keep the weights that are zero at zero from now on, in layers that were made sparse.

    Their gradients are set to zero; momentum and weight decay then leave them where they are.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            mask = (module.weight != 0).float()
            if mask.mean() < 1 - CHANCE_ZEROS:
                module.weight.register_hook(lambda grad, mask=mask: grad * mask.to(grad.device))


def _mask(magnitude: torch.Tensor, together: int, density: float) -> torch.Tensor:
    """Return the 0/1 mask of weights (outputs, ...); ``together`` output channels share it."""
    groups = magnitude.contiguous().view(-1, together, magnitude[0].numel())
    norms = groups.sum(1).flatten().numpy()
    kept = int(kept_masks(density, norms.size))
    mask = np.zeros(norms.size, dtype=np.float32)
    mask[np.argpartition(-norms, kept - 1)[:kept]] = 1
    shared = torch.from_numpy(mask).view(-1, 1, magnitude[0].numel()).expand(groups.shape)
    return shared.reshape(magnitude.shape)
