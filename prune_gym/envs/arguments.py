"""Check the environment's arguments, those of a call and those in a strategy of unknown origin.

They are checked before anything is made of them: names are text, numbers are finite and of a size
that a machine can work with. Whether they fit the environment is the environment's to say.
"""

import math
import os
import reprlib
from collections.abc import Callable, Collection, Mapping
from numbers import Real
from typing import Any

import numpy as np

from prune_gym.errors import UserError

LARGEST = 1_000_000


def check_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a strategy, where each is of its kind.

    Raises:
        UserError: an argument is unknown, or of the wrong type; the message says which.
    """
    for name, value in kwargs.items():
        if name not in KINDS:
            raise UserError(
                f"the strategy's env_kwargs do not fit: unknown argument {reprlib.repr(name)}"
            )
        if wrong := _what_is_wrong(name, value):
            raise UserError(f"the strategy's env_kwargs do not fit: {wrong}")
    return dict(kwargs)


def check_types(**arguments: Any) -> None:
    """Refuse arguments of a call that are not of their kind.

    Raises:
        UserError: names the argument, what it takes and what came.
    """
    for name, value in arguments.items():
        if wrong := _what_is_wrong(name, value):
            raise UserError(wrong)


def _what_is_wrong(name: str, value: Any) -> str:
    """Return what an argument takes and what came, "" where it is of its kind."""
    expected, fits = KINDS[name]
    if fits(value):
        return ""
    shown = reprlib.repr(value)
    hint = f"; give [{shown}]" if "list of names" in expected and _is_text(value) else ""
    return f"{name}: expected {expected}, got {shown}{hint}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_path_or_none(value: Any) -> bool:
    return isinstance(value, str | os.PathLike | None)


def _is_whole(value: Any) -> bool:
    is_whole = isinstance(value, int | np.integer) and type(value) is not bool
    return is_whole and 0 < value <= LARGEST


def _is_whole_or_none(value: Any) -> bool:
    return value is None or _is_whole(value)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, Real) and type(value) is not bool
    return is_real and abs(value) <= LARGEST and math.isfinite(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, Collection) and not _is_text(value) and all(map(_is_text, value))


def _are_texts_or_none(value: Any) -> bool:
    return value is None or _are_texts(value)


def _are_whole(value: Any) -> bool:
    return isinstance(value, Collection) and all(map(_is_whole, value))


def _are_budgets(value: Any) -> bool:
    return value is None or (
        isinstance(value, Mapping)
        and all(map(_is_text, value))
        and all(map(_is_number, value.values()))
    )


def _are_shares(value: Any) -> bool:
    return _is_number(value) or (value is not None and _are_budgets(value))


TEXT = ("a name", _is_text)
TEXT_OR_NONE = ("a name or none", _is_path_or_none)
TEXTS = ("a list of names", _are_texts)
WHOLE = (f"a whole number from 1 to {LARGEST:,}", _is_whole)
TEXTS_OR_NONE = ("a list of names or none", _are_texts_or_none)
NUMBER = ("a finite number", _is_number)

# argument -> what is expected, and whether a value is that
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "network": TEXT,
    "data": TEXT,
    "objectives": TEXTS_OR_NONE,
    "budgets": ('finite numbers by name, such as {"flops": 0.5}', _are_budgets),
    "latency": TEXT_OR_NONE,
    "energy": TEXT,
    "dataflow": TEXT,
    "coding": TEXT,
    "repair": TEXT,
    "library": TEXT_OR_NONE,
    "reward": TEXT,
    "decide": TEXTS,
    "min_keep": ("a finite number, or finite numbers by layer", _are_shares),
    "round_to": WHOLE,
    "min_density": NUMBER,
    "granularity": WHOLE,
    "bits": ("a list of whole numbers", _are_whole),
    "exclude": TEXTS,
    "include": TEXTS_OR_NONE,
    "batch_size": WHOLE,
    "calibration_images": WHOLE,
    "discrete": (f"a whole number from 1 to {LARGEST:,} or none", _is_whole_or_none),
    "render_mode": TEXT_OR_NONE,
    "table": TEXT,
}
