"""The tensors that a network's state dict holds."""

import torch
from torch import nn


def state_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a network's state dict; extra state of other kinds is left out."""
    state = network.state_dict().items()
    return {key: value for key, value in state if isinstance(value, torch.Tensor)}
