"""The multiply-adds of any operation, counted while it runs."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_flop

# The registry leaves out the fused attention of processors.
_COUNTS = flop_registry | {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop}


class MultiplyAdds(TorchDispatchMode):
    """Adds up what is multiplied while it is active.

    Attributes:
        total: multiply-adds so far.
    """

    def __init__(self) -> None:
        """Start at zero."""
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do without a decorator of PyTorch's that imports its compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in _COUNTS:
            count = _COUNTS[func._overloadpacket]
            self.total += count(*args, **(kwargs or {}), out_val=result) // 2
        return result
