"""The type of callback that long work reports its progress to."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

OnProgress = Callable[[int, int], None]  # (done, total), in steps of any size


def ignore_progress(done: int, total: int) -> None:
    """Do nothing: the default where nobody watches."""


def reported(items: Iterable[Item], total: int, on_progress: OnProgress) -> Iterator[Item]:
    """Yield the items, and report after each how many of ``total`` are done."""
    for done, item in enumerate(items, 1):
        yield item
        on_progress(done, total)
