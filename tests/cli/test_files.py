"""Files are written whole or not at all, and what goes wrong with them names them."""

import json
import resource
import subprocess
import sys

import pytest
import torch

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import write_atomically
from prune_gym.cli import main
from prune_gym.errors import FileAccessError, UserError
from prune_gym.training.checkpoint import load_checkpoint, save_checkpoint
from prune_gym.training.history import History


@pytest.fixture
def small_files():
    """Let no file grow beyond a kilobyte, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, small_files):
    file = tmp_path / "figures.json"
    write_atomically(file, b"old")
    with pytest.raises(FileAccessError, match=r"figures\.json .*File too large"):
        write_atomically(file, bytes(5000))
    assert file.read_bytes() == b"old" and names(tmp_path) == ["figures.json"]


def test_a_file_in_the_place_of_a_folder_and_the_other_way_round(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "one.json", tmp_path / "folder"):
        with pytest.raises(FileAccessError, match=str(path)):
            write_atomically(path, b"new")
    assert names(tmp_path) == ["file", "folder"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    kills_itself = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from prune_gym._utils.paths import new_file\n"
        "with new_file(Path(sys.argv[1])) as file:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    file = tmp_path / "one.json"
    subprocess.run([sys.executable, "-c", kills_itself, str(file)])
    assert len(names(tmp_path)) == 1
    write_atomically(tmp_path / "other.json", b"")
    assert len(names(tmp_path)) == 2  # another file's is not touched
    write_atomically(file, b"whole")
    assert names(tmp_path) == ["one.json", "other.json"]


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path, small_files):
    file, device = tmp_path / "checkpoint", torch.device("cpu")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(1)[1]))
    save_checkpoint(file, {"recipe": "one"}, {"epoch": 1})
    with pytest.raises(FileAccessError, match="checkpoint"):
        save_checkpoint(file, {"recipe": "one"}, {"epoch": 2, "weights": torch.zeros(50_000)})
    assert load_checkpoint(file, {"recipe": "one"}, device) == {"epoch": 1}


def test_a_log_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "board").write_text("")
    history = History(tmp_path / "board")
    with pytest.raises(FileAccessError, match="board"):
        history.add({"search_accuracy": 0.5}, torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"\xff\xfe", "is not a text file in UTF-8"),
        (b"9" * 5000, "is not JSON"),
    ],
)
def test_what_is_no_json_is_named(tmp_path, content, message):
    file = tmp_path / "foreign.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"foreign.json.*{message}|foreign.json {message}"):
        read_json(file)


def test_json_is_read_as_it_is(tmp_path):
    write_atomically(tmp_path / "deep" / "one.json", json.dumps({"a": [1, 2.5, "é"]}).encode())
    assert read_json(tmp_path / "deep" / "one.json") == {"a": [1, 2.5, "é"]}


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch):
    """Only what the user can put right is one line; a mistake of the code is not hidden."""
    for error in (ValueError, OSError, ImportError, KeyError):

        def broken(options, error=error):
            raise error("a mistake in the code")

        monkeypatch.setattr("prune_gym.experiments.results.read_results", broken)
        with pytest.raises(error, match="a mistake in the code"):
            main(["report", "run"])


def test_ctrl_c_while_options_are_read_is_one_line(monkeypatch, capsys):
    def stops():
        raise KeyboardInterrupt

    monkeypatch.setattr("prune_gym.cli.make_parser", stops)
    assert main(["envs"]) == 130
    printed = capsys.readouterr().err.strip().splitlines()
    assert printed == ["error: interrupted; what was finished is kept: give the same command again"]
