"""What the command lines do where something goes wrong."""

import os
import signal
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.markup import escape

from prune_gym.errors import RunError, UserFunctionTypeError
from prune_gym.experiments.journal import JournalError
from prune_gym_start import INTERRUPTED, end_at_once

EXPECTED = (ValueError, ImportError, OSError, RunError, JournalError, UserFunctionTypeError)
GYMNASIUM_ADDS = " was raised from the environment creator for "  # and every argument
OURS = {"prune_gym", "agents", "envs_registry", "prune_gym_start", "train", "__main__"}
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def guarded(run: Callable[[], int], console: Console) -> int:
    """Run a command and return its exit status.

    What people can put right is one line without a traceback, and the status is 2; where a module
    of their own raised it, the line ends with the place. Ctrl-C is one line too, and the status is
    130. Warnings are lines of ``console``, without the place in the code.
    """
    status = 2
    try:
        with warnings.catch_warnings(), _interruptible():
            warnings.showwarning = lambda message, *_, **__: console.print(
                f"[yellow]{escape(str(message))}"
            )
            return run()
    except KeyboardInterrupt:
        message = "interrupted; what was finished is kept: give the same command again"
        status = INTERRUPTED
    except EXPECTED as error:
        message = str(error).partition(GYMNASIUM_ADDS)[0] + _place_in_own_code(error)
    Console(stderr=True).print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return status


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let the first Ctrl-C raise ``KeyboardInterrupt`` and a second one end the process.

    One that comes while a module is imported ends the process too: there is nothing to tidy up,
    and libraries make other errors of an exception then.
    """
    unheard = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if unheard or threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(signal_number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, end_at_once)
        if _importing(frame):
            end_at_once(signal_number, frame)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


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
