"""Refuse networks and images with NaN or infinite values before they spoil a search."""

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from prune_gym._utils.state import damaged
from prune_gym.errors import UserError
from prune_gym.graph.inputs import Tensors


def check_finite(network: nn.Module, images: Tensors) -> None:
    """Check the parameters and buffers of a network, and its normalized images (N, C, H, W).

    Raises:
        UserError: one of them holds NaN or infinite values; the message names it.
    """
    kind = type(network).__name__
    if name := damaged(network, dict([*network.named_parameters(), *network.named_buffers()])):
        raise UserError(
            f"{kind}: {name!r} holds NaN or infinite values; load the weights again, or train the "
            "network again"
        )
    if not all(torch.isfinite(each).all() for each in tree_leaves(images)):
        raise UserError(
            "the normalized images hold NaN or infinite values: check the mean and the standard "
            "deviation of the data"
        )
