"""One step of gradient descent."""

import torch


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Move the optimizer's parameters against the gradient of the loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
