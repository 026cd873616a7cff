"""An agent of one's own, named ``module:function``, on the command line and in the benchmark."""

import importlib
import os
import re
import textwrap

import pytest
from joblib.externals.loky import get_reusable_executor
from places import HELPERS, ROOT
from stable_baselines3 import SAC
from tiny_envs import TINY

from prune_gym import cli
from prune_gym.experiments.results import read_results

# What the docs tell to write, and agents with a mistake.
SECTION = (ROOT / "docs" / "adding.md").read_text().partition("## An agent")[2]
CLIMB, TUNED = map(textwrap.dedent, re.findall(r"```python\n(.*?)```", SECTION, re.S))
OTHERS = """

def play_some(env, episodes):
    for _ in range(episodes):
        play(env, np.zeros(len(env.unwrapped.problem.decisions)))


def too_long(env, settings):
    play_some(env, settings.episodes + 1)


def too_short(env, settings):
    play_some(env, settings.episodes - 1)


def with_a_list(env, settings):
    play_some(env, settings.episodes)
    return [1, 2]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that no other test has imported, here and in worker processes."""
    name = f"climb_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(CLIMB + OTHERS)
    (tmp_path / f"{name}_tuned.py").write_text(TUNED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT), str(HELPERS)]))
    get_reusable_executor().shutdown()  # the processes of earlier tests do not look there
    return name


def search(agent, run, *more, episodes=6):
    options = ["--env", TINY, "--agent", agent, "--episodes", str(episodes), "--run", str(run)]
    return cli.main(["train", *options, *more])


def test_it_searches_and_goes_on(module, tmp_path):
    agent, run = f"{module}:search", tmp_path / "run"
    options = ("--preference", "accuracy=1,flops=1")
    assert search(agent, run, *options, episodes=20) == 0
    records = read_results(run).records
    values = [tuple(r.strategy.values.values()) for r in records]
    assert len(values) == 20 and len(set(values)) > 10
    journal = run / "evaluations.jsonl"
    whole = journal.read_text()
    journal.write_text("".join(whole.splitlines(keepends=True)[:7]))
    assert search(agent, run, *options, "--resume", episodes=20) == 0
    assert journal.read_text() == whole


def test_it_starts_from_the_same_strategies_as_others(module, tmp_path):
    agents = (f"{module}:search", "nsga2")
    assert [search(agent, tmp_path / agent, episodes=20) for agent in agents] == [0, 0]
    own, other = (read_results(tmp_path / agent).records[:2] for agent in agents)
    for left, right in zip(own, other, strict=True):
        assert left.strategy.decisions == right.strategy.decisions


def test_what_it_has_learned_is_saved(module, tmp_path):
    run = tmp_path / "run"
    assert search(f"{module}_tuned:search", run) == 0
    assert SAC.load(run / "agent.zip").policy_kwargs["net_arch"] == [64, 64]
    assert len(read_results(run).records) == 6


def test_it_is_compared_in_the_benchmark(module, tmp_path):
    agent = f"{module}:search"
    options = ["benchmark", "--envs", TINY, "--agents", agent, "random", "--seeds", "2"]
    options += ["--evaluations", "6", "--jobs", "2", "--out", str(tmp_path / "out")]
    assert cli.main(options) == 0
    assert cli.main(["benchmark-report", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "benchmark.md").read_text()
    assert f"| {agent} | 2 |" in table and "| random | 2 |" in table


def test_one_that_goes_on_too_long_is_taken_up_again_once_it_stops(
    module, tmp_path, capsys, monkeypatch
):
    agent, run = f"{module}:too_long", tmp_path / "run"
    assert search(agent, run) == 2
    assert "goes on after the 6 episodes of its settings" in capsys.readouterr().err
    kept = (run / "evaluations.jsonl").read_text()
    assert len(kept.splitlines()) == 6
    ours = importlib.import_module(module)
    monkeypatch.setattr(ours, "too_long", lambda env, settings: ours.play_some(env, 6))
    assert search(agent, run, "--resume") == 0
    assert (run / "evaluations.jsonl").read_text() == kept


def test_one_that_stops_too_early_is_no_cell_of_the_benchmark(module, tmp_path, capsys):
    assert search(f"{module}:too_short", tmp_path / "run") == 0
    assert "5 strategies in" in capsys.readouterr().out
    options = ["benchmark", "--envs", TINY, "--agents", f"{module}:too_short", "--seeds", "1"]
    assert cli.main([*options, "--evaluations", "6", "--out", str(tmp_path / "out")]) != 0
    printed = "".join(capsys.readouterr())
    assert "it stopped after 5 of 6 strategies" in " ".join(printed.split())


def test_one_that_returns_something_else_loses_no_front(module, tmp_path, capsys):
    run = tmp_path / "run"
    assert search(f"{module}:with_a_list", run) == 2
    assert "returned a list; expected None, or an object with save(path)" in capsys.readouterr().err
    assert (run / "front" / "000.json").is_file()


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("MODULE:serch", "has no function 'serch'.*to be called with"),
        ("sb4:SAC", r"'sb4' cannot be imported.*PYTHONPATH\? \(of this package: .*sb3:NAME"),
    ],
)
def test_what_is_not_there_is_named(agent, message, module, tmp_path, capsys):
    assert search(agent.replace("MODULE", module), tmp_path / "run") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()
