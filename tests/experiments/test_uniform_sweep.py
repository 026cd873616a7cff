import numpy as np
import pytest

from prune_gym import cli
from prune_gym.envs.make import compression_env
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.journal import read_journal
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.results import read_results
from prune_gym.experiments.run_config import RunConfig


@pytest.fixture
def recorded(tiny_task, tmp_path):
    """A function that records one random strategy of the tiny network."""
    opened = []

    def record(**arguments):
        config = RunConfig("", "random", 1, 0)
        env = RecordRun(
            compression_env(**tiny_task, **arguments), RunFolder(tmp_path, config, False)
        )
        opened.append(env)
        env.reset()
        while not env.step(env.action_space.sample())[2]:
            pass
        return env

    yield record
    for each in opened:
        each.close()


def test_the_sweep_treats_every_decision_alike(recorded):
    env = recorded()
    space = env.problem.space
    assert env.complete_uniform_sweep() == 7
    env.write_front()
    found = read_results(env.folder.path)
    assert len(found.records) == 1 and len(found.uniform) == 7
    for record, action in zip(found.uniform, np.linspace(-1, 1, 7), strict=True):
        values = space.decode(np.full((1, len(space)), action))
        returned = env.problem.evaluate(values)[0]
        assert record.metrics["accuracy"] == returned[0]
        assert list(record.strategy.values.values()) == values[0].tolist()
    assert found.uniform[-1].metrics["flops"] == env.problem.original["flops"]


def test_a_sweep_keeps_to_the_budgets(recorded):
    env = recorded(budgets={"flops": 0.5})
    env.complete_uniform_sweep()
    env.write_front()
    uniform = read_results(env.folder.path).uniform
    limit = env.problem.original["flops"] / 2
    assert 0 < len(uniform) < 7
    assert all(each.metrics["flops"] <= limit for each in uniform)


def test_the_picture_has_the_sweep(recorded):
    env = recorded()
    env.complete_uniform_sweep()
    axis = env.figure().axes[0]
    (line,) = (each for each in axis.lines if each.get_label().startswith("uniform sweep"))
    assert len(line.get_xdata()) == 7
    assert line.get_xdata()[-1] == pytest.approx(100) and (np.diff(line.get_xdata()) > 0).all()
    assert "uniform sweep, beside the search" in [
        text.get_text() for text in axis.get_legend().get_texts()
    ]


def test_train_evaluates_the_sweep_once(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--env", "ChannelPrune-Table-v0", "--agent", "random", "--episodes", "3"]
    assert cli.main(["train", *options, "--run", str(folder)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "uniform sweep as reference, 7 evaluated beside" in printed
    sweep = (folder / "uniform.jsonl").read_bytes()
    assert len(read_journal(folder / "uniform.jsonl")[0]) == 7
    assert len(read_journal(folder / "evaluations.jsonl")[0]) == 3
    assert cli.main(["train", *options, "--run", str(folder), "--resume"]) == 0
    assert (folder / "uniform.jsonl").read_bytes() == sweep
