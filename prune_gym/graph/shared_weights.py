"""Layers that surgery would replace in one place and leave in another."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from prune_gym.errors import UnsupportedLayerError


def refuse_aliases(network: nn.Module) -> None:
    """Refuse a layer or a weight that has two names, or is held in a plain list or dict too.

    Raises:
        NotUnderstoodError: names the layer.
    """
    names: dict[nn.Module, str] = {}
    owners: dict[int, str] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        resized = (
            isinstance(module, nn.ConstantPad3d) or next(module.parameters(), None) is not None
        )
        if module in names and resized:
            raise UnsupportedLayerError(name, f"the same module as {names[module]!r}")
        names[module] = name
        for parameter in module.parameters(recurse=False):
            if id(parameter) in owners:
                raise UnsupportedLayerError(
                    name, f"its weight is that of {owners[id(parameter)]!r}"
                )
            owners[id(parameter)] = name
    for name, module in network.named_modules():
        for held in _held(vars(module)):
            if held in names and next(held.parameters(), None) is not None:
                where = f"a plain list or dict of {name or type(network).__name__!r}"
                raise UnsupportedLayerError(names[held], f"held in {where} too: use nn.ModuleList")


def _held(attributes: dict[str, Any]) -> Iterator[nn.Module]:
    """Return the modules in plain lists, tuples and dicts, at any depth."""
    waiting = [value for key, value in attributes.items() if key != "_modules"]
    while waiting:
        value = waiting.pop()
        if isinstance(value, nn.Module):
            yield value
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
