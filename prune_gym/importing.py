"""Networks and data of one's own, named by strings: ``package.module:function``."""

import importlib
from types import ModuleType
from typing import Any


class WrongKindError(TypeError):
    """A named function returned something else than was asked for."""


def import_for(module: str, what: str) -> ModuleType:
    """Import a module of somebody's own; ``what`` says in messages what it is for.

    Raises:
        ValueError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what}: module {module!r} cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error


def call_named(name: str, kinds: tuple[type, ...], what: str) -> Any:
    """Return what the function called ``package.module:function`` returns.

    It must be an instance of one of ``kinds``; ``what`` says in messages what the name stands for.

    Raises:
        ValueError: no such module or function; the message names what is missing.
        WrongKindError: the function returned something else.
    """
    module_name, _, attribute = name.partition(":")
    expected = " or ".join(kind.__name__ for kind in kinds)
    module = import_for(module_name, f"{what} {name!r}")
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(
            f"{what} {name!r}: {module_name} has no function {attribute!r}; expected "
            f"'package.module:function' that returns a {expected}"
        )
    made = function()
    if not isinstance(made, kinds):
        raise WrongKindError(
            f"{what} {name!r}: expected a {expected} from the function, got {type(made).__name__}"
        )
    return made
