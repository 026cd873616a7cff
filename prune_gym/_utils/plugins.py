"""Import the user's own networks, data and agents by name: ``package.module:function``."""

import importlib
import shlex
from collections.abc import Callable
from types import ModuleType
from typing import Any

from prune_gym.errors import UserError, UserFunctionTypeError, first_line


def import_for(module: str, what: str) -> ModuleType:
    """Import a module of the user; ``what`` says in messages what it is for.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what}: module {module!r} cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error
    except Exception as error:
        raise UserError(f"{what}: module {module!r} {_raised(error)} when imported") from error


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
        UserFunctionTypeError: the function returned something else.
    """
    expected = " or ".join(kind.__name__ for kind in kinds)
    function = find_function(name, what, f"that returns a {expected}")
    try:
        made = function()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} {name!r} {_raised(error)}") from error
    if not isinstance(made, kinds):
        raise UserFunctionTypeError(
            f"{what} {name!r}: expected a {expected} from the function, got {type(made).__name__}"
        )
    return made


def not_called(source: str, named: str, option: str) -> UserError:
    """Return the error for a function that a file names: only the user names code to run.

    ``source`` says in the message which file it is, ``option`` where the user gives the name.
    """
    return UserError(
        f"{source} names the function {named!r}, and a function that a file names is not called. "
        f"If you trust it, give it again: --{option} {shlex.quote(named)} on the command line, "
        f"{option}={named!r} in Python"
    )


def _raised(error: Exception) -> str:
    return f"raised {type(error).__name__}: {first_line(error)}"
