"""Speed up the gradients of strided depthwise convolutions on a processor."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeGuard

import torch
from torch import nn


@contextmanager
def fast_gradients(network: nn.Module) -> Iterator[None]:
    """Return a context for forward passes whose gradients are needed.

    Inside it, strided depthwise convolutions run with stride 1 and drop the pixels that the stride
    skips, so outputs do not change. The reason: processors have a fast bfloat16 kernel for the
    input gradient at stride 1 only (``benchmarks/training_step.py``). On other devices the context
    does nothing.
    """
    on_processor = all(each.device.type == "cpu" for each in network.parameters())
    changed = [module for module in network.modules() if on_processor and _is_slow(module)]
    for convolution in changed:
        convolution.forward = partial(_dense_then_skip, convolution)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for convolution in changed:
            del convolution.forward


def _is_slow(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels > 1
        and module.stride != (1, 1)
        and module.padding_mode == "zeros"
    )


def _dense_then_skip(convolution: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    dense = nn.functional.conv2d(
        images,
        convolution.weight,
        convolution.bias,
        1,
        convolution.padding,
        convolution.dilation,
        convolution.groups,
    )
    down, right = convolution.stride
    return dense[:, :, ::down, ::right].contiguous(memory_format=torch.channels_last)
