"""How far long work is: a bar on a terminal, elsewhere lines."""

import re
from io import StringIO

from rich.console import Console

from prune_gym.cli.progress import ProgressBars, shown_progress


def test_a_file_gets_lines_instead_of_a_bar() -> None:
    shown = StringIO()
    with shown_progress(Console(file=shown, width=20), "training") as on_progress:
        on_progress(1, 4)
        on_progress(2, 4)  # within ten seconds: no line
        on_progress(3, 4)
        assert _lines(shown.getvalue()) == ["training: 1 of 4 in _ s, about _ s left"]
    assert _lines(shown.getvalue())[1:] == ["training: 3 of 4 in _ s, about _ s left"]


def test_nothing_is_written_before_anything_is_done() -> None:
    shown = StringIO()
    with shown_progress(Console(file=shown), "training"):
        pass
    assert not shown.getvalue()


def test_the_log_file_gets_the_lines_beside_a_bar(tmp_path) -> None:
    terminal, log = StringIO(), tmp_path / "train.log"
    console = Console(file=terminal, force_terminal=True, color_system=None, width=80)
    with ProgressBars(console, ("front {task.fields[front]}",), log) as progress:
        progress.note("started")
        episodes = progress.add_task("episodes", total=2, front=0)
        progress.update(episodes, completed=1, front=1)
        progress.update(episodes, completed=2, front=5)
        progress.begin(episodes, "finishing")
        progress.update(episodes, description="episodes")
    assert [line[len("2026-01-01 00:00:00 ") :] for line in _lines(log.read_text())] == [
        "started",
        "episodes: 1 of 2 in _ s, front 1, about _ s left",
        "episodes: 2 of 2 in _ s, front 5",
        "finishing",
    ]
    assert "━━ 2/2 front 5" in terminal.getvalue()
    assert "2 of 2" not in terminal.getvalue()


def _lines(text: str) -> list[str]:
    return re.sub(r"\d+ s\b", "_ s", text).splitlines()
