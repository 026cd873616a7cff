"""Networks, data and agents of one's own, named by strings: ``package.module:function``."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from prune_gym.errors import UserError, UserFunctionTypeError


def import_for(module: str, what: str) -> ModuleType:
    """Import a module of somebody's own; ``what`` says in messages what it is for.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what}: module {module!r} cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error


def find_function(name: str, what: str, which: str) -> Callable:
    """Return the function called ``package.module:function``.

    ``what`` says in messages what the name stands for, ``which`` what the function does.

    Raises:
        UserError: no such module or function; the message names what is missing.
    """
    module_name, _, attribute = name.partition(":")
    function = getattr(import_for(module_name, f"{what} {name!r}"), attribute, None)
    if not callable(function):
        raise UserError(
            f"{what} {name!r}: {module_name} has no function {attribute!r}; expected "
            f"'package.module:function' {which}"
        )
    return function


def call_named(name: str, kinds: tuple[type, ...], what: str) -> Any:
    """Return what the function called ``package.module:function`` returns.

    It must be an instance of one of ``kinds``; ``what`` says in messages what the name stands for.

    Raises:
        UserError: no such module or function; the message names what is missing.
        WrongKindError: the function returned something else.
    """
    expected = " or ".join(kind.__name__ for kind in kinds)
    made = find_function(name, what, f"that returns a {expected}")()
    if not isinstance(made, kinds):
        raise UserFunctionTypeError(
            f"{what} {name!r}: expected a {expected} from the function, got {type(made).__name__}"
        )
    return made
