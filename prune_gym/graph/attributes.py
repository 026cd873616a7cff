"""Whole numbers that modules hold as attributes, such as ``self.num_heads``.

Code that writes such a number where a tensor has heads or channels goes on to work in a cut network
if the attribute follows the cut. While a network is traced these numbers know their names.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.fx.node import map_aggregate


@dataclass(frozen=True)
class Key:
    """A module's name, and that of its attribute."""

    module: str
    name: str


class Number(int):
    """A whole number that knows which attribute it is, and notes it where code computes with it.

    Attributes:
        key: its module and name.
        computed: gets the key.
    """

    key: Key
    computed: set[Key]

    def __new__(cls, value: int, key: Key, computed: set[Key]) -> "Number":
        """Return ``value`` under a name."""
        number = super().__new__(cls, value)
        number.key, number.computed = key, computed
        return number

    def __reduce__(self) -> tuple:
        """Copy and pickle as a plain number."""
        return int, (plain(self),)

    def __bool__(self) -> bool:
        """Return whether it is not 0."""
        self.computed.add(self.key)
        return plain(self) != 0

    def __hash__(self) -> int:
        """Return the hash of the plain number."""
        return hash(plain(self))


def _noting(name: str) -> Callable[..., Any]:
    def method(self: Number, *others: Any) -> Any:
        self.computed.add(self.key)
        return getattr(int, name)(self, *map(plain, others))

    return method


for _name in (
    *("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "divmod", "neg", "float"),
    *("radd", "rsub", "rmul", "rfloordiv", "rtruediv", "rmod", "rpow", "rdivmod"),
    *("eq", "ne", "lt", "le", "gt", "ge", "abs", "round"),
):
    setattr(Number, f"__{_name}__", _noting(f"__{_name}__"))


def plain(value: Any) -> Any:
    """Return a number without its name; anything else as it is."""
    return int.__int__(value) if isinstance(value, Number) else value


def key_of(value: Any) -> Any:
    """Return the key of a number that has one; None for anything else."""
    return value.key if isinstance(value, Number) else None


def keys_in(arguments: Any) -> list[Key]:
    """Return the keys in arguments, each as often as it stands there."""
    found: list[Key] = []
    map_aggregate(arguments, lambda a: found.append(a) if isinstance(a, Key) else None)
    return found


@contextmanager
def numbers_of(network: nn.Module, computed: set[Key]) -> Iterator[None]:
    """Name the whole numbers that the network's modules hold, but for PyTorch's own modules."""
    named = []
    for name, module in network.named_modules():
        known = type(module).__module__.startswith("torch.")
        if not known and not isinstance(module, torch.jit.ScriptModule):
            held = {key: value for key, value in vars(module).items() if type(value) is int}
            named.append((module, held))
            for key, value in held.items():
                vars(module)[key] = Number(value, Key(name, key), computed)
    try:
        yield
    finally:
        for module, held in named:
            for key, value in held.items():
                if isinstance(vars(module).get(key), Number):  # else its forward wrote another
                    vars(module)[key] = value
