"""Layers that surgery would replace in one place and leave in another."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def find_aliases(network: nn.Module) -> dict[str, str]:
    """Return the layers that must stay whole, with the reason.

    They have two names, share a weight with another layer, or are held in a plain list or dict too.
    """
    names: dict[nn.Module, str] = {}
    owners: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        resized = (
            isinstance(module, nn.ConstantPad3d) or next(module.parameters(), None) is not None
        )
        if module in names and resized:
            found |= {names[module]: f"the same module as {name!r}"}
            found |= {name: f"the same module as {names[module]!r}"}
        if module in names:
            continue
        names[module] = name
        for parameter in module.parameters(recurse=False):
            owner = owners.setdefault(id(parameter), name)
            if owner != name:
                found |= {name: f"its weight is that of {owner!r}"}
                found |= {owner: f"its weight is that of {name!r}"}
    for name, module in network.named_modules():
        for held in _held(vars(module)):
            if held in names and next(held.parameters(), None) is not None:
                where = f"a plain list or dict of {name or type(network).__name__!r}"
                why = f"held in {where} too: use nn.ModuleList"
                found |= {
                    f"{names[held]}.{each}".strip("."): why for each, _ in held.named_modules()
                }
                found[names[held]] = why
    return found


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
