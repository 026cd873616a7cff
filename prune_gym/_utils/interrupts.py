"""Let Ctrl-C wait until something is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Hold back a first Ctrl-C until the block has ended; a second one is not held back.

    A ``KeyboardInterrupt`` in the middle of a queue that another thread reads, such as that of
    TensorBoard's writer, can leave it so that closing it waits forever.
    """
    heard = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(heard):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if held:
            heard(number, frame)
        held.append((number, frame))

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)
        if held:
            heard(*held[0])
