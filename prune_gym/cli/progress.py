"""Progress bars and log lines of the commands."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from prune_gym._utils.formatting import printable
from prune_gym._utils.progress import OnProgress


def progress_bar(console: Console | None = None, figures: str = "") -> Progress:
    """Return a bar with a description, a count and the remaining, in the end the elapsed, time.

    ``figures`` stands behind the count, such as ``"front {task.fields[front]}"``.
    """
    return Progress(
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
