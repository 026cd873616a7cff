"""The type of callback that long work reports its progress to."""

from collections.abc import Callable

OnProgress = Callable[[int, int], None]  # (done, total), in steps of any size


def ignore_progress(done: int, total: int) -> None:
    """Do nothing: the default where nobody watches."""
