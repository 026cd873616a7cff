"""Choose the images of a batch that are still worth a step, by the loss of a small network."""

import torch
from torch import nn

from prune_gym._utils.device import fast_forward
from prune_gym.graph.inputs import Tensors, feed


def hardest(
    proxy: nn.Module, images: Tensors, labels: torch.Tensor, share: float
) -> tuple[Tensors, torch.Tensor]:
    """Return the share of a batch with the largest losses of ``proxy``, in the batch's order.

    A trained network learns little from images that even a small network knows, and a step on half
    of a batch takes half of the arithmetic (as in airbench96, Jordan 2024,
    https://github.com/KellerJordan/airbench).

    Args:
        proxy: a small trained network in eval mode, on the device of the images.
        images: (N, ...), normalized.
        labels: (N,) class numbers.
        share: of the batch, in (0, 1]; at least one image is kept.
    """
    with torch.no_grad(), fast_forward(labels.device):
        outputs = feed(proxy, images).float()
    losses = nn.functional.cross_entropy(outputs, labels, reduction="none")
    kept = losses.topk(max(int(share * len(labels)), 1)).indices.sort().values
    return images[kept], labels[kept]
