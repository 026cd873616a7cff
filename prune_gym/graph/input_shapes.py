"""The shapes of what a network reads: one input, or several."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

Shape: TypeAlias = tuple[int, ...]
KINDS = ("float", "int", "bool")


@dataclass(frozen=True)
class InputShapes:
    """The shapes of several inputs, each without the dimension of the examples.

    Attributes:
        shapes: one for each input.
        kinds: "float", "int" or "bool" for each.
        names: the arguments of the network's forward that they are; () where they go by position.
    """

    shapes: tuple[Shape, ...]
    kinds: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line, such as ``3x16x16:float, 8:float``."""
        parts = [
            f"{'x'.join(map(str, shape)) or 'one'}:{kind}"
            for shape, kind in zip(self.shapes, self.kinds, strict=True)
        ]
        if self.names:
            parts = [f"{name}={part}" for name, part in zip(self.names, parts, strict=True)]
        return ", ".join(parts)


InputShape: TypeAlias = Shape | InputShapes


def as_input_shape(given: Any) -> InputShape:
    """Return the shape of one input, or of several where a tuple or dict of shapes is given.

    A shape (L,) is that of token ids, all others are of floats; `InputShapes` says it otherwise.
    """
    if isinstance(given, InputShapes):
        return given
    names = tuple(given) if isinstance(given, Mapping) else ()
    values = tuple(given.values()) if isinstance(given, Mapping) else tuple(given)
    if not any(isinstance(each, Iterable) for each in values):
        return values
    shapes = tuple(map(tuple, values))
    return InputShapes(shapes, tuple(map(kind_of, shapes)), names)


def kind_of(shape: Shape) -> str:
    """Return what an input of a shape holds where nobody says it: "int" of (L,), else "float"."""
    return "int" if len(shape) == 1 else "float"


def as_plain(shape: InputShape) -> Any:
    """Return a shape as plain data, for JSON."""
    return asdict(shape) if isinstance(shape, InputShapes) else shape


def from_plain(plain: Any) -> InputShape:
    """Return the shape that `as_plain` made plain data of; it must have been checked."""
    if not isinstance(plain, Mapping):
        return tuple(plain)
    shapes = tuple(map(tuple, plain["shapes"]))
    return InputShapes(shapes, tuple(plain["kinds"]), tuple(plain["names"]))
