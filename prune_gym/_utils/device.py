"""Choose where networks run, in which precision and in which order of memory."""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from prune_gym.errors import UserError, unknown

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")

CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(name: str = "auto") -> torch.device:
    """Return a device by name; "auto" takes cuda, else mps, else cpu, whichever is there.

    Raises:
        UserError: no such name, or PyTorch finds no such device.
    """
    if name not in DEVICES:
        raise UserError(unknown("device", name, DEVICES))
    found = _devices()
    if name == "auto":
        return torch.device(found[0])
    if name not in found:
        raise UserError(
            f'device: PyTorch finds no {name} on this machine; give "cpu", or "auto" for what '
            "there is"
        )
    return torch.device(name)


def _devices() -> list[str]:
    """Return the devices that there are, the fastest first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [*(name for name, is_there in there.items() if is_there), "cpu"]


def bfloat16_is_fast(device: str = "cpu") -> bool:
    """Return whether a device ("cpu", "cuda" or "mps") multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the type that networks are scored in: bfloat16 where that is fast, else float32.

    It is never float16, in which the sums of quantized layers overflow.
    """
    return torch.bfloat16 if bfloat16_is_fast(device.type) else torch.float32


def fast_forward(device: torch.device = CPU) -> torch.autocast:
    """Return a context in which forward passes run in bfloat16, where that is fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device.type))


def to_dtype(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert the floats of a network, in place; return it.

    Complex numbers stay complex, of parts in float64 or float32. ``Module.to`` would drop their
    imaginary parts.
    """
    parts = torch.complex128 if dtype is torch.float64 else torch.complex64

    def converted(each: torch.Tensor) -> torch.Tensor:
        if each.is_complex():
            return each.to(parts)
        return each.to(dtype) if each.is_floating_point() else each

    return network._apply(converted)


def to_channels_last(network: nn.Module) -> nn.Module:
    """Put the weights of a network into channels-last order, in place; return it.

    On Apple's devices they stay as they are: those have no faster code for it.
    """
    return network._apply(lambda each: each.to(memory_format=memory_format(each)))


def memory_format(tensor: torch.Tensor) -> torch.memory_format:
    """Return the order of memory in which convolutions are fastest: channels last."""
    orders = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = tensor.ndim in orders and tensor.device.type != "mps"
    return orders[tensor.ndim] if last else torch.contiguous_format


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network's parameters are on."""
    return next((each.device for each in network.parameters()), CPU)


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network that is on a device: itself, or a copy where it is on another one."""
    return network if device_of(network).type == device.type else copy.deepcopy(network).to(device)


def outside_contexts(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Decorate a function so that its results do not depend on the contexts of its caller.

    Inside it, ``torch.autocast``, ``torch.inference_mode`` and ``torch.no_grad`` are off.
    """

    @wraps(function)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        with torch.inference_mode(False), ExitStack() as stack:
            for device in _devices():
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return call
