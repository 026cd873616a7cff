"""What the command lines do where something goes wrong."""

import warnings
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from prune_gym.importing import WrongKindError
from prune_gym.runs.folder import RunError
from prune_gym.runs.journal import JournalError

EXPECTED = (ValueError, ImportError, OSError, RunError, JournalError, WrongKindError)
GYMNASIUM_ADDS = " was raised from the environment creator for "  # and every argument


def guarded(run: Callable[[], int], console: Console) -> int:
    """Run a command and return its exit status.

    What people can put right, and Ctrl-C, is one line without a traceback, and the status is 2.
    Warnings are lines of ``console``, without the place in the code.
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
        message = str(error).partition(GYMNASIUM_ADDS)[0]
    Console(stderr=True).print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return 2
