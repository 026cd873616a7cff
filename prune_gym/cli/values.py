"""What options on the command line take; each function is a parser's ``type``."""

import json
import math
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_gym.graph.input_shapes import InputShape

OF_A_RUN = (
    "config.json",
    "task.json",
    "about.json",
    "evaluations.jsonl",
    "train.log",
    "agent.zip",
    "uniform.jsonl",
    "front.csv",
    "front.png",
)


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


def natural_number(text: str) -> int:
    """Read a whole number from 0 on, such as a seed."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"expected a whole number >= 0, got {text!r}")
    return int(text)


def pair(text: str) -> tuple[str, float]:
    """Read ``NAME=NUMBER``."""
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentTypeError(f"expected NAME=NUMBER, got {text!r}")
    return name.strip(), number


def limit(text: str) -> tuple[str, float, bool]:
    """Read ``NAME=NUMBER`` or ``NAME=PERCENT%``; returns also whether it was a percentage."""
    try:
        name, value = pair(text.removesuffix("%"))
    except ArgumentTypeError:
        raise ArgumentTypeError(f"expected NAME=NUMBER or NAME=PERCENT%, got {text!r}") from None
    percent = text.endswith("%")
    if name.endswith("accuracy") and not 0 <= value <= (100 if percent else 1):
        raise ArgumentTypeError(
            f"expected {name} as a share from 0 to 1 or as a percentage, such as {name}=0.9 or "
            f"{name}=90%, got {text!r}"
        )
    return name, value, percent


def share(text: str) -> tuple[str, float]:
    """Read ``NAME=SHARE`` or ``NAME=PERCENT%``; returns the share."""
    name, value, percent = limit(text)
    return name, value / 100 if percent else value


def setting(text: str) -> tuple[str, Any]:
    """Read ``NAME=JSON``; a bare word is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ArgumentTypeError(f"expected NAME=JSON, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError as error:
        if value[:1] in ("[", "{", '"'):
            raise ArgumentTypeError(
                f"expected JSON after {name}=, got {value!r} ({error})"
            ) from None
        return name, value


def pairs(text: str) -> dict[str, float]:
    """Read ``NAME=NUMBER,...``."""
    found = [pair(part) for part in text.split(",")]
    if len(dict(found)) < len(found):
        raise ArgumentTypeError(f"expected every name once, got {text!r}")
    return dict(found)


def input_shapes(text: str) -> "InputShape":
    """Read what `input_shape` does, or several of them: ``3x32x32,12,8:float,12:bool``."""
    from prune_gym.graph.input_shapes import KINDS, InputShapes, kind_of

    if "," not in text and ":" not in text:
        return input_shape(text)
    shapes, kinds = [], []
    for part in text.split(","):
        shape, colon, kind = part.partition(":")
        if colon and kind not in KINDS:
            raise ArgumentTypeError(
                f"expected SHAPE:KIND, a kind of {', '.join(KINDS)}; got {part!r}"
            )
        shapes.append(input_shape(shape))
        kinds.append(kind or kind_of(shapes[-1]))
    return InputShapes(tuple(shapes), tuple(kinds))


def input_shape(text: str) -> tuple[int, ...]:
    """Read ``CHANNELSxHEIGHTxWIDTH``, ``CHANNELSxLENGTH`` of a signal, or a number of tokens."""
    parts = text.split("x")
    if len(parts) > 4 or not all(part.isdecimal() and int(part) for part in parts):
        raise ArgumentTypeError(
            "expected CHANNELSxHEIGHTxWIDTH, such as 3x32x32, or the length of a text of token "
            f"ids, got {text!r}"
        )
    return tuple(map(int, parts))


def new_file(text: str) -> Path:
    """Read where a file is to be written; what cannot be is refused before the work is done."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"expected the name of a file, and {path} is a folder")
    if path.name in OF_A_RUN and path.is_file():
        raise ArgumentTypeError(f"{path} is a file of a run; give another name")
    new_folder(str(path.parent))
    return path


def new_folder(text: str) -> Path:
    """Read where a folder is, or is to be made, with the folders above it."""
    path = Path(text)
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir():
        raise ArgumentTypeError(f"expected a folder, and {there} is a file")
    if not os.access(there, os.W_OK):
        raise ArgumentTypeError(f"{there} cannot be written to; give another place")
    return path
