"""Libraries of pruned and retrained networks: made, resumed, used by environments, checked."""

import json
import pickle

import numpy as np
import pytest
import torch
from nets import Tiny
from playing import constant, play

from prune_gym.cli import main
from prune_gym.envs.make import compression_env
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.network_library import MANIFEST, Library
from prune_gym.evaluation.task import make_evaluator
from prune_gym.training import build_library as building
from prune_gym.training.build_library import build_library
from prune_gym.training.recipe import TrainingRecipe

DENSITIES = (0.6, 0.4, 0.25)
RECIPE = TrainingRecipe(epochs=1, learning_rate=0.02, batch_size=32, warmup_epochs=0.0)


@pytest.fixture(scope="module")
def evaluator(tiny_net, tiny_data):
    return make_evaluator(tiny_net, tiny_data, "none", block_size=1)


def build(evaluator, folder, densities=DENSITIES, recipe=RECIPE):
    build_library(evaluator, "tiny", folder, recipe, densities)


@pytest.fixture(scope="module")
def folder(evaluator, tmp_path_factory):
    path = tmp_path_factory.mktemp("library")
    build(evaluator, path)
    return path


@pytest.fixture(scope="module")
def task(tiny_task):
    return tiny_task | {
        "decide": ("global_density", "weight_bits"),
        "objectives": ("accuracy", "size"),
        "granularity": 1,
    }


def share(network):
    weights = [m.weight for m in network.modules() if hasattr(m, "weight") and m.weight.ndim > 1]
    return sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def test_every_network_has_its_density_and_stays_trained(evaluator, folder):
    library = Library(folder)
    for density in DENSITIES:
        network = library.network_at(density, evaluator.network)
        assert share(network) == pytest.approx(density, abs=0.005)
    assert [each["density"] for each in library.manifest["networks"]] == list(DENSITIES)
    assert min(each["search_accuracy"] for each in library.manifest["networks"]) > 0.6


def test_the_sparsest_network_that_is_dense_enough_is_the_start(evaluator, folder):
    library, original = Library(folder), evaluator.network
    assert share(library.network_at(0.3, original)) == pytest.approx(0.4, abs=0.005)
    for density in (0.7, 1.0):
        found, expected = library.network_at(density, original).state_dict(), original.state_dict()
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_an_interrupted_library_goes_on_to_identical_files(
    evaluator, folder, tmp_path, monkeypatch
):
    train, calls = building.train, []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(building, "train", stops)
        with pytest.raises(KeyboardInterrupt):
            build(evaluator, tmp_path)
    with pytest.raises(UserError, match="1 of 3"):
        Library(tmp_path)
    build(evaluator, tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 1 + len(DENSITIES)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_finished_library_is_not_trained_again(evaluator, folder, monkeypatch):
    monkeypatch.setattr(building, "train", None)
    build(evaluator, folder)


def test_another_library_is_not_mixed_in(evaluator, folder):
    with pytest.raises(UserError, match="recipe, densities"):
        build(evaluator, folder, (0.5,), TrainingRecipe(epochs=2))


def test_candidates_start_from_the_library(task, folder):
    plain, env = (
        compression_env(**task, repair="none"),
        compression_env(**task, library=str(folder)),
    )
    assert env.problem.original["accuracy"] == plain.problem.original["accuracy"]

    def sparse(step):  # a density of 0.25, and 8 bits
        return np.array([1.0 if step else 2 * 0.15 / 0.9 - 1], dtype=np.float32)

    without, found = (play(each, sparse)[2][-1] for each in (plain, env))
    assert found["strategy"]["decisions"][0]["value"] == 0.25
    assert found["size_bytes"] == without["size_bytes"]
    assert found["accuracy"] > without["accuracy"] + 0.05
    assert env.problem.validate(json.loads(json.dumps(found["strategy"]))).reproduced
    counted = env.problem.costs["params"](env.problem.configure(found["strategy"]))[0]
    candidate = env.problem.apply(found["strategy"])
    weights = sum(int(p.count_nonzero()) for n, p in candidate.named_parameters() if "weight" in n)
    assert weights <= counted  # biases and batch-norm are counted too


def test_environments_share_the_memo_and_survive_pickling(task, folder):
    env = compression_env(**task, library=str(folder))
    accuracy = play(env, constant(-0.5))[2][-1]["accuracy"]
    again = pickle.loads(pickle.dumps(env))
    assert again.problem.evaluator.accuracy(
        again.problem.configure(play(env, constant(-0.5))[2][-1]["strategy"])
    ) == (accuracy)
    assert play(again, constant(-0.5))[2][-1]["accuracy"] == accuracy


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decide": ("channels", "weight_bits")}, "library: .*global_density.*channels"),
        ({"decide": ("global_density", "channels")}, "library: .*global_density.*channels"),
        ({"granularity": 4}, "granularity=1, got 4"),
    ],
)
def test_decisions_that_a_library_does_not_serve(task, folder, changed, message):
    with pytest.raises(UserError, match=message):
        compression_env(**task | changed, library=str(folder))


def test_a_library_of_other_weights(task, folder):
    torch.manual_seed(9)
    with pytest.raises(UserError, match="weights.*tiny"):
        compression_env(**task | {"network": Tiny().eval()}, library=str(folder))


def test_what_is_no_library(task, tmp_path, evaluator, folder):
    with pytest.raises(MissingFileError, match=MANIFEST):
        compression_env(**task, library=str(tmp_path))
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="JSON"):
        compression_env(**task, library=str(tmp_path))
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(UserError, match="'prune-gym-library-1', got None"):
        compression_env(**task, library=str(tmp_path))
    (tmp_path / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())
    library = Library(tmp_path)
    with pytest.raises(UserError, match="0.400.safetensors is missing"):
        library.network_at(0.4, evaluator.network)
    (tmp_path / "0.400.safetensors").write_bytes((folder / "0.600.safetensors").read_bytes())
    with pytest.raises(UserError, match="0.400.safetensors is not the file"):
        library.network_at(0.4, evaluator.network)


@pytest.mark.parametrize(
    "change",
    [
        {"networks": 5},
        {"networks": [{"density": 0.5}]},
        {"networks": [{"density": 0.5, "file": "../../other.safetensors", "sha256": ""}]},
        {"densities": [10**400]},
        {"densities": "0.5"},
        {"start": None},
        {"network": {}},
    ],
)
def test_a_foreign_manifest_is_checked(change, folder, tmp_path):
    manifest = json.loads((folder / MANIFEST).read_text()) | change
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"{MANIFEST} .* {next(iter(change))}"):
        Library(tmp_path)


def test_the_command_refuses_bad_input(tmp_path, capsys):
    assert main(["library", "--least", "2", "--out", str(tmp_path)]) == 2
    assert "min_density: expected a share" in capsys.readouterr().err
    assert main(["library", "--network", "vgg17", "--out", str(tmp_path)]) == 2
    assert "vgg16" in capsys.readouterr().err
