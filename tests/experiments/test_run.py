import copy
import csv
import dataclasses
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_envs import TINY

import prune_gym
from prune_gym import cli
from prune_gym._utils.checked_lines import checked_line
from prune_gym.agents import AGENTS, takes_priorities
from prune_gym.agents.ehvi_envelope_ddpg.ehvi_envelope_ddpg import EHVIEnvelopeDDPG
from prune_gym.compression.network_file import save_network
from prune_gym.datasets import Split
from prune_gym.envs.make import compression_env
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.evaluation.task import load_evaluator
from prune_gym.experiments import run_agent as running
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.journal import Journal, read_journal
from prune_gym.experiments.provenance import differing, provenance
from prune_gym.experiments.results import read_results
from prune_gym.experiments.run_config import RunConfig
from prune_gym.objectives.objective import episode_return
from prune_gym.search_space.strategy import load_strategy, strategy_from_dict

SMALL = ["--env", TINY, "--budget", "flops=0.7", "--seed", "3"]
FORK = multiprocessing.get_context("fork")  # a child that has imported everything


def arguments(folder, *more, agent="random", episodes=4):
    named = ["--agent", agent, "--episodes", str(episodes), "--run", str(folder)]
    return [*named, *SMALL, *more]


def run(folder, *more, **changes):
    return cli.main(["train", *arguments(folder, *more, **changes)])


def run_warned(folder, *more):
    """Run as outside of the tests, where warnings are printed and are no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return run(folder, *more)


def forget_accuracies():
    """Forget what this process has evaluated."""
    load_evaluator("tiny_envs:network", "tiny_envs:data", "none").cache.clear()


def distinct(records):
    """Return the widths of the records' strategies."""
    return {tuple(strategy_from_dict(record["strategy"]).values.values()) for record in records}


def test_what_an_agent_does_to_infos_stays_out_of_the_record(tmp_path):
    """SB3's Monitor and vector environments write into the infos that they are given."""
    run(tmp_path / "run", agent="amc")
    header = next(csv.reader((tmp_path / "run/front.csv").open(newline="")))
    record = read_journal(tmp_path / "run/evaluations.jsonl")[0][0]
    metrics = [name for name in record if name != "strategy"]
    assert header[: len(metrics) + 1] == ["strategy", *metrics]
    assert all(name.startswith("channels ") for name in header[len(metrics) + 1 :])


@pytest.fixture
def scored(monkeypatch):
    """Forget what this process has evaluated, and list the candidates that it scores from now on.

    The original is none: its score is kept on disk.
    """
    forget_accuracies()
    score, calls = Evaluator.score, []

    def counted(self, network, split):
        if network is not self.network:
            calls.append(network)
        return score(self, network, split)

    monkeypatch.setattr(Evaluator, "score", counted)
    return calls


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
    assert run(folder, agent="ehvi-envelope-ddpg", episodes=6) == 0
    return folder


def test_what_a_run_leaves(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["agent"] == "ehvi-envelope-ddpg" and config["seed"] == 3
    assert config["env_kwargs"]["budgets"] == {"flops": 0.7}
    records, warning = read_journal(finished / "evaluations.jsonl")
    assert len(records) == 6 and warning == ""
    rows = list(csv.DictReader((finished / "front.csv").open()))
    assert 1 <= len(rows) <= 6
    for row in rows:
        strategy = load_strategy(finished / row["strategy"])
        assert strategy.metrics["accuracy"] == float(row["accuracy"])
        assert all(int(row[" ".join(key)]) == kept for key, kept in strategy.values.items())
        assert strategy.as_dict() in [load(record) for record in records]
    assert len(list((finished / "front").iterdir())) == len(rows)
    assert Image.open(finished / "front.png").size > (300, 300)
    agent = EHVIEnvelopeDDPG.load(finished / "agent.zip")
    action, _ = agent.predict(agent.observation_space.sample())
    assert np.abs(action).max() <= 1
    about = json.loads((finished / "about.json").read_text())
    assert about["threads"] == "1" and about["number format"] in ("bfloat16", "float32")
    assert about["processor"] and about["versions"]["torch"] == torch.__version__
    task = json.loads((finished / "task.json").read_text())
    assert task["provenance"]["weights"] == task["weights"]
    assert task["provenance"]["repair"] == "none" and task["provenance"]["data"]
    log = (finished / "train.log").read_text().splitlines()
    assert "started: ehvi-envelope-ddpg" in log[0] and log[-1].endswith("finished")
    assert re.search(r"episodes: 6 of 6 in \d+ s, hypervolume 0\.\d+, front \d", log[-4])
    assert log[-3].endswith("finishing the agent") and log[-2].endswith("uniform sweep")
    accuracies = [float(row["accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)


def load(record):
    return json.loads(json.dumps(record["strategy"]))


def test_no_strategy_of_the_front_exceeds_the_budget(finished):
    env = gym.make(TINY)
    limit = 0.7 * env.unwrapped.problem.original["flops"]
    assert all(float(r["flops"]) <= limit for r in csv.DictReader((finished / "front.csv").open()))


def test_what_tensorboard_shows(finished):
    board = EventAccumulator(str(finished))
    board.Reload()
    scalars = set(board.Tags()["scalars"])
    assert {f"reward/{name}" for name in ("accuracy", "flops", "memory")} <= scalars
    assert {"metrics/accuracy", "metrics/memory_bytes"} <= scalars
    assert {"front/hypervolume", "front/size"} <= scalars
    assert any(name.startswith("train/") and "loss" in name for name in scalars)
    assert board.PluginTagToContent("hparams")
    names, weights = ("accuracy", "flops", "memory"), np.array([2, 1, 1]) / 4
    returns = [[event.value for event in board.Scalars(f"reward/{name}")] for name in names]
    mean = board.Scalars("rollout/ep_rew_mean")[-1].value
    assert mean == pytest.approx(float(weights @ np.mean(returns, axis=1)), abs=1e-5)
    assert [event.step for event in board.Scalars("reward/accuracy")] == [1, 2, 3, 4, 5, 6]
    volumes = [event.value for event in board.Scalars("front/hypervolume")]
    assert volumes == sorted(volumes) and volumes[-1] > 0
    assert board.Tags()["images"] == ["front"]
    assert "strategy/channels" in board.Tags()["histograms"]


def test_the_saved_agent_acts(finished):
    from prune_gym.agents.envelope_ddpg.envelope_ddpg import EnvelopeDDPG

    agent = EnvelopeDDPG.load(finished / "agent.zip")
    observation, _ = gym.make(TINY).reset()
    action, _ = agent.predict(observation, {"accuracy": 0.7, "flops": 0.3})
    assert action.shape == (1,) and np.abs(action) <= 1


def run_killed(folder, agent):
    """Run until three episodes are recorded."""
    append, recorded = Journal.append, []

    def killing(journal, record):
        append(journal, record)
        recorded.append(record)
        if len(recorded) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.append = killing
    run(folder, agent=agent, episodes=6)


@pytest.mark.parametrize("agent", ["ehvi-envelope-ddpg", "sb3:SAC"])
def test_resume_after_kill_9_gives_the_same(agent, finished, tmp_path, scored):
    whole = finished
    if agent != "ehvi-envelope-ddpg":
        whole = tmp_path / "whole"
        assert run(whole, agent=agent, episodes=6) == 0
    killed = tmp_path / "killed"
    process = FORK.Process(target=run_killed, args=(killed, agent))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    records, _ = read_journal(killed / "evaluations.jsonl")
    recorded = distinct(records)
    assert len(records) == 3
    forget_accuracies()
    scored.clear()
    assert run(killed, "--resume", agent=agent, episodes=6) == 0
    assert contents(killed) == contents(whole)
    rest = distinct(read_journal(killed / "evaluations.jsonl")[0]) - recorded
    sweep = distinct(read_journal(killed / "uniform.jsonl")[0]) - recorded
    assert rest and sweep and len(scored) == len(rest | sweep)


def test_resuming_a_finished_run_changes_nothing(finished, capsys):
    before = contents(finished)
    assert run(finished, "--resume", agent="ehvi-envelope-ddpg", episodes=6) == 0
    assert contents(finished) == before
    printed = words(capsys.readouterr().out)
    assert "Resuming: 6 finished episodes" in printed
    (balanced,) = re.findall(r"Best-balanced: prune-gym apply (\S+\.json)", printed)
    assert cli.main(["choose", str(finished), "--knee"]) == 0
    assert f"prune-gym apply {balanced}" in words(capsys.readouterr().out)


def test_a_truncated_line_falls_back_and_says_so(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = contents(folder)
    journal = folder / "evaluations.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    capsys.readouterr()
    assert run(folder, "--resume") == 0
    printed = words(capsys.readouterr().out)
    assert "is damaged: 1 line(s) dropped, 3 finished episodes are kept" in printed
    assert contents(folder) == before


def test_garbage_in_the_middle_of_the_journal(tmp_path, capsys, scored):
    """The line is lost (and is three lines now), the whole ones after it are not."""
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = contents(folder)
    lines = (folder / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:30] + b"\x00\xff\n\n" + lines[1][40:]
    (folder / "evaluations.jsonl").write_bytes(b"".join(lines))
    forget_accuracies()
    scored.clear()
    assert run_warned(folder, "--resume") == 0
    printed = words(capsys.readouterr().out)
    assert "is damaged: 3 line(s) dropped, 3 finished episodes are kept" in printed
    assert (
        "from episode 2 on this run differs from the recorded one (lines of it are damag" in printed
    )
    assert contents(folder) == before
    assert len(scored) == 1  # the lost episode


def test_every_whole_line_of_a_journal_is_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    lines = [checked_line({"episode": number}) for number in range(5)]
    lines[0], lines[3] = lines[0][:-9] + b"\n", b"garbage\n"
    path.write_bytes(b"".join(lines))
    journal = Journal(path)
    assert [record["episode"] for record in journal.records] == [1, 2, 4]
    assert journal.warning == (
        f"{path} is damaged: 2 line(s) dropped, 3 finished episodes are kept"
    )
    journal.append({"episode": 5})
    journal.close()
    assert read_journal(path) == ([{"episode": number} for number in (1, 2, 4, 5)], "")


def test_a_flipped_bit_in_a_journal_is_noticed(tmp_path):
    path, line = tmp_path / "journal.jsonl", checked_line({"accuracy": 0.5})
    path.write_bytes(line.replace(b"0.5", b"0.7"))
    assert read_journal(path) == (
        [],
        f"{path} is damaged: 1 line(s) dropped, 0 finished episodes are kept",
    )


def of_another_course(record, steps=1):
    """Return the record with another number of channels, 2 to 12, in its first decision."""
    other = copy.deepcopy(record)
    first = other["strategy"]["decisions"][0]
    first["value"] = 2 + (first["value"] - 2 + steps) % 11
    return other


def test_a_journal_of_another_course_is_told_and_kept(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder) == 0
    whole = contents(folder)
    records, _ = read_journal(folder / "evaluations.jsonl")
    records[2] = of_another_course(records[2])
    other = b"".join(checked_line(record) for record in records)
    (folder / "evaluations.jsonl").write_bytes(other)
    assert run_warned(folder, "--resume") == 0
    printed = words(capsys.readouterr().out)
    assert "from episode 3 on this run differs" in printed
    assert "evaluations.previous-1.jsonl" in printed.replace(" ", "")
    assert (folder / "evaluations.previous-1.jsonl").read_bytes() == other
    assert contents(folder) == whole
    assert run(folder, "--resume") == 0  # and there is no difference any more
    assert "differs" not in capsys.readouterr().out
    assert contents(folder) == whole


def test_every_course_of_a_run_is_kept_and_used(tmp_path, scored):
    folder = tmp_path / "run"
    assert run(folder) == 0
    journal = folder / "evaluations.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    for number in (1, 2):  # twice another course, and killed soon after it was left
        record = of_another_course(read_journal(journal)[0][0], number)
        journal.write_bytes(b"".join([checked_line(record), *whole[1 : 5 - number]]))
        forget_accuracies()
        scored.clear()
        assert run_warned(folder, "--resume") == 0
        assert (folder / f"evaluations.previous-{number}.jsonl").is_file()
        assert len(scored) <= 1  # the first strategy at most
        assert journal.read_bytes().splitlines(keepends=True)[1:] == whole[1:]


def test_an_interrupted_replay_changes_nothing(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    assert run(folder) == 0
    [board] = folder.glob("events.out.tfevents.*")
    kept = ("front.png", board.name)
    before = contents(folder) | {name: (folder / name).read_bytes() for name in kept}
    capsys.readouterr()
    run_agent = running.run_agent

    def interrupted(env, finished):
        def stop():
            finished()
            raise KeyboardInterrupt

        return run_agent(env, stop)

    monkeypatch.setattr(running, "run_agent", interrupted)
    assert run(folder, "--resume") == 130
    printed = words(capsys.readouterr().out)
    assert "Interrupted: unfinished, 4 of 4 strategies are evaluated; " in printed
    assert contents(folder) | {name: (folder / name).read_bytes() for name in kept} == before
    assert [board] == list(folder.glob("events.out.tfevents.*"))
    monkeypatch.undo()
    assert run(folder, "--resume") == 0
    assert [board] != list(folder.glob("events.out.tfevents.*"))


def test_an_interruption_as_an_episode_ends_still_writes_the_front(tmp_path, capsys, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return episode_return(*arguments)

    monkeypatch.setattr("prune_gym.experiments.record.episode_return", interrupted)
    assert run(tmp_path / "run") == 130
    printed = words(capsys.readouterr().out)
    assert "Interrupted: unfinished, 2 of 4 strategies are evaluated; " in printed
    assert "keeps them and --resume goes on" in printed and "The front" not in printed
    assert (tmp_path / "run/front.png").is_file() and (tmp_path / "run/front/000.json").is_file()
    assert len(read_journal(tmp_path / "run/evaluations.jsonl")[0]) == 3


def test_an_interruption_of_the_report_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(env, trained):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "save_results", interrupted)
    assert run(tmp_path / "run") == 130
    assert re.search(
        "Interrupted; --resume finishes what .*run lacks", words(capsys.readouterr().out)
    )


def test_other_weights_under_the_same_name_are_another_run(tmp_path, capsys):
    problem = gym.make(TINY).unwrapped.problem
    file, folder = tmp_path / "net.safetensors", tmp_path / "run"
    configuration = problem.space.configure(problem.space.lower[None])
    network = problem.evaluator.candidate(configuration)
    kept = {"name": "tiny_envs:network", "num_classes": 4, "input_shape": (3, 8, 8)}
    save_network(network, file, configuration=configuration, **kept)
    env = ["--env", TINY, "--network", f"tiny_envs:network@{file}"]
    search = ["train", *env, "--agent", "random", "--episodes", "1", "--run", str(folder)]
    assert cli.main(search) == 0
    assert cli.main([*search, "--resume"]) == 0
    with torch.no_grad():
        next(network.parameters()).mul_(1.01)
    save_network(network, file, configuration=configuration, **kept)
    assert cli.main([*search, "--resume"]) == 2
    assert "was started with other weights (" in words(capsys.readouterr().err)


@pytest.mark.parametrize(
    "foreign", ["config.json", "front/mine.json", "events.out.tfevents.1", "task.json"]
)
def test_folders_of_other_programs_are_left_alone(foreign, tmp_path, capsys):
    file = tmp_path / "run" / foreign
    file.parent.mkdir(parents=True)
    file.write_text('{"of": "another program"}')
    assert run(tmp_path / "run", episodes=1) == 2
    assert "no config.json of a run" in words(capsys.readouterr().err)
    assert file.read_text() == '{"of": "another program"}'
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [file]


def test_an_existing_run_needs_resume(finished, capsys):
    before = contents(finished)
    assert run(finished, agent="ehvi-envelope-ddpg", episodes=6) == 2
    assert re.search("already holds a run.*--resume", words(capsys.readouterr().err))
    assert contents(finished) == before


def test_other_settings_are_refused(finished, capsys):
    assert run(finished, "--resume", agent="ehvi-envelope-ddpg", episodes=7) == 2
    assert re.search(r"other settings \(episodes 6 -> 7\)", words(capsys.readouterr().err))
    assert run(finished, "--resume", agent="random", episodes=6) == 2
    assert "agent 'ehvi-envelope-ddpg' -> 'random'" in words(capsys.readouterr().err)
    threads = ("--resume", "--threads", "2")
    assert run(finished, *threads, agent="ehvi-envelope-ddpg", episodes=6) == 2
    assert "other settings (threads 1 -> 2)" in words(capsys.readouterr().err)


def test_two_runs_into_one_folder(tmp_path, capsys):
    other = RunConfig(TINY, "random", 3, 0)
    folder = RunFolder(tmp_path / "run", other, resume=False)
    assert run(tmp_path / "run") == 2
    assert "in use by another run; give another --run" in words(capsys.readouterr().err)
    folder.close()


def run_limited(folder, limit, sender):
    """Run where no file may be larger than ``limit`` bytes, and send what it says of it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as errors:
        status = run_warned(folder)
    sender.send(errors.getvalue())
    sys.exit(status)


@pytest.mark.parametrize(
    ("share", "reason"), [(0.5, "No space left on device"), (0.0, "File too large")]
)
def test_a_full_disk_loses_no_finished_episode(share, reason, tmp_path):
    """The third line finds room for a part of it or for none; TensorBoard's file fails too."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert run(whole) == 0
    lines = (whole / "evaluations.jsonl").read_bytes().splitlines(keepends=True)
    limit = len(lines[0]) + len(lines[1]) + int(share * len(lines[2]))
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=run_limited, args=(folder, limit, sender))
    process.start()
    sender.close()
    errors = receiver.recv()
    process.join()
    assert process.exitcode == 2, errors
    assert re.search(
        f"cannot write .*evaluations.jsonl .*{reason}.*the 2 finished episodes.* are kept"
        ".*--resume",
        words(errors),
    )
    assert (folder / "evaluations.jsonl").stat().st_size == limit
    assert len(read_journal(folder / "evaluations.jsonl")[0]) == 2
    assert run(folder, "--resume") == 0
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_a_run_cannot_be_resumed(made, tmp_path, capsys):
    folder = tmp_path / "run"
    if made:
        folder.mkdir()
    assert run(folder, "--resume") == 2
    assert "holds no run to resume; leave --resume out" in words(capsys.readouterr().err)
    assert folder.is_dir() == made and not (made and list(folder.iterdir()))


@pytest.mark.parametrize(
    ("content", "resume"),
    [
        (None, "--resume"),
        (None, ""),
        ("", "--resume"),
        ('{"agent": "ran', "--resume"),
        ("{}", "--resume"),
    ],
)
def test_episodes_without_their_configuration_are_not_lost(content, resume, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder, episodes=1) == 0
    before = (folder / "evaluations.jsonl").read_bytes()
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content)
    assert run(folder, *filter(None, [resume]), episodes=1) == 2
    assert "but no config.json of a run" in words(capsys.readouterr().err)
    assert (folder / "evaluations.jsonl").read_bytes() == before


def test_a_run_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "file" / "run")
    assert stopped.value.code == 2
    assert "is a file" in words(capsys.readouterr().err)


def test_a_folder_without_a_finished_episode_is_free(tmp_path, capsys):
    stopped = RunConfig(TINY, "random", 3, 0)
    RunFolder(tmp_path / "run", stopped, resume=False).close()
    assert run(tmp_path / "run", episodes=1) == 0


@pytest.mark.parametrize("agent", [*AGENTS, "sb3:PPO"])
def test_a_misspelt_preference_is_refused_by_every_agent(agent, tmp_path, capsys):
    assert run(tmp_path / "run", "--preference", "acuracy=1", agent=agent) == 2
    told = "did you mean 'accuracy'" if takes_priorities(agent) else f"{agent} looks for the whole"
    assert told in words(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_preference_for_what_is_no_objective_is_refused(tmp_path, capsys):
    env = ["--env", "ChannelPrune-Table-v0", "--preference", "latency=1,accuracy=1"]
    assert cli.main(["train", *env, "--agent", "abcp", "--run", str(tmp_path / "run")]) == 2
    assert "unknown objective 'latency'" in words(capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("agent", "variant", "message"),
    [
        ("sb3:DQN", "", "sb3:DQN needs discrete actions; .*take the id with -Discrete"),
        (
            "ehvi-envelope-ddpg",
            "-Discrete",
            "ehvi-envelope-ddpg needs continuous .*id without -Discrete",
        ),
        ("random-ratio", "-Discrete", "random-ratio needs continuous .*id without -Discrete"),
        ("sb3:SAC", "-Discrete", "sb3:SAC needs continuous actions; .*id without -Discrete"),
    ],
)
def test_an_agent_of_other_actions_leaves_the_folder_free(
    agent, variant, message, tmp_path, capsys
):
    env_id = f"ChannelPrune-Table{variant}-v0"
    assert run(tmp_path / "run", "--env", env_id, agent=agent) == 2
    error = words(capsys.readouterr().err)
    assert re.search(message, error) and env_id in error
    assert not (tmp_path / "run").exists()
    assert run(tmp_path / "run", "--env", env_id, agent="uniform", episodes=1) == 0


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
        (["--budget", "flops=0.5", "--budget", "flops=0.4"], "one --budget per cost, got flops"),
        (["--budget", "flops=0.01%"], "the least that can be reached"),
        (["--set", "min_kep=0.5"], "did you mean 'min_keep'"),
        (["--set", "min_keep=wide"], "--set min_keep: expected a number or an object such as"),
        (["--set", "bits=4"], "--set bits: expected a list such as [2, 4, 8], got 4"),
        (["--set", "discrete=true"], "expected a whole number or null, got True"),
        (["--set", "data=digits", "--data", "digits"], "expected this argument once"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message, tmp_path, capsys):
    assert cli.main(["train", "--run", str(tmp_path / "run"), "--episodes", "1", *arguments]) == 2
    assert message in words(capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments",
    [["--episodes", "0"], ["--budget", "flops"], ["--set", "bits"], ["--set", "bits=[2"]],
)
def test_wrong_forms_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *arguments])
    assert stop.value.code == 2 and "expected" in capsys.readouterr().err


def test_a_wrong_id_lists_the_nearest_five(capsys):
    assert cli.main(["train", "--env", "ChannelPrune-VGG-v0"]) == 2
    listed = words(capsys.readouterr().err).partition("Known: ")[2]
    assert len(listed.partition(" and ")[0].split(", ")) == 5


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"prune-gym {prune_gym.__version__}\n"


def test_any_argument_of_the_environment_can_be_set(tmp_path):
    given = ("--set", "min_keep=0.5", "--set", "repair=merge", "--budget", "params=75%")
    assert run(tmp_path / "run", *given) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    budgets = {"flops": 0.7, "params": 0.75}
    assert config["env_kwargs"] == {"budgets": budgets, "min_keep": 0.5, "repair": "merge"}
    for record in read_journal(tmp_path / "run/evaluations.jsonl")[0]:
        assert all(d["value"] >= d["of"] / 2 for d in record["strategy"]["decisions"])


def test_layers_are_left_alone_by_name(tmp_path):
    given = ("--exclude", "features.0,features.3", "--set", 'min_keep={"*": 0.5}')
    assert run(tmp_path / "run", *given) == 0
    (record, *_) = read_journal(tmp_path / "run/evaluations.jsonl")[0]
    kwargs, decisions = (record["strategy"][key] for key in ("env_kwargs", "decisions"))
    assert kwargs["exclude"] == ["features.0", "features.3"] and kwargs["min_keep"] == {"*": 0.5}
    assert [each["name"] for each in decisions] == ["features.2.0"]


def test_a_run_of_an_older_version_goes_on(tmp_path):
    """It recorded neither threads nor what decides the accuracies."""
    folder = tmp_path / "run"
    assert run(folder) == 0
    before = (folder / "evaluations.jsonl").read_bytes()
    for name, new in (("config.json", "threads"), ("task.json", "provenance")):
        content = json.loads((folder / name).read_text())
        del content[new]
        (folder / name).write_text(json.dumps(content))
    (folder / "about.json").unlink()
    assert read_results(folder).about == {}
    assert run(folder, "--resume") == 0
    assert (folder / "evaluations.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "named"), [("data", "data"), ("repair", "repair"), ("number_format", "number format")]
)
def test_what_decides_accuracies_is_checked(key, named, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder, episodes=1) == 0
    task = json.loads((folder / "task.json").read_text())
    task["provenance"][key] = "another"
    (folder / "task.json").write_text(json.dumps(task))
    assert run(folder, "--resume", episodes=1) == 2
    said = words(capsys.readouterr().err)
    assert f"was started with other {named} (another then, " in said and "another --run" in said


def test_other_labels_are_other_data(tiny_task):
    evaluator = compression_env(**tiny_task).problem.evaluator
    data = evaluator.data
    labels = np.roll(data.search.labels, 1)
    other = dataclasses.replace(data, search=Split(data.search.images, labels))
    changed = differing(
        provenance(evaluator), compression_env(**tiny_task | {"data": other}).problem.evaluator
    )
    assert len(changed) == 1 and changed[0].startswith("data (")


@pytest.mark.parametrize("content", ["", "[]"])
def test_a_damaged_task_is_told_and_written_again(content, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run(folder, episodes=1) == 0
    whole = (folder / "task.json").read_text()
    (folder / "task.json").write_text(content)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run(folder, "--resume", episodes=1) == 0
    said = "".join(capsys.readouterr().out.split())  # a long path is broken anywhere
    assert "task.jsonis" in said and "itiswrittenagain" in said
    assert (folder / "task.json").read_text() == whole


@pytest.mark.ci
def test_jobs_compute_with_the_threads_of_the_run(tmp_path, subprocess_env):
    """In processes of their own: this one has evaluated with one thread already."""
    folders = [tmp_path / jobs for jobs in ("1", "2")]
    for folder in folders:
        more = ("--env", "ChannelPrune-ResNet20-v0", "--jobs", folder.name, "--threads", "2")
        search = arguments(folder, *more, agent="nsga2")
        subprocess.run(
            [sys.executable, "train.py", *search],
            cwd=ROOT,
            env=subprocess_env,
            check=True,
            timeout=600,
        )
    assert contents(folders[0]) == contents(folders[1])


def test_resuming_takes_the_threads_of_the_run(tmp_path):
    folder = tmp_path / "run"
    assert run(folder, "--threads", "1", episodes=1) == 0
    torch.set_num_threads(2)  # as on another machine
    try:
        assert run(folder, "--resume", episodes=1) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert json.loads((folder / "config.json").read_text())["threads"] == 1


@pytest.mark.parametrize("threads", [0, -1, 10**9])
def test_a_run_with_an_impossible_number_of_threads_is_refused(tmp_path, threads, capsys):
    folder = tmp_path / "run"
    assert run(folder, "--threads", "1", episodes=1) == 0
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threads": threads}))
    assert run(folder, "--resume", episodes=1) == 2
    assert f"threads {threads}" in " ".join(capsys.readouterr().err.split())


def test_ctrl_c_says_that_the_search_is_unfinished(tmp_path, subprocess_env):
    folder = tmp_path / "run"
    options = ["--env", "ChannelPrune-Table-v0", "--agent", "random", "--episodes", "100000"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *options, "--run", str(folder)],
        cwd=ROOT,
        env=subprocess_env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    journal, end = folder / "evaluations.jsonl", time.monotonic() + 240
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 3:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in errors
    assert re.search(r"Interrupted: unfinished, \d+ of 100000 strategies are evaluated", printed)
    assert (folder / "front.csv").is_file()
    assert "unfinished" in (folder / "train.log").read_text().splitlines()[-1]


@pytest.mark.parametrize("module", ["gymnasium", "torch"])
def test_ctrl_c_while_modules_are_imported_is_one_line(module, tmp_path, subprocess_env):
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import prune_gym_start

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.exit(prune_gym_start.main(["train", "--run", {str(tmp_path / "run")!r}]))
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=subprocess_env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 130
    assert process.stderr == "error: interrupted; what was finished is kept\n"
    assert not (tmp_path / "run").exists()


def test_a_second_ctrl_c_ends_at_once(subprocess_env):
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from rich.console import Console
from prune_gym.cli.guard import guarded

def run():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        os.kill(os.getpid(), signal.SIGINT)
    print("never")

guarded(run, Console())
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=subprocess_env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 130 and process.stdout == ""
    assert process.stderr == "error: interrupted; what was finished is kept\n"


def test_partial_files_of_a_killed_process_are_removed(tmp_path):
    folder = tmp_path / "run"
    assert run(folder, episodes=1) == 0
    partial = folder / "front" / ".000.json.123.tmp"
    partial.write_text("{")
    assert run(folder, "--resume", episodes=1) == 0
    assert not partial.exists()


def test_validate_looks_at_the_run_of_a_strategy(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--env", "ChannelPrune-Table-v0", "--agent", "random", "--episodes", "1"]
    assert cli.main(["train", *options, "--run", str(folder)]) == 0
    assert cli.main(["validate", str(folder / "front/000.json")]) == 0
    task = json.loads((folder / "task.json").read_text())
    task["provenance"]["preprocessing"] = "none"
    (folder / "task.json").write_text(json.dumps(task))
    assert cli.main(["validate", str(folder / "front/000.json")]) == 1
    said = words(capsys.readouterr().out)
    assert "NOT reproduced: the run had other normalization of the images (none then, " in said
