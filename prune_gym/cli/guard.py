"""End a command with one line where the user can put it right."""

import os
import signal
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rich.console import Console
from rich.text import Text

from prune_gym._utils.formatting import printable
from prune_gym.errors import UserError
from prune_gym_start import INTERRUPTED, end_at_once

GYMNASIUM_ADDS = " was raised from the environment creator for "  # and every argument
OURS = {"prune_gym", "agents", "envs_registry", "prune_gym_start", "train", "__main__"}
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


def guarded(run: Callable[[], int], console: Console) -> int:
    """Run a command and return its exit status.

    A `UserError` is one line and status 2, Ctrl-C one line and status 130; every other error keeps
    its traceback. Where the user's own module led to a `UserError`, the line ends with the place.
    Warnings are lines of ``console``, without the place in the code.
    """
    try:
        try:
            with warnings.catch_warnings(), _interruptible():
                warnings.showwarning = lambda message, *_, **__: console.print(
                    printable(str(message)), style="yellow", markup=False
                )
                return run()
        except UserError as error:
            message = str(error).partition(GYMNASIUM_ADDS)[0] + _place_in_own_code(error)
            return _end(message, 2)
    except KeyboardInterrupt:
        with suppress(KeyboardInterrupt):  # a second one changes nothing
            _end("interrupted; what was finished is kept: give the same command again", INTERRUPTED)
        return INTERRUPTED


def _end(message: str, status: int) -> int:
    """Print why a command ends; return its exit status."""
    text = Text.assemble(("error:", "red"), " ", printable(message))
    Console(stderr=True).print(text, soft_wrap=True)
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
    """Return where the user's own module raised an error, or led to it; "" where none did."""
    while error is not None:
        for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
            module = frame.f_globals.get("__name__", "").partition(".")[0]
            file = frame.f_code.co_filename
            if module not in OURS and not file.startswith(LIBRARIES) and os.path.isfile(file):
                return f" ({file}:{line}, in {frame.f_code.co_name})"
        error = error.__cause__
    return ""
