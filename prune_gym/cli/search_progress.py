"""How far a search is: on a terminal a bar, elsewhere lines, and always lines in a log file."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from prune_gym.cli.progress import progress_bar

FIGURES = "hypervolume {task.fields[hypervolume]:.4f}  front {task.fields[front]}"
LOG_EVERY, PRINT_EVERY = 5.0, 10.0  # seconds


class SearchProgress:
    """Shows finished episodes, hypervolume and the front's size."""

    def __init__(self, console: Console, log: Path, total: int) -> None:
        """Show on ``console``, and append to the file ``log``."""
        self._console, self._log, self._total = console, log, total
        self._bar = progress_bar(console, FIGURES)
        self._task = self._bar.add_task("episodes", total=total, hypervolume=0.0, front=0)
        self._started = time.monotonic()
        self._logged = self._printed = float("-inf")
        self._line = self._last_logged = self._last_printed = ""

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Show until the end of the block; its last line is always written."""
        self._started = time.monotonic()
        try:
            with self._bar if self._console.is_terminal else contextlib.nullcontext():
                yield
        finally:
            self._write(last=True)

    def update(self, episode: int, hypervolume: float, front: int) -> None:
        """Tell of one more finished episode."""
        ended = episode == self._total
        self._bar.update(self._task, completed=episode, hypervolume=hypervolume, front=front)
        self.describe("finishing the agent" if ended else "episodes")
        seconds = time.monotonic() - self._started
        self._line = (
            f"{episode} of {self._total} episodes in {seconds:.0f} s, "
            f"hypervolume {hypervolume:.4f}, front {front}"
        )
        if not ended:
            self._line += f", about {seconds / episode * (self._total - episode):.0f} s left"
        self._write(last=False)

    def describe(self, work: str) -> None:
        """Show on the bar what is being done."""
        self._bar.update(self._task, description=work)

    def note(self, text: str) -> None:
        """Append a line to the log file alone."""
        with contextlib.suppress(OSError), self._log.open("a") as file:  # such as a full disk
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _write(self, last: bool) -> None:
        """Write the latest line once, where it is its time."""
        now, line = time.monotonic(), self._line
        if line != self._last_logged and (last or now - self._logged >= LOG_EVERY):
            self._logged, self._last_logged = now, line
            self.note(line)
        if self._console.is_terminal or line == self._last_printed:
            return
        if last or now - self._printed >= PRINT_EVERY:
            self._printed, self._last_printed = now, line
            self._console.print(line, highlight=False, soft_wrap=True)
