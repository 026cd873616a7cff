import copy
import dataclasses
import json

import pytest
import torch
from named import OPTIONS, TASK, save_strategy
from playing import constant, play
from torch import nn

from prune_gym.cli import main
from prune_gym.compression.network_file import load_network
from prune_gym.compression.quantize import QuantizedLayer
from prune_gym.datasets.normalize import normalize
from prune_gym.envs.make import compression_env
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.run_config import RunConfig
from prune_gym.training import training
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.history import History
from prune_gym.training.recipe import TrainingRecipe, load_recipe, shipped_recipes
from prune_gym.training.training import divergence, train

RECIPE = TrainingRecipe(epochs=4, learning_rate=0.02, batch_size=32, warmup_epochs=0.5, seed=3)


def candidate(env, action=-0.6):
    """Return what a strategy of narrow layers comes to."""
    _, _, infos = play(env, constant(action))
    return env.problem.configure(infos[-1]["strategy"])


def weights(network):
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


def test_training_on_gains_accuracy(tiny, tmp_path):
    evaluator, made = tiny.problem.evaluator, candidate(tiny)
    tuned = finetune_candidate(evaluator, made, RECIPE, tmp_path / "checkpoint")
    before = accuracy(evaluator.candidate(made), evaluator.data, evaluator.data.test)
    after = accuracy(tuned.best, evaluator.data, evaluator.data.test)
    assert after > before + 0.02 and not tuned.best.training


def test_best_and_last_weights(tiny, tmp_path):
    data = tiny.problem.evaluator.data
    tuned = finetune_candidate(
        tiny.problem.evaluator, candidate(tiny), RECIPE, tmp_path / "checkpoint"
    )
    accuracies = [each["search_accuracy"] for each in tuned.history.epochs]
    assert len(accuracies) == RECIPE.epochs
    assert accuracies[tuned.history.best_epoch - 1] == max(accuracies)
    assert accuracy(tuned.best, data, data.search) == max(accuracies)
    assert accuracy(tuned.last, data, data.search) == accuracies[-1]


def test_of_equal_epochs_the_later_is_best():
    history, network = History(), nn.Linear(1, 1)
    for number, top1 in enumerate((0.5, 0.7, 0.7, 0.6)):
        nn.init.constant_(network.weight, number)
        history.add({"search_accuracy": top1}, network)
    assert history.best_epoch == 3 and history.best["weight"].item() == 2
    again = History()
    again.load_state_dict(history.state_dict())
    assert again.best_epoch == 3 and torch.equal(again.best["weight"], history.best["weight"])


def test_an_interrupted_fine_tuning_goes_on_to_the_same_result(tiny, tmp_path, monkeypatch):
    made, step, calls = candidate(tiny), training.training_step, []
    whole = finetune_candidate(tiny.problem.evaluator, made, RECIPE, tmp_path / "whole")

    def stops(*args):
        calls.append(1)
        if len(calls) == 40:  # an epoch has 16 steps
            raise KeyboardInterrupt
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_step", stops)
        with pytest.raises(KeyboardInterrupt):
            finetune_candidate(tiny.problem.evaluator, made, RECIPE, tmp_path / "cut")
    again = finetune_candidate(tiny.problem.evaluator, made, RECIPE, tmp_path / "cut")
    assert torch.equal(weights(again.best), weights(whole.best))
    assert torch.equal(weights(again.last), weights(whole.last))
    one, other = (
        [{**each, "seconds": 0} for each in tuned.history.epochs] for tuned in (whole, again)
    )
    assert one == other


def test_another_recipe_is_refused(tiny, tmp_path):
    made, files = candidate(tiny), (tmp_path / "checkpoint", tmp_path / "board")
    finetune_candidate(tiny.problem.evaluator, made, RECIPE, *files)
    shown = [path.read_bytes() for path in files[1].iterdir()]
    other = dataclasses.replace(RECIPE, distillation=0.5)
    with pytest.raises(UserError, match="other recipe"):
        finetune_candidate(tiny.problem.evaluator, made, other, *files)
    assert [path.read_bytes() for path in files[1].iterdir()] == shown != []


def test_zeros_stay_zeros(tiny_task, tmp_path):
    env = compression_env(**tiny_task, decide=("channels", "density"))
    made = candidate(env, action=-0.5)
    start = env.problem.evaluator.candidate(made)
    tuned = finetune_candidate(env.problem.evaluator, made, RECIPE, tmp_path / "checkpoint").last
    sparse = 0
    for name, module in start.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            before, after = module.weight, tuned.get_submodule(name).weight
            assert torch.equal(before == 0, after == 0), name
            assert not torch.equal(before, after), name
            sparse += int((before == 0).float().mean() > 0.2)
    assert sparse >= 3


def test_bits_come_after_training(tiny_task, tmp_path):
    env = compression_env(**tiny_task, decide=("weight_bits", "activation_bits"))
    made = candidate(env, action=-0.2)
    tuned = finetune_candidate(env.problem.evaluator, made, RECIPE, tmp_path / "checkpoint").best
    layers = [module for module in tuned.modules() if isinstance(module, QuantizedLayer)]
    assert [each.weight_bits for each in layers] == made.weight_bits[0].tolist()
    assert torch.equal(layers[0].weight, layers[0].weight.round())
    data = env.problem.evaluator.data
    assert accuracy(tuned, data, data.test) > 2 * data.chance


def test_distillation_learns_the_teachers_answers(tiny_data, tiny_net, tmp_path):
    teacher, student = copy.deepcopy(tiny_net), copy.deepcopy(tiny_net).requires_grad_(True)
    with torch.no_grad():  # the teacher mistakes every class for the next one
        teacher.classifier.weight.copy_(teacher.classifier.weight.roll(1, 0))
        teacher.classifier.bias.copy_(teacher.classifier.bias.roll(1, 0))
    recipe = dataclasses.replace(RECIPE, distillation=1.0, epochs=8)
    train(student, tiny_data, recipe, tmp_path / "checkpoint", teacher=teacher)
    images = normalize(tiny_data.test.images, tiny_data)
    with torch.inference_mode():
        ours, theirs = (each(images).argmax(1) for each in (student, teacher))
    assert (ours == theirs).float().mean() > 0.7
    assert accuracy(student, tiny_data, tiny_data.test) < 0.15


def test_divergence_is_that_of_the_definition():
    logits, taught = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.0, 2.0, 1.0]])
    p, q = (torch.softmax(each / 3, 1) for each in (taught, logits))
    expected = 9 * (p * (p / q).log()).sum()
    torch.testing.assert_close(divergence(logits, taught, 3.0), expected)
    assert divergence(taught, taught, 3.0) == 0


def test_distilling_needs_a_teacher(tiny_data, tiny_net, tmp_path):
    with pytest.raises(UserError, match="0.5.*teacher"):
        train(
            tiny_net, tiny_data, TrainingRecipe(epochs=1, distillation=0.5), tmp_path / "checkpoint"
        )


def test_a_batch_larger_than_the_data_is_refused(tiny_data, tiny_net, tmp_path):
    with pytest.raises(UserError, match="1000 .* 512"):
        train(
            tiny_net, tiny_data, TrainingRecipe(epochs=1, batch_size=1000), tmp_path / "checkpoint"
        )


def test_shipped_recipes_load():
    assert shipped_recipes() == ["long", "scratch", "short", "transformer"]
    for name in shipped_recipes():
        assert load_recipe(name).epochs >= 1
    assert load_recipe("short", epochs=3, seed=7) == dataclasses.replace(
        load_recipe("short"), epochs=3, seed=7
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs = 0", "epochs: .*got 0"),
        ("epochs = 2.5", "epochs: .*got 2.5"),
        ("epochs = 2\nlearning_rate = 'fast'", "learning_rate: .*got 'fast'"),
        ("epochs = 2\nlearning_rte = 0.1", "did you mean 'learning_rate'"),
        ("epochs = 2\ndistillation = 1.5", "distillation: .*got 1.5"),
        ("epochs = 2\nlearning_rate = nan", "learning_rate: .*got nan"),
        ("epochs = 2\nshift = 0.6", "shift: .*got 0.6"),
        ("epochs = 2\noptimizer = 'adam'", "optimizer of a recipe 'adam'; did you mean 'adamw'"),
        ("learning_rate = 0.1", "epochs"),
        ("epochs 2", "TOML"),
    ],
)
def test_recipes_that_are_none(content, message, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        load_recipe(str(file))


def test_recipes_that_are_missing(tmp_path):
    with pytest.raises(MissingFileError):
        load_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(ValueError, match="did you mean 'short'"):
        load_recipe("shrt")


def test_command_line_errors(tmp_path, capsys):
    assert main(["finetune", str(tmp_path / "none.json")]) == 2
    assert "no such strategy file" in capsys.readouterr().err
    assert main(["finetune", "x.json", "--recipe", "middle"]) == 2
    assert "unknown recipe" in capsys.readouterr().err


def test_command_line(tmp_path, capsys):
    strategy_file = save_strategy(tmp_path / "one.json")
    recipe = tmp_path / "mine.toml"
    recipe.write_text("epochs = 2\nbatch_size = 64\nlearning_rate = 0.02")
    out = tmp_path / "tuned.safetensors"
    command = ["finetune", str(strategy_file), *OPTIONS, "--recipe", str(recipe), "--distil", "0.3"]
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "pruned, not trained" in printed and "best, epoch" in printed
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["recipe"]["distillation"] == 0.3 and len(report["epochs"]) == 2
    network = load_network(f"{TASK['network']}@{out}")
    assert sum(p.numel() for p in network.parameters()) == report["strategy"]["metrics"]["params"]
    assert list(out.with_suffix(".tensorboard").glob("events.out.tfevents.*"))
    assert load_network(f"{TASK['network']}@{tmp_path / 'tuned-last.safetensors'}") is not None

    assert main([*command, "--out", str(out)]) == 0  # finished: nothing is trained again
    assert "loss" not in capsys.readouterr().out
    again = json.loads(out.with_suffix(".json").read_text())
    assert again == report
    assert main([*command, "--epochs", "3", "--out", str(out)]) == 2
    assert "other recipe" in capsys.readouterr().err


def test_a_training_that_ruins_is_told(tmp_path, capsys):
    strategy_file, recipe = save_strategy(tmp_path / "one.json"), tmp_path / "mine.toml"
    recipe.write_text("epochs = 1\nbatch_size = 64\nlearning_rate = 20\nwarmup_epochs = 0")
    assert main(["finetune", str(strategy_file), *OPTIONS, "--recipe", str(recipe)]) == 0
    assert "Training made it worse" in capsys.readouterr().out


def test_files_are_named_after_the_strategy_and_strategies_are_not_overwritten(
    tmp_path, capsys, monkeypatch
):
    asked = []

    def stops(strategy, recipe, out, on_progress, **named):
        asked.append(out)
        raise UserError("enough")

    monkeypatch.setattr("prune_gym.training.finetune.finetune", stops)
    file = save_strategy(tmp_path / "keep-0.25.json")
    for out in ([], ["--out", "new.v2"], ["--out", "new.safetensors"]):
        assert main(["finetune", str(file), *out]) == 2
    names = ["keep-0.25-finetuned.safetensors", "new.v2.safetensors", "new.safetensors"]
    assert [path.name for path in asked] == names
    monkeypatch.undo()
    before = file.read_bytes()
    assert main(["finetune", str(file), "--out", str(file.with_suffix(".safetensors"))]) == 2
    assert "holds something else: give --out another name" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_run_whose_strategy_was_trained_on_is_still_read(tiny_task, tmp_path, capsys):
    env = RecordRun(
        compression_env(**tiny_task),
        RunFolder(tmp_path / "run", RunConfig("", "random", 2, 0), resume=False),
    )
    play(env)
    env.write_front()
    figures = tmp_path / "run" / "front" / "000-finetuned.json"
    figures.write_text('{"best_epoch": 1}')
    assert main(["choose", str(tmp_path / "run"), "--knee", "--out", str(tmp_path / "k.json")]) == 0
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "r.html")]) == 0
    env.write_front()
    env.close()
    assert figures.read_text() == '{"best_epoch": 1}'
