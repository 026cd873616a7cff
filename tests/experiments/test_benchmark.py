import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from places import HELPERS, ROOT
from tiny_envs import TINY

from prune_gym import cli
from prune_gym.agents import AGENTS
from prune_gym.evaluation.accuracy_cache import AccuracyCache
from prune_gym.experiments.benchmark.cells import Cell, find_cells, make_cells, run_cell
from prune_gym.experiments.benchmark.figures import checkpoints, hypervolume_curve, utility_curve
from prune_gym.experiments.benchmark.preferences import preference_grid
from prune_gym.experiments.benchmark.statistics import interquartile_mean, interval
from prune_gym.experiments.benchmark.summary import Curve, best_rival, read_summaries
from prune_gym.experiments.benchmark.table import markdown
from prune_gym.objectives.pareto import hypervolume

CSVS = ("results.csv", "evaluations.csv", "proposals.csv")


def arguments(
    out, *more, agents=("uniform", "ehvi-envelope-ddpg"), seeds=2, evaluations=6, envs=(TINY,)
):
    return [
        *("benchmark", "--envs", *envs, "--agents", *agents, "--out", str(out)),
        *("--seeds", str(seeds), "--evaluations", str(evaluations), *more),
    ]


def contents(folder):
    return {name: (folder / name).read_text() for name in CSVS}


def rows(file):
    return list(csv.DictReader(file.open(newline="")))


def words(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    assert cli.main(arguments(folder)) == 0
    return folder


def test_what_a_benchmark_leaves(finished):
    results = rows(finished / "results.csv")
    cells = {(row["env"], row["agent"], row["seed"]) for row in results}
    learned = {(TINY, "ehvi-envelope-ddpg", seed) for seed in ("0", "1")}
    assert cells == learned | {(TINY, "uniform", "0")}  # it has no randomness
    assert len(rows(finished / "evaluations.csv")) == len(results) == 3 * 6
    last = [row for row in results if row["evaluations"] == "6"]
    assert {(row["agent"], row["proposals"]) for row in last} == {
        ("ehvi-envelope-ddpg", "policy"),
        ("uniform", "archive"),
    }
    assert len(rows(finished / "proposals.csv")) == 3 * len(preference_grid(3))


def test_the_time_that_evaluations_do_not_take_is_told(finished):
    seconds = {(row["agent"], row["seed"]): row for row in rows(finished / "seconds.csv")}
    assert set(seconds) == {("uniform", "0"), *(("ehvi-envelope-ddpg", seed) for seed in "01")}
    taken = {key: float(row["agent_seconds"]) for key, row in seconds.items()}
    assert 0 < taken["uniform", "0"] < taken["ehvi-envelope-ddpg", "0"]
    text = markdown(read_summaries(finished), {})
    (header, uniform) = (
        [cell.strip() for cell in line.split("|")]
        for line in text.splitlines()
        if line.startswith(("| agent", "| uniform"))
    )
    assert uniform[header.index("seconds of the agent")] == f"{taken['uniform', '0']:.1f}"


def test_figures_can_be_computed_again_from_the_returns(finished):
    names = ("accuracy", "flops", "memory")
    reference = gym.make(TINY).unwrapped.problem.reference_point
    for row in rows(finished / "results.csv"):
        same = [
            [float(each[name]) for name in names]
            for each in rows(finished / "evaluations.csv")
            if all(each[key] == row[key] for key in ("env", "agent", "seed"))
            and int(each["evaluation"]) <= int(row["evaluations"])
        ]
        assert float(row["hypervolume"]) == pytest.approx(
            hypervolume(np.array(same), reference), abs=1e-5
        )


def test_a_finished_benchmark_is_not_run_again_and_grows(finished, tmp_path):
    cells = {cell: (cell.folder / "cell.json").stat().st_mtime_ns for cell in find_cells(finished)}
    assert cli.main(arguments(finished, agents=("uniform", "random"), seeds=1)) == 0
    grown = find_cells(finished)
    assert {cell.agent for cell in grown} == {"uniform", "random", "ehvi-envelope-ddpg"}
    for cell, changed in cells.items():
        assert (cell.folder / "cell.json").stat().st_mtime_ns == changed
    summaries = read_summaries(finished)[TINY]
    assert {summary.agent for summary in summaries} == {cell.agent for cell in grown}


def test_other_evaluations_are_refused(finished, capsys):
    assert cli.main(arguments(finished, evaluations=7)) == 2
    assert "holds cells of 6 evaluations" in words(capsys.readouterr().err)


def test_arguments_of_the_environments(tmp_path, capsys):
    one = {"agents": ("uniform",), "evaluations": 3}
    assert cli.main(arguments(tmp_path, "--set", "min_keep=0.5", **one)) == 0
    (cell,) = find_cells(tmp_path)
    assert cell.env_kwargs == {"min_keep": 0.5}
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["env_kwargs"] == {"min_keep": 0.5} and about["threads"] == "1"
    assert cli.main(["benchmark-report", str(tmp_path)]) == 0
    text = (tmp_path / "benchmark.md").read_text()
    assert "--evaluations 3 --set min_keep=0.5 --out DIR`" in text and "threads 1" in text
    assert cli.main(arguments(tmp_path, **one)) == 2
    assert "were made with {'min_keep': 0.5}" in words(capsys.readouterr().err)
    assert cli.main(arguments(tmp_path / "new", "--set", "min_kep=1", **one)) == 2
    assert "did you mean 'min_keep'" in words(capsys.readouterr().err)
    assert not (tmp_path / "new").exists()


def test_jobs_change_no_result(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HELPERS}")
    for jobs in ("1", "2"):
        assert cli.main(arguments(tmp_path / jobs, "--jobs", jobs)) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_a_worker_whose_benchmark_is_gone_starts_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    cell = Cell("ChannelPrune-Table-v0", "random", 0, 6, tmp_path)
    assert "the benchmark that this cell is of was killed" in run_cell(cell, process.pid)
    assert not cell.finished and not (cell.folder / "evaluations.jsonl").exists()
    assert run_cell(cell, os.getpid()) == "" and cell.finished


def test_kill_9_and_the_same_command_give_the_same(tmp_path, subprocess_env):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"agents": ("random-ratio", "ehvi-envelope-ddpg"), "evaluations": 12}
    assert cli.main(arguments(whole, **options)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "prune_gym.cli", *arguments(killed, "--jobs", "2", **options)],
        env=subprocess_env,
        stdout=subprocess.DEVNULL,
    )
    journal = (
        killed / "runs" / TINY.replace(":", "-") / "ehvi-envelope-ddpg/seed-0/evaluations.jsonl"
    )
    end = time.monotonic() + 120
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "results.csv").exists()
    assert cli.main(arguments(killed, **options)) == 0  # at once: its workers are still leaving
    assert contents(killed) == contents(whole)


def test_it_goes_on_without_the_terminal_that_started_it(tmp_path, subprocess_env):
    options = arguments(tmp_path, agents=("ehvi-envelope-ddpg",), seeds=1, evaluations=12)
    command = shlex.join([sys.executable, "-m", "prune_gym.cli", *options])
    cell = tmp_path / "runs" / TINY.replace(":", "-") / "ehvi-envelope-ddpg/seed-0"
    begun = f"while [ ! -s {cell / 'evaluations.jsonl'} ]; do sleep 0.05; done"
    shell = ["sh", "-c", f"{command} > {tmp_path / 'log'} 2>&1 & {begun}"]
    subprocess.run(shell, env=subprocess_env, timeout=120, check=True)
    end = time.monotonic() + 120
    while not (tmp_path / "results.csv").is_file():
        log = (tmp_path / "log").read_text()
        assert "failed" not in log and time.monotonic() < end, log
        time.sleep(0.1)
    assert (cell / "cell.json").is_file()


def test_a_table_of_other_decisions_has_no_true_front(tmp_path):
    envs = ("tiny_envs:TableOfOthers-v0",)
    assert cli.main(arguments(tmp_path, agents=("random",), seeds=1, envs=envs)) == 0
    (row, *_) = rows(tmp_path / "results.csv")[-1:]
    assert float(row["hypervolume"]) > 0 and row["true_hypervolume"] == ""


def test_a_failing_cell_stops_no_other(tmp_path, capsys):
    assert cli.main(arguments(tmp_path, agents=("sb3:DQN", "uniform"), seeds=1)) == 1
    assert "sb3:DQN seed 0: UserError: sb3:DQN needs discrete" in words(capsys.readouterr().out)
    assert {cell.agent for cell in find_cells(tmp_path)} == {"uniform"}
    (error,) = (tmp_path / "runs").glob("*/sb3-DQN/*/error.txt")
    assert "Traceback" in error.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"envs": ("ChannelPrune-VGG-v0",)}, "did you mean 'ChannelPrune-VGG16-v0'"),
        ({"envs": ("ChannelPrune-VGG16-Scalar-v0",)}, "search its id without -Scalar"),
        ({"envs": ("tiny_envs:Tony-v0",)}, "did you mean 'Tiny-v0'"),
        ({"envs": ("no_such_module:Tiny-v0",)}, "is its folder on PYTHONPATH?"),
        (
            {"envs": ("tiny_envs:CartPole-v1",)},
            "is a CartPoleEnv, not a prune_gym.CompressionEnv",
        ),
        ({"agents": ("envelop-ddpg",)}, "did you mean 'envelope-ddpg'"),
    ],
)
def test_wrong_names_are_explained_before_anything_runs(options, message, tmp_path, capsys):
    assert cli.main(arguments(tmp_path / "out", **options)) == 2
    assert message in words(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_report_comes_from_the_csv_alone(finished, tmp_path, capsys):
    for name in ("results.csv", "about.json"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    assert cli.main(["benchmark-report", str(tmp_path)]) == 0
    text = (tmp_path / "benchmark.md").read_text()
    assert text in capsys.readouterr().out
    assert "--seeds 2 --evaluations 6" in text and f"### {TINY}" in text and "torch 2" in text
    best = read_summaries(tmp_path)[TINY][0]
    assert f"{best.agent} | {len(best.curve.volumes)} | {best.hypervolume.point:.4f}" in text
    for name in ("hypervolume.png", "final.png"):
        assert Image.open(tmp_path / name).size > (300, 300)


def test_the_csv_as_a_spreadsheet_leaves_it(finished, tmp_path):
    """Sorted, with a byte-order mark and without the file of versions."""
    header, *rows = (finished / "results.csv").read_text().splitlines()
    sheet = "\n".join([header, *reversed(rows)])
    (tmp_path / "results.csv").write_text(sheet, encoding="utf-8-sig")
    shutil.copy(finished / "seconds.csv", tmp_path)
    assert cli.main(["benchmark-report", str(tmp_path)]) == 0
    text = (tmp_path / "benchmark.md").read_text()
    tables = [t[t.index("###") :] for t in (text, markdown(read_summaries(finished), {}))]
    assert sorted(tables[0].splitlines()) == sorted(tables[1].splitlines())


def test_the_table_tells_the_hypervolume_after_few_evaluations(finished, tmp_path):
    header, *rows = (finished / "results.csv").read_text().splitlines()
    env, agent, seed, _, _, rest = rows[-1].split(",", 5)
    volumes = {1: 0.1, 20: 0.25, 60: 0.5, 100: 0.75}
    lines = [f"{env},{agent},{seed},{count},{volume},{rest}" for count, volume in volumes.items()]
    (tmp_path / "results.csv").write_text("\n".join([header, *lines]))
    text = markdown(read_summaries(tmp_path), {})
    assert "| hypervolume after 20 | hypervolume after 60 | hypervolume |" in text
    assert f"| {agent} | 1 | 0.2500 | 0.5000 | 0.7500 |" in text


def test_a_csv_without_rows_is_told(finished, tmp_path, capsys):
    header = (finished / "results.csv").read_text().splitlines()[0]
    (tmp_path / "results.csv").write_text(header + "\n")
    assert cli.main(["benchmark-report", str(tmp_path)]) == 2
    assert "has no rows" in words(capsys.readouterr().err)


def test_a_report_of_nothing_says_what_to_do(tmp_path, capsys):
    assert cli.main(["benchmark-report", str(tmp_path)]) == 2
    assert "run `prune-gym benchmark` first" in words(capsys.readouterr().err)


def test_cells_that_run_side_by_side_differ_in_their_seeds(tmp_path):
    cells = make_cells(tmp_path, [TINY, TINY], list(AGENTS), 2, 5)
    assert len(cells) == len(set(cells)) == 2 * len(AGENTS) - 1
    assert [cell.seed for cell in cells if cell.agent == "random"] == [0, 1]


def test_what_a_cell_evaluated_is_not_evaluated_again(tmp_path):
    evaluator = gym.make(TINY).unwrapped.problem.evaluator
    cell = Cell(TINY, "random", 0, 3, tmp_path)
    evaluator.cache = AccuracyCache()
    assert run_cell(cell, os.getpid()) == ""
    returns = (cell.folder / "evaluations.jsonl").read_text()
    shutil.rmtree(tmp_path / "runs")
    evaluator.cache = AccuracyCache()
    evaluator.score = None  # calling it would fail
    try:
        assert run_cell(cell, os.getpid()) == ""
        assert (cell.folder / "evaluations.jsonl").read_text() == returns
    finally:
        del evaluator.score
        evaluator.cache = AccuracyCache()


def test_preference_grid():
    assert preference_grid(1).tolist() == [[1.0]]
    assert sorted(preference_grid(2, 2).tolist()) == [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    for objectives, size in ((3, 15), (4, 35)):
        grid = preference_grid(objectives)
        assert grid.shape == (size, objectives) and len(np.unique(grid, axis=0)) == size
        assert (grid >= 0).all() and np.allclose(grid.sum(axis=1), 1)


def test_curves_by_hand():
    returns = np.array([[0.5, 0.5], [0.25, 0.25], [0.25, 1.0]])
    grid = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert hypervolume_curve(returns, [1, 2, 3], np.zeros(2)) == [0.25, 0.25, 0.375]
    assert utility_curve(returns, [1, 3], grid) == [0.5, 0.75]
    assert checkpoints(3) == [1, 2, 3]
    assert len(checkpoints(300)) == 102 and checkpoints(300)[-1] == 300
    assert {20, 60} < set(checkpoints(300)) and checkpoints(20) == list(range(1, 21))


def test_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 6.0, -50.0])) == 3.0
    assert interquartile_mean(np.array([[0.0, 9.0], [1.0, 5.0]])).tolist() == [0.5, 7.0]
    assert interval(np.array([0.25])) == (0.25, 0.25, 0.25)
    two = interval(np.array([0.0, 1.0]))  # a quarter of the resamples have the same seed twice
    assert two == (0.5, 0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_laws_of_the_interval(values, random):
    found = interval(np.array(values))
    tiny = 1e-12
    assert min(values) - tiny <= found.low <= found.point + tiny
    assert found.point - tiny <= found.high <= max(values) + tiny
    shuffled = random.sample(values, len(values))
    assert interval(np.array(shuffled)) == found


def test_intervals_apart():
    low, high = interval(np.array([0.1, 0.2, 0.3])), interval(np.array([0.5, 0.6, 0.7]))
    assert low.apart_from(high) and high.apart_from(low) and not low.apart_from(low)


def test_evaluations_to_reach_a_hypervolume():
    volumes = np.array([[0.1, 0.5, 0.6], [0.2, 0.3, 0.4], [0.5, 0.5, 0.5]])
    curve = Curve(np.array([10, 20, 30]), volumes)
    assert curve.reaching(0.5).tolist() == [20, np.inf, 10]
    assert interval(curve.reaching(0.5)).high == np.inf
    assert interval(curve.reaching(0.1)) == (10, 10, 10)


@given(st.integers(1, 10), st.integers(0, 10**6))
def test_the_mean_of_equal_seeds_is_reached(seeds, millionths):
    """In floating point the mean of equal numbers may be above all of them."""
    volumes = np.full((seeds, 1), round(millionths / 10**6, 6))
    curve = Curve(np.array([10]), volumes)
    assert (curve.reaching(interquartile_mean(volumes[:, 0])) == 10).all()


def test_the_best_rival_is_another(finished):
    first, second, *_ = summaries = read_summaries(finished)[TINY]
    assert best_rival(first, summaries) is second
    assert best_rival(second, summaries) is first
    assert best_rival(first, [first]) is None


def test_when_all_cells_fail_it_is_said_why(tmp_path, capsys):
    discrete = ("ChannelPrune-Table-Discrete-v0",)
    assert (
        cli.main(arguments(tmp_path, agents=("ehvi-envelope-ddpg",), seeds=1, envs=discrete)) == 1
    )
    assert "ehvi-envelope-ddpg needs continuous actions" in words(capsys.readouterr().out)


def test_a_stopped_benchmark_is_reported(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "stopped")
    for name in ("results.csv", "evaluations.csv", "proposals.csv"):
        (tmp_path / "stopped" / name).unlink()
    assert cli.main(["benchmark-report", str(tmp_path / "stopped")]) == 0
    assert "| ehvi-envelope-ddpg | 2 |" in capsys.readouterr().out


def test_cells_of_different_weights_are_not_compared(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "mixed")
    task = find_cells(tmp_path / "mixed")[0].folder / "task.json"
    task.write_text(json.dumps(json.loads(task.read_text()) | {"weights": "another"}))
    assert cli.main(["benchmark-report", str(tmp_path / "mixed")]) == 2
    assert "different weights under the same name" in words(capsys.readouterr().err)
