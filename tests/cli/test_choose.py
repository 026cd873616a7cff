import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from prune_gym import cli
from prune_gym._utils.formatting import format_metric
from prune_gym.envs.make import compression_env
from prune_gym.experiments.commands import next_commands
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.results import read_results
from prune_gym.experiments.run_config import RunConfig
from prune_gym.objectives.pareto import non_dominated
from prune_gym.search_space.strategy import load_strategy

CONFIG = RunConfig("ChannelPrune-v0", "random", 20, 0)


@pytest.fixture(scope="module")
def folder(tiny_task, tmp_path_factory):
    """A finished run of random strategies of the tiny network."""
    path = tmp_path_factory.mktemp("runs") / "run"
    env = RecordRun(compression_env(**tiny_task), RunFolder(path, CONFIG, False))
    rng = np.random.default_rng(0)
    for ratio in rng.uniform(-1, 1, 20):
        env.reset()
        terminated = False
        while not terminated:
            action = np.clip(ratio + rng.normal(0, 0.3, 1), -1, 1).astype(np.float32)
            terminated = env.step(action)[2]
    env.write_front()
    env.close()
    return path


@pytest.fixture(scope="module")
def records(folder):
    return read_results(folder).records


def chosen(folder, out, *words):
    """Choose into ``out`` and return the strategy's metrics."""
    assert cli.main(["choose", str(folder), *words, "--out", str(out)]) == 0
    return load_strategy(out).metrics


def refused(folder, capsys, *words):
    assert cli.main(["choose", str(folder), *words]) == 2
    return capsys.readouterr().err


def test_the_weighted_return_decides(folder, tmp_path):
    results = read_results(folder)
    weights = np.array([0.2, 0.0, 0.0, 0.8])  # of accuracy, flops, params, memory
    best = results.records[int(np.argmax(results.returns @ weights))]
    metrics = chosen(folder, tmp_path / "s.json", "--preference", "memory=0.8,accuracy=0.2")
    assert metrics == best.strategy.metrics


def test_a_preference_can_be_read_by_what_falls_most_behind(folder, tmp_path, capsys):
    results = read_results(folder)
    kept = np.flatnonzero(non_dominated(results.returns))
    behind = results.returns[kept].max(axis=0) - results.returns[kept]
    weights = np.array([0.5, 0.5, 0.0, 0.0])  # of accuracy, flops, params, memory
    score = (behind * weights).max(axis=1) + 0.05 * behind.sum(axis=1)
    words = ("--preference", "accuracy=0.5,flops=0.5", "--scalarization", "tchebycheff")
    metrics = chosen(folder, tmp_path / "s.json", *words)
    assert metrics == results.records[kept[int(np.argmin(score))]].strategy.metrics
    assert "--preference" in refused(folder, capsys, "--knee", *words[2:])


def test_other_priorities_give_another_strategy(folder, tmp_path):
    accurate = chosen(folder, tmp_path / "a.json", "--preference", "accuracy=1")
    small = chosen(folder, tmp_path / "b.json", "--preference", "flops=1")
    assert accurate["accuracy"] > small["accuracy"] and accurate["flops"] > small["flops"]


def test_a_limit_on_a_cost_gives_the_most_accurate_within(folder, records, tmp_path):
    limit = float(np.median([record.metrics["flops"] for record in records]))
    metrics = chosen(folder, tmp_path / "s.json", "--max", f"flops={limit!r}")
    within = [record for record in records if record.metrics["flops"] <= limit]
    assert metrics["accuracy"] == max(record.metrics["accuracy"] for record in within)
    assert metrics["flops"] <= limit


def test_a_limit_in_percent(folder, tmp_path):
    original = read_results(folder).original["flops"]
    by_share = chosen(folder, tmp_path / "a.json", "--max", "flops=60%", "--min", "accuracy=30%")
    words = ["--max", f"flops={0.6 * original!r}", "--min", "accuracy=0.3"]
    assert by_share == chosen(folder, tmp_path / "b.json", *words)


def test_a_number_of_at_most_1_is_a_share_of_a_count(folder, tmp_path):
    by_share, by_percent = (
        chosen(folder, tmp_path / "s.json", "--max", f"flops={half}") for half in ("0.5", "50%")
    )
    assert by_share == by_percent
    assert by_share["flops"] <= 0.5 * read_results(folder).original["flops"]
    least = chosen(folder, tmp_path / "s.json", "--min", "params=0.5", "--preference", "params=1")
    assert least["params"] >= 0.5 * read_results(folder).original["params"]


def test_millijoules_below_1_are_millijoules(folder, records, tmp_path):
    limit = float(np.median([record.metrics["energy_mj"] for record in records]))
    assert limit < 1
    metrics = chosen(folder, tmp_path / "s.json", "--max", f"energy_mj={limit!r}")
    within = [record for record in records if record.metrics["energy_mj"] <= limit]
    assert metrics["accuracy"] == max(record.metrics["accuracy"] for record in within)


def test_a_limit_on_what_is_no_objective(folder, records, tmp_path):
    limit = float(np.median([record.metrics["size_bytes"] for record in records]))
    metrics = chosen(folder, tmp_path / "s.json", "--max", f"size_bytes={limit!r}")
    within = [record for record in records if record.metrics["size_bytes"] <= limit]
    assert metrics["accuracy"] == max(record.metrics["accuracy"] for record in within)


def test_a_limit_on_accuracy_gives_what_saves_most(folder, records, tmp_path):
    results = read_results(folder)
    limit = float(np.median([record.metrics["accuracy"] for record in records]))
    metrics = chosen(folder, tmp_path / "s.json", "--min", f"accuracy={limit!r}")
    savings = [
        returns[1:].sum()
        for record, returns in zip(records, results.returns, strict=True)
        if record.metrics["accuracy"] >= limit
    ]
    found = [r.strategy.metrics for r in records].index(metrics)
    assert results.returns[found][1:].sum() == pytest.approx(max(savings))
    assert metrics["accuracy"] >= limit


def test_limits_and_priorities_together(folder, records, tmp_path):
    limit = float(np.median([record.metrics["flops"] for record in records]))
    words = ["--max", f"flops={limit!r}", "--preference", "memory=1"]
    metrics = chosen(folder, tmp_path / "s.json", *words)
    within = [record for record in records if record.metrics["flops"] <= limit]
    assert metrics["memory_bytes"] == min(record.metrics["memory_bytes"] for record in within)


def test_the_knee_is_no_end_of_the_front(folder, tmp_path):
    results = read_results(folder)
    metrics = chosen(folder, tmp_path / "s.json", "--knee")
    found = [r.strategy.metrics for r in results.records].index(metrics)
    assert non_dominated(results.returns)[found]
    front = [results.records[i].metrics["accuracy"] for i in results.front]
    assert min(front) < metrics["accuracy"] < max(front)


def test_the_file_of_the_front_is_named(folder, capsys):
    assert cli.main(["choose", str(folder), "--knee"]) == 0
    printed = capsys.readouterr().out
    file = re.search(r"prune-gym apply (\S+\.json)", printed)[1]
    assert load_strategy(file).metrics["accuracy"] > 0
    assert f"prune-gym export {file}" in printed
    assert "original" in printed and "x smaller" in printed


def test_an_unfinished_run_has_no_file_yet(folder, tmp_path, capsys):
    for name in ("config.json", "task.json", "evaluations.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert cli.main(["choose", str(tmp_path), "--knee"]) == 0
    assert "write one with --out FILE.json" in capsys.readouterr().out
    out = tmp_path / "mine.json"
    assert chosen(tmp_path, out, "--knee") == json.loads(out.read_text())["metrics"]


def test_limits_out_of_reach_name_what_is_reached(folder, records, capsys):
    message = refused(folder, capsys, "--max", "flops=2", "--min", "accuracy=0.3")
    least = min(record.metrics["flops"] for record in records)
    most = max(record.metrics["accuracy"] for record in records)
    beside = min(record.metrics["flops"] for record in records if record.metrics["accuracy"] >= 0.3)
    assert "none of the 20 strategies keeps the limits" in message
    assert (
        f"flops at most 2: {least!r} is reached, with the other limits kept {beside!r}" in message
    )
    assert f"accuracy at least 0.3: {most!r} is reached\n" in message


def test_what_is_reached_can_be_asked_for(folder, records, tmp_path):
    least = min(record.metrics["memory_bytes"] for record in records)
    words = ["--max", f"memory_bytes={least!r}"]
    assert chosen(folder, tmp_path / "s.json", *words)["memory_bytes"] == least


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "say what to choose by: --preference, --max, --min or --knee"),
        (["--max", "flop=1"], "unknown metric 'flop'; did you mean 'flops'?"),
        (["--max", "flop=50%"], "unknown metric 'flop'; did you mean 'flops'?"),
        (["--preference", "speed=1"], "unknown objective 'speed'"),
        (["--preference", "flops=-1"], "weights >= 0"),
        (["--max", "flops=1", "--max", "flops=2"], "expected one limit per metric"),
    ],
)
def test_bad_input(folder, capsys, words, expected):
    assert expected in refused(folder, capsys, *words)


def test_no_run(tmp_path, capsys):
    assert "is no run folder" in refused(tmp_path, capsys, "--knee")


def test_what_to_keep_in_mind_is_told(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    task = json.loads((copy / "task.json").read_text())
    assert task["caution"] == ""
    (copy / "task.json").write_text(json.dumps(task | {"caution": "The weights know the images"}))
    for words in (["choose", str(copy), "--knee"], ["report", str(copy)]):
        out = tmp_path / words[0]
        assert cli.main([*words, "--out", f"{out}.json"]) == 0
        assert "The weights know the images" in capsys.readouterr().out
    assert "The weights know the images" in Path(f"{out}.json").read_text()


@pytest.mark.parametrize("words", [["--max", "flops"], ["--knee", "--preference", "flops=1"]])
def test_words_that_do_not_parse(folder, capsys, words):
    with pytest.raises(SystemExit) as exit:
        cli.main(["choose", str(folder), *words])
    assert exit.value.code == 2
    assert "NAME=NUMBER" in (printed := capsys.readouterr().err) or "not allowed with" in printed


def test_only_classifiers_are_trained_on():
    for score, trained in (("accuracy", True), ("mAP@0.5", False)):
        commands = next_commands(Path("one.json"), score).values()
        assert any("finetune" in command for command in commands) == trained
        assert any("export" in command for command in commands)


@pytest.mark.parametrize(
    ("value", "metric", "printed"),
    [
        (313_201_664, "flops", "313 M"),
        (999_600, "size_bytes", "1 MB"),
        (999, "params", "999"),
        (1234.0, "latency_ms", "1,230 ms"),
        (0.01234, "energy_mj", "0.0123 mJ"),
        (0.97653, "accuracy", "97.65 %"),
    ],
)
def test_numbers_for_people(value, metric, printed):
    assert format_metric(value, metric) == printed


@pytest.mark.parametrize("limit", ["accuracy=90", "accuracy=101%"])
def test_an_accuracy_that_nothing_has_is_refused(limit, folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["choose", str(folder), "--max", limit])
    assert stopped.value.code == 2
    assert "such as accuracy=0.9 or accuracy=90%" in " ".join(capsys.readouterr().err.split())
