"""What the command lines do where something goes wrong."""

import os
import sysconfig
import traceback
import warnings
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from prune_gym.errors import RunError, UserFunctionTypeError
from prune_gym.experiments.journal import JournalError

EXPECTED = (ValueError, ImportError, OSError, RunError, JournalError, UserFunctionTypeError)
GYMNASIUM_ADDS = " was raised from the environment creator for "  # and every argument
OURS = {"prune_gym", "agents", "envs_registry", "train", "__main__"}
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def guarded(run: Callable[[], int], console: Console) -> int:
    """Run a command and return its exit status.

    What people can put right, and Ctrl-C, is one line without a traceback, and the status is 2;
    where a module of their own raised it, the line ends with the place. Warnings are lines of
    ``console``, without the place in the code.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: console.print(
                f"[yellow]{escape(str(message))}"
            )
            return run()
    except KeyboardInterrupt:
        message = "interrupted; what was finished is kept: give the same command again"
    except EXPECTED as error:
        message = str(error).partition(GYMNASIUM_ADDS)[0] + _place_in_own_code(error)
    Console(stderr=True).print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return 2


def _place_in_own_code(error: BaseException | None) -> str:
    """Return where somebody's own module raised an error, or led to it; "" where none did."""
    while error is not None:
        for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
            module = frame.f_globals.get("__name__", "").partition(".")[0]
            file = frame.f_code.co_filename
            if module not in OURS and not file.startswith(LIBRARIES) and os.path.isfile(file):
                return f" ({file}:{line}, in {frame.f_code.co_name})"
        error = error.__cause__
    return ""
