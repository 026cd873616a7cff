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
