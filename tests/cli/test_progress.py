"""How far long work is, where nobody sees a bar."""

from io import StringIO

from rich.console import Console

from prune_gym.cli.progress import shown_progress


def test_a_log_file_gets_lines_instead_of_a_bar() -> None:
    log = StringIO()
    with shown_progress(Console(file=log, width=20), "training") as on_progress:
        on_progress(1, 4)
        on_progress(2, 4)  # within half a minute: no second line
        written = log.getvalue().splitlines()
    assert len(written) == 1
    assert written[0].startswith("training: 1 of 4 in ")
