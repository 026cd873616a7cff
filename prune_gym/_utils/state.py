"""The tensors that a network's state dict holds."""

from collections.abc import Mapping

import torch
from torch import nn


def state_tensors(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a network's state dict; extra state of other kinds is left out."""
    state = network.state_dict().items()
    return {key: value for key, value in state if isinstance(value, torch.Tensor)}


def damaged(network: nn.Module, values: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinite values, or None.

    Buffers may hold infinite values, as masks of attention do, but for running statistics.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, tensor in values.items():
        finite = name in parameters or name.endswith(("running_mean", "running_var"))
        wrong = ~torch.isfinite(tensor) if finite else torch.isnan(tensor)
        if wrong.any():
            return name
    return None
