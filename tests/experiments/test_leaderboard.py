import csv
import json
import shutil
import sys

import pytest

from prune_gym import cli
from prune_gym._utils.checked_lines import checked_line, read_checked_line

TABLE = "ChannelPrune-Table-v0"
CELL = f"runs/{TABLE}/random/seed-0"


def words(text):
    return " ".join(text.split())


def rows(file):
    return list(csv.DictReader(file.open(newline="")))


def add(results, out):
    return cli.main(["leaderboard", "add", str(results), "--out", str(out)])


def benchmark(out, *more, agents=("random", "uniform"), evaluations=3):
    given = ["--agents", *agents, "--seeds", "2", "--evaluations", str(evaluations), *more]
    assert cli.main(["benchmark", "--envs", TABLE, *given, "--out", str(out)]) == 0


def change_json(file, **changed):
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def change_journal(file, change):
    lines = [read_checked_line(line) for line in file.read_text().splitlines()]
    for line in lines:
        change(line)
    file.write_bytes(b"".join(map(checked_line, lines)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    benchmark(folder)
    return folder


@pytest.fixture
def results(finished, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(finished, tmp_path / "results")


def test_what_is_entered_is_what_was_measured_again(finished, tmp_path, capsys):
    out = tmp_path / "board.csv"
    assert add(finished, out) == 0
    board = {row["agent"]: row for row in rows(out)}
    assert {agent: row["seeds"] for agent, row in board.items()} == {"random": "2", "uniform": "1"}
    for agent, row in board.items():
        ends = [r for r in rows(finished / "results.csv") if r["evaluations"] == "3"]
        for figure in ("hypervolume", "expected_utility"):
            claimed = [float(r[figure]) for r in ends if r["agent"] == agent]
            mean = sum(claimed) / len(claimed)
            assert float(row[figure]) == pytest.approx(mean, abs=0.004)
        assert (row["env"], row["evaluations"]) == (TABLE, "3")
        assert float(row["low"]) <= float(row["hypervolume"]) <= float(row["high"])
    said = words(capsys.readouterr().out)
    assert f"{TABLE}, 3 evaluations" in said and f"{float(board['random']['low']):.4f} to" in said


def test_a_later_entry_replaces_its_own_and_no_other(finished, tmp_path):
    out, other = tmp_path / "board.csv", tmp_path / "other"
    assert add(finished, out) == 0
    before = rows(out)
    assert add(finished, out) == 0
    assert rows(out) == before
    benchmark(other, agents=("random",), evaluations=2)
    assert add(other, out) == 0
    assert [(row["evaluations"], row["agent"]) for row in rows(out)] == [
        ("2", "random"),
        *(("3", row["agent"]) for row in before),
    ]
    assert rows(out)[1:] == before


def test_the_best_of_a_task_comes_first(finished, tmp_path):
    out = tmp_path / "board.csv"
    assert add(finished, out) == 0
    volumes = [float(row["hypervolume"]) for row in rows(out)]
    assert len(volumes) == 2 and volumes == sorted(volumes, reverse=True)


@pytest.mark.parametrize(("metric", "better"), [("accuracy", 1.0), ("flops", 1.0)])
def test_claims_that_are_not_reproduced_are_not_entered(results, metric, better, tmp_path, capsys):
    change_journal(results / CELL / "evaluations.jsonl", lambda line: line.update({metric: better}))
    assert add(results, tmp_path / "board.csv") == 1
    said = words(capsys.readouterr().out)
    assert "NOT reproduced" in said and f"{TABLE} random seed 0" in said and metric in said
    assert not (tmp_path / "board.csv").exists()


def test_strategies_of_other_weights_are_not_entered(results, tmp_path, capsys):
    journal = results / CELL / "evaluations.jsonl"
    change_journal(journal, lambda line: line["strategy"].update(weights="0" * 64))
    assert add(results, tmp_path / "board.csv") == 1
    assert "other weights" in words(capsys.readouterr().out)


def test_a_file_names_no_code_to_run(results, tmp_path, capsys, monkeypatch):
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = results / CELL.replace("random", "evil-agent")
    cell.parent.mkdir()
    (results / CELL).rename(cell)
    change_json(cell / "config.json", agent="evil:agent")
    named = {"env_id": "evil:Id-v0", "env_kwargs": {"network": "evil:net", "data": "evil:data"}}
    change_journal(cell / "evaluations.jsonl", lambda line: line["strategy"].update(named))
    out = tmp_path / "board.csv"
    assert add(results, out) == 0  # measured in the published environment
    assert "evil:agent" in {row["agent"] for row in rows(out)}
    change_json(cell / "config.json", env_kwargs={"network": "evil:net"})
    assert add(results, out) == 2
    assert "config.json: expected a published environment" in words(capsys.readouterr().err)
    moved = results / "runs/evil-Id-v0/evil-agent/seed-0"
    moved.parent.mkdir(parents=True)
    cell.rename(moved)
    change_json(moved / "config.json", env="evil:Id-v0", env_kwargs={})
    assert add(results, out) == 2
    assert "config.json: unknown environment 'evil:Id-v0'" in words(capsys.readouterr().err)
    assert not (tmp_path / "ran").exists() and "evil" not in sys.modules


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{}", "config.json is damaged: it lacks env"),
        ("config.json", "[", "config.json is not JSON"),
        ("task.json", "{}", "task.json is damaged"),
        ("evaluations.jsonl", "", "no episode is finished yet"),
    ],
)
def test_damaged_files_are_named(results, file, content, message, tmp_path, capsys):
    (results / CELL / file).write_text(content)
    assert add(results, tmp_path / "board.csv") == 2
    said = words(capsys.readouterr().err)
    assert message in said and "seed-0" in said


def test_a_cell_with_fewer_strategies_than_it_says_is_refused(results, tmp_path, capsys):
    journal = results / CELL / "evaluations.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    assert add(results, tmp_path / "board.csv") == 2
    assert "evaluations.jsonl: expected 3 evaluated strategies, got 2" in words(
        capsys.readouterr().err
    )


def test_a_strategy_of_another_network_names_its_file(results, tmp_path, capsys):
    def rename(line):
        line["strategy"]["decisions"][0]["name"] = "layer1.0"

    change_journal(results / CELL / "evaluations.jsonl", rename)
    assert add(results, tmp_path / "board.csv") == 2
    assert "seed-0/evaluations.jsonl:" in words(capsys.readouterr().err)


def test_a_copied_cell_does_not_count_twice(results, tmp_path, capsys):
    shutil.copytree(results / CELL, results / CELL.replace("seed-0", "seed-7"))
    assert add(results, tmp_path / "board.csv") == 2
    assert "seed-7/config.json is of" in words(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no leaderboard"),
        (b"a,b\n1,2\n", "expected the columns env, evaluations"),
        (b"\xff\xfe\x00", "is no leaderboard"),
        (b"HEAD\nT,3,random,2,nan,0.1,0.2,0.3,0.1\n", "is not a finite number"),
        (b"HEAD\nT,3,random\n", "expected 9 columns in every row, got 3"),
    ],
)
def test_another_file_is_not_written_over(finished, content, message, tmp_path, capsys):
    out = tmp_path / "board.csv"
    head = b"env,evaluations,agent,seeds,hypervolume,low,high,expected_utility,version"
    out.write_bytes(content.replace(b"HEAD", head))
    before = out.read_bytes()
    assert add(finished, out) == 2
    said = words(capsys.readouterr().err)
    assert message in said and "board.csv" in said
    assert out.read_bytes() == before


def test_a_folder_of_something_else_is_told(tmp_path, capsys):
    assert add(tmp_path, tmp_path / "board.csv") == 2
    assert "holds no finished cell of `prune-gym benchmark`" in words(capsys.readouterr().err)
