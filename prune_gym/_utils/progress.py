"""The progress bar of everything that takes long."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console | None = None, figures: str = "") -> Progress:
    """Return a bar with a description, a count and the time that is left, in the end that it took.

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
