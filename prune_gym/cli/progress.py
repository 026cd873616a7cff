"""Progress bars and log lines of the commands."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from prune_gym._utils.formatting import printable
from prune_gym._utils.progress import OnProgress

SECONDS_BETWEEN_LINES = 30.0


class _Bars(Progress):
    """Bars on a terminal; elsewhere, such as in a log file, a line now and then."""

    _printed = float("-inf")

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Move a bar, and print lines where nobody sees the bars."""
        super().update(task_id, **changes)
        seen = self.console.is_terminal or self.console.is_jupyter
        now = time.monotonic()
        if self.live.is_started and not seen and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            for task in self.tasks:
                self.console.print(_line(task), markup=False, highlight=False, soft_wrap=True)


def _line(task: Task) -> str:
    if not task.completed or task.total is None:
        return f"{task.description}: {task.completed:.0f} done"
    elapsed = task.elapsed or 0.0
    left = elapsed / task.completed * (task.total - task.completed)
    return (
        f"{task.description}: {task.completed:.0f} of {task.total:.0f} in {elapsed:.0f} s, "
        f"about {left:.0f} s left"
    )


def progress_bar(console: Console | None = None, figures: str = "") -> Progress:
    """Return a bar with a description, a count and the remaining, in the end the elapsed, time.

    Where the console is no terminal, lines every half minute take its place.

    ``figures`` stands behind the count, such as ``"front {task.fields[front]}"``.
    """
    return _Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TextColumn(figures)] if figures else []),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )


@contextmanager
def shown_progress(console: Console, description: str) -> Iterator[OnProgress]:
    """Show a bar while the block runs; yield the callback that moves it."""
    with progress_bar(console) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def shown_log(console: Console) -> Iterator[None]:
    """Print what the package logs while the block runs, above a bar where there is one."""
    logger, handler = logging.getLogger("prune_gym"), _Lines(console)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    """Prints records as lines of a console, warnings in yellow."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        text = printable(record.getMessage())
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
