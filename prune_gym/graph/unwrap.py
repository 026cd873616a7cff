"""Networks inside of wrappers that only say how they are run."""

from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network that ``torch.compile``, ``DataParallel`` and the like wrap, or itself."""
    while True:
        if isinstance(network, nn.DataParallel | DistributedDataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def unwrap_compiled(network: nn.Module) -> None:
    """Put what ``torch.compile`` wraps in the place of compiled parts of a network, in place."""
    for module in [*network.modules()]:
        for child, part in [*module.named_children()]:
            if isinstance(inner := getattr(part, "_orig_mod", None), nn.Module):
                setattr(module, child, inner)
