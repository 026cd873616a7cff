"""Check the environment's arguments in a strategy of unknown origin.

They are checked before anything is made of them: names are text, numbers are finite and of a size
that a machine can work with. Whether they fit the environment is the environment's to say.
"""

import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from prune_gym.errors import UserError

LARGEST = 1_000_000


def check_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, where each is of its kind.

    Raises:
        UserError: an argument is unknown, or of the wrong type; the message says which.
    """
    for name, value in kwargs.items():
        if name not in KINDS:
            raise UserError(
                f"the strategy's env_kwargs do not fit: unknown argument {reprlib.repr(name)}"
            )
        expected, fits = KINDS[name]
        if not fits(value):
            raise UserError(
                f"the strategy's env_kwargs do not fit: {name}: expected {expected}, got "
                f"{reprlib.repr(value)}"
            )
    return dict(kwargs)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST


def _is_whole_or_none(value: Any) -> bool:
    return value is None or _is_whole(value)


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= LARGEST
    return type(value) is float and math.isfinite(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _are_texts_or_none(value: Any) -> bool:
    return value is None or _are_texts(value)


def _are_whole(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_whole, value))


def _are_budgets(value: Any) -> bool:
    return value is None or (
        isinstance(value, Mapping)
        and all(map(_is_text, value))
        and all(map(_is_number, value.values()))
    )


def _are_shares(value: Any) -> bool:
    return _is_number(value) or (value is not None and _are_budgets(value))


TEXT = ("a name", _is_text)
TEXT_OR_NONE = ("a name or null", _is_text_or_none)
TEXTS = ("a list of names", _are_texts)
WHOLE = (f"a whole number from 1 to {LARGEST:,}", _is_whole)
TEXTS_OR_NONE = ("a list of names or null", _are_texts_or_none)
NUMBER = ("a finite number", _is_number)

# argument -> what is expected, and whether a value is that
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "network": TEXT,
    "data": TEXT,
    "objectives": TEXTS_OR_NONE,
    "budgets": ("an object of finite numbers", _are_budgets),
    "latency": TEXT_OR_NONE,
    "energy": TEXT,
    "dataflow": TEXT,
    "coding": TEXT,
    "repair": TEXT,
    "library": TEXT_OR_NONE,
    "reward": TEXT,
    "decide": TEXTS,
    "min_keep": ("a finite number, or an object of finite numbers", _are_shares),
    "round_to": WHOLE,
    "min_density": NUMBER,
    "granularity": WHOLE,
    "bits": ("a list of whole numbers", _are_whole),
    "exclude": TEXTS,
    "include": TEXTS_OR_NONE,
    "batch_size": WHOLE,
    "calibration_images": WHOLE,
    "discrete": (f"a whole number from 1 to {LARGEST:,} or null", _is_whole_or_none),
    "render_mode": TEXT_OR_NONE,
    "table": TEXT,
}
