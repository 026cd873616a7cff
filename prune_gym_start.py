"""Start the command line: from the first import on, Ctrl-C ends it with one line.

It stands beside the package because importing anything in the package takes a moment already.
"""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells count
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


def end_at_once(signal_number: int, frame: FrameType | None) -> None:
    """End the process on Ctrl-C with one line; what is on the disk is whole at any moment."""
    if os.isatty(2):
        os.write(2, SHOW_CURSOR)
    os.write(2, b"error: interrupted; what was finished is kept\n")
    os._exit(INTERRUPTED)


def main(arguments: list[str] | None = None) -> int:
    """Run the command ``prune-gym``; returns the exit status."""
    # Before torch is loaded. Threads that wait in a loop for each other hold the processor that
    # another program keeps them waiting for: beside one that is busy, two such threads evaluate
    # VGG16 twice as slowly as two that sleep; alone they are as fast.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a shell's background
        signal.signal(signal.SIGINT, end_at_once)
    from prune_gym.cli import main as run

    return run(sys.argv[1:] if arguments is None else arguments)
