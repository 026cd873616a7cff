"""Choose the precision of forward passes."""

import torch


def bfloat16_is_fast(device: str = "cpu") -> bool:
    """Return whether ``device`` ("cpu" or "cuda") multiplies bfloat16 in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fast_forward(device: str = "cpu") -> torch.autocast:
    """Return a context in which forward passes run in bfloat16, where that is fast."""
    return torch.autocast(device, torch.bfloat16, enabled=bfloat16_is_fast(device))
