"""Leave the modules of a network as they were found."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode for a while."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was


@contextmanager
def left_as_it_was(network: nn.Module) -> Iterator[None]:
    """Take back what tracing leaves in the modules of a network.

    That is what their forwards keep there, such as values for the next call or a buffer that counts
    calls, and the attributes that torch.fx gives the network for tensors made in a forward.
    """
    before = [(module, dict(map(_copied, vars(module).items()))) for module in network.modules()]
    buffers = [(module._buffers, dict(module._buffers)) for module in network.modules()]
    try:
        yield
    finally:
        for held, kept in buffers:
            held.clear()
            held.update(kept)
        for module, attributes in before:
            for name in set(vars(module)) - set(attributes):
                del vars(module)[name]
            vars(module).update(attributes)


def _copied(attribute: tuple[str, Any]) -> tuple[str, Any]:
    """Copy what a forward may fill; PyTorch's own attributes must stay the same objects."""
    name, value = attribute
    fills = not name.startswith("_") and isinstance(value, dict | list | set)
    return name, copy.copy(value) if fills else value
