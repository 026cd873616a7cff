"""Choose the precision of forward passes."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def bfloat16_is_fast(device: str = "cpu") -> bool:
    """Return whether ``device`` ("cpu" or "cuda") multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fast_forward(device: str = "cpu") -> torch.autocast:
    """Return a context in which forward passes run in bfloat16, where that is fast."""
    return torch.autocast(device, torch.bfloat16, enabled=bfloat16_is_fast(device))


def to_channels_last(network: nn.Module) -> nn.Module:
    """Put the weights of a network into channels-last order, in place; return it."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def outside_contexts(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Decorate a function so that its results do not depend on the contexts of its caller.

    Inside it, ``torch.autocast``, ``torch.inference_mode`` and ``torch.no_grad`` are off.
    """

    @wraps(function)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return call
