"""What stands in a network for the modules of a skipped residual block."""

from typing import Any

import torch
from torch import nn


class Skipped(nn.Module):
    """Stands for a module of a skipped branch: writes zeros, so that ``x + branch(x)`` is x.

    Attributes:
        sizes: the dimensions of its output; None for one that is as large as the input's.
    """

    def __init__(self, inputs: torch.Size, outputs: torch.Size) -> None:
        """Take the shapes that the module reads and writes for one batch."""
        super().__init__()
        like = inputs if len(inputs) == len(outputs) else [None] * len(outputs)
        pairs = zip(like, outputs, strict=True)
        self.sizes = tuple(None if size == out else out for size, out in pairs)

    def forward(self, x: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        """Return zeros in the shape, type and memory format of the module's output."""
        sizes = [x.shape[at] if size is None else size for at, size in enumerate(self.sizes)]
        maps = len(sizes) == x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if maps else torch.contiguous_format
        return torch.empty(sizes, dtype=x.dtype, device=x.device, memory_format=layout).zero_()


def running_modules(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a candidate by name, without those of skipped blocks."""
    modules = network.named_modules()
    return {name: module for name, module in modules if not isinstance(module, Skipped)}
