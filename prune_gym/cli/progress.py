"""Progress bars and log lines of the commands."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
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

SECONDS_BETWEEN_LINES = 10.0


class ProgressBars(Progress):
    """Bars on a terminal; elsewhere lines now and then, and always lines in a log file."""

    def __init__(
        self, console: Console, figures: Sequence[str] = (), log: Path | None = None
    ) -> None:
        """Show on ``console``.

        Args:
            console: a bar has a description, a count and the remaining time. Where the console is
                no terminal, a line every ten seconds takes its place, and a last one at the end.
            figures: what stands behind the count, such as ``"front {task.fields[front]}"``.
            log: a file that the same lines are appended to, whatever the console is.
        """
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *([TextColumn("  ".join(figures))] if figures else []),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self._figures, self._log = figures, log
        self._written, self._lines = float("-inf"), list[str]()
        self._counted: dict[TaskID, str] = {}  # what the count of a bar that stands still is of

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Move a bar, and write lines if it is time and more is completed."""
        super().update(task_id, **changes)
        if "completed" in changes and time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._write()

    def begin(self, task_id: TaskID, description: str) -> None:
        """Say what is done now, where the bar stands still: on the bar, and as a line."""
        self._write()
        self._counted.setdefault(task_id, self._tasks[task_id].description)
        super().update(task_id, description=description)
        self._print(description)

    def stop(self) -> None:
        """End the display; the last lines are always written."""
        super().stop()
        self._write()

    def note(self, text: str) -> None:
        """Append a line to the log file alone."""
        if self._log:
            with suppress(OSError), self._log.open("a") as file:  # such as a full disk
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _write(self) -> None:
        """Write a line per task that has begun, unless it stands there."""
        lines = [self._line(task) for task in self.tasks if task.completed]
        if lines == self._lines:
            return
        self._written, self._lines = time.monotonic(), lines
        for line in lines:
            self._print(line)

    def _print(self, line: str) -> None:
        self.note(line)
        if self.disable:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _line(self, task: Task) -> str:
        elapsed = (task.finished_time if task.finished else task.elapsed) or 0.0
        counted = self._counted.get(task.id, task.description)
        said = [f"{counted}: {task.completed:.0f} of {task.total:.0f} in {elapsed:.0f} s"]
        said += [figure.format(task=task) for figure in self._figures]
        if task.remaining:
            said.append(f"about {elapsed / task.completed * task.remaining:.0f} s left")
        return ", ".join(said)


@contextmanager
def shown_progress(console: Console, description: str) -> Iterator[OnProgress]:
    """Show a bar while the block runs; yield the callback that moves it."""
    with ProgressBars(console) as progress:
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
