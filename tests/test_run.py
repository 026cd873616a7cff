import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from prune_gym.run import RunFolder, journal_line, read_journal
from prune_gym.strategy import load_strategy

# Small candidates are quick ones.
SMALL = ["--budget", "flops=0.05", "--seed", "3"]


def run(folder, *more, agent="random", episodes=4):
    arguments = ["--agent", agent, "--episodes", str(episodes), "--run", str(folder)]
    return train.main([*arguments, *SMALL, *more])


def words(text):
    """Undo the console's line breaks."""
    return " ".join(text.split())


def contents(folder):
    strategies = {path.name: path.read_text() for path in (folder / "front").glob("*.json")}
    names = ("evaluations.jsonl", "front.csv", "config.json")
    return strategies | {name: (folder / name).read_text() for name in names}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of the main agent."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(folder, agent="envelope-ddpg", episodes=6) == 0
    return folder


def test_what_a_run_leaves(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["agent"] == "envelope-ddpg" and config["seed"] == 3
    assert config["env_kwargs"]["budgets"] == {"flops": 0.05}
    records, warning = read_journal(finished / "evaluations.jsonl")
    assert len(records) == 6 and warning == ""
    rows = list(csv.DictReader((finished / "front.csv").open()))
    assert 1 <= len(rows) <= 6
    for row in rows:
        strategy = load_strategy(finished / row["strategy"])
        assert strategy.metrics["accuracy"] == float(row["accuracy"])
        assert all(int(row[group]) == kept for group, kept in strategy.widths.items())
        assert strategy.as_dict() in [load(record) for record in records]
    assert len(list((finished / "front").iterdir())) == len(rows)
    assert Image.open(finished / "front.png").size > (300, 300)
    assert (finished / "agent.zip").stat().st_size > 10_000
    accuracies = [float(row["accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)


def load(record):
    return json.loads(json.dumps(record["strategy"]))


def test_no_strategy_of_the_front_exceeds_the_budget(finished):
    env = gym.make("ChannelPrune-VGG16-v0")
    limit = 0.05 * env.unwrapped.original_metrics["flops"]
    assert all(float(r["flops"]) <= limit for r in csv.DictReader((finished / "front.csv").open()))


def test_what_tensorboard_shows(finished):
    board = EventAccumulator(str(finished))
    board.Reload()
    scalars = set(board.Tags()["scalars"])
    assert {f"reward/{name}" for name in ("accuracy", "flops", "latency", "memory")} <= scalars
    assert {"metrics/accuracy", "metrics/latency_ms", "front/hypervolume", "front/size"} <= scalars
    assert any(name.startswith("train/") and "loss" in name for name in scalars)
    assert [event.step for event in board.Scalars("reward/accuracy")] == [1, 2, 3, 4, 5, 6]
    volumes = [event.value for event in board.Scalars("front/hypervolume")]
    assert volumes == sorted(volumes) and volumes[-1] > 0
    assert board.Tags()["images"] == ["front"]
    assert "decisions/keep_ratio" in board.Tags()["histograms"]


def test_the_saved_agent_acts(finished):
    from agents.envelope_ddpg import EnvelopeDDPG

    agent = EnvelopeDDPG.load(finished / "agent.zip")
    observation, _ = gym.make("ChannelPrune-VGG16-v0").reset()
    action, _ = agent.predict(observation, {"accuracy": 0.7, "flops": 0.3})
    assert action.shape == (1,) and np.abs(action) <= 1


@pytest.mark.parametrize("agent", ["envelope-ddpg", "sb3:SAC"])
def test_resume_after_kill_9_gives_the_same(agent, finished, tmp_path, subprocess_env):
    whole = finished
    if agent != "envelope-ddpg":
        whole = tmp_path / "whole"
        assert run(whole, agent=agent, episodes=6) == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "train.py", "--agent", agent, "--episodes", "6", *SMALL]
    process = subprocess.Popen(
        [*command, "--run", str(killed)],
        cwd=Path(train.__file__).parent,
        env=subprocess_env,
        stdout=subprocess.DEVNULL,
    )
    journal, end = killed / "evaluations.jsonl", time.monotonic() + 120
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 3 <= len(read_journal(journal)[0]) <= 6
    assert run(killed, "--resume", agent=agent, episodes=6) == 0
    assert contents(killed) == contents(whole)


def test_resuming_a_finished_run_changes_nothing(finished, capsys):
    before = contents(finished)
    assert run(finished, "--resume", agent="envelope-ddpg", episodes=6) == 0
    assert contents(finished) == before
    assert "Resuming: 6 finished episodes" in words(capsys.readouterr().out)


def test_a_truncated_line_falls_back_and_says_so(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = contents(folder)
    journal = folder / "evaluations.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    capsys.readouterr()
    assert run(folder, "--resume") == 0
    printed = words(capsys.readouterr().out)
    assert "is damaged after episode 3; going on from there (1 line(s) dropped)" in printed
    assert contents(folder) == before


def test_garbage_in_the_middle_of_the_journal(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = contents(folder)
    lines = (folder / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:30] + b"\x00\xff\n\n" + lines[1][40:]
    (folder / "evaluations.jsonl").write_bytes(b"".join(lines))
    assert run(folder, "--resume") == 0
    assert "damaged after episode 1" in words(capsys.readouterr().out)
    assert contents(folder) == before


def test_a_journal_of_another_course_is_told(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    records, _ = read_journal(folder / "evaluations.jsonl")
    records[2]["strategy"]["decisions"][0]["kept"] += 8
    (folder / "evaluations.jsonl").write_bytes(b"".join(journal_line(r) for r in records))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(folder, "--resume") == 0
    assert "from episode 3 on this run differs" in words(capsys.readouterr().out)


def test_an_existing_run_needs_resume(finished, capsys):
    before = contents(finished)
    assert run(finished, agent="envelope-ddpg", episodes=6) == 2
    assert re.search("already holds a run.*--resume", words(capsys.readouterr().err))
    assert contents(finished) == before


def test_other_settings_are_refused(finished, capsys):
    assert run(finished, "--resume", agent="envelope-ddpg", episodes=7) == 2
    assert re.search(r"other settings \(episodes 6 -> 7\)", words(capsys.readouterr().err))
    assert run(finished, "--resume", agent="random", episodes=6) == 2
    assert "agent 'envelope-ddpg' -> 'random'" in words(capsys.readouterr().err)


def test_two_runs_into_one_folder(tmp_path, capsys):
    folder = RunFolder(tmp_path / "run", {}, resume=False)
    assert run(tmp_path / "run") == 2
    assert "in use by another run; give another --run" in words(capsys.readouterr().err)
    folder.close()


def test_a_full_disk_loses_no_finished_episode(tmp_path, capsys, monkeypatch):
    folder, opened = tmp_path / "run", RunFolder.open_journal

    class FillsUp:
        """A journal whose disk has room for two episodes."""

        def __init__(self, journal):
            self._journal, self._full = journal, open("/dev/full", "wb", buffering=0)  # noqa: SIM115
            self.name = journal.name

        def write(self, line):
            written = Path(self.name).read_bytes().count(b"\n")
            return (self._journal if written < 2 else self._full).write(line)

        def flush(self):
            self._journal.flush()

        def fileno(self):
            return self._journal.fileno()

        def close(self):
            self._journal.close()
            self._full.close()

    monkeypatch.setattr(RunFolder, "open_journal", lambda self: FillsUp(opened(self)))
    assert run(folder) == 2
    message = words(capsys.readouterr().err)
    assert re.search("cannot write .*No space left.*2 episodes.*are kept.*--resume", message)
    assert len(read_journal(folder / "evaluations.jsonl")[0]) == 2
    monkeypatch.undo()
    assert run(folder, "--resume") == 0
    assert run(tmp_path / "whole") == 0
    assert contents(folder) == contents(tmp_path / "whole")


def test_a_run_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run(tmp_path / "file" / "run") == 2
    assert "error:" in capsys.readouterr().err


def test_a_folder_without_a_finished_episode_is_free(tmp_path, capsys):
    RunFolder(tmp_path / "run", {"agent": "stopped early"}, resume=False).close()
    assert run(tmp_path / "run", episodes=1) == 0


def test_a_mistake_in_the_arguments_leaves_the_folder_free(tmp_path, capsys):
    assert run(tmp_path / "run", "--preference", "acuracy=1", agent="sb3:PPO") == 2
    assert "did you mean 'accuracy'" in words(capsys.readouterr().err)
    assert run(tmp_path / "run", "--preference", "accuracy=1", agent="random") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "ChannelPrune-VGG-v0"], "did you mean 'ChannelPrune-VGG16-v0'"),
        (["--env", "ChannelPrune-VGG16-Scalar-v0"], "search its id without -Scalar"),
        (["--agent", "envelop-ddpg"], "did you mean 'envelope-ddpg'"),
        (["--agent", "sb3:SACK"], "did you mean 'SAC'"),
        (["--objectives", "accuracy,flop"], "did you mean 'flops'"),
        (["--budget", "memori=0.5"], "did you mean 'memory'"),
        (["--budget", "flops=0.0001"], "the least that can be reached"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message, tmp_path, capsys):
    assert train.main(["--run", str(tmp_path / "run"), "--episodes", "1", *arguments]) == 2
    assert message in words(capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [["--episodes", "0"], ["--budget", "flops"]])
def test_wrong_forms_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(arguments)
    assert stop.value.code == 2 and "expected" in capsys.readouterr().err
