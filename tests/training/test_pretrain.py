import dataclasses
import zipfile

import numpy as np
import pytest
import torch
from nets import Tiny

from prune_gym import models
from prune_gym.datasets.normalize import normalize
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.training import training
from prune_gym.training.checkpoint import delete_checkpoint
from prune_gym.training.examples import augmented_batch
from prune_gym.training.optimizer import make_optimizer
from prune_gym.training.pretrain import recipe_of
from prune_gym.training.recipe import TrainingRecipe
from prune_gym.training.training import train

RECIPE = TrainingRecipe(epochs=3, learning_rate=0.05, batch_size=64, seed=4)


def fresh():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tiny()


def test_training_learns(tiny_data, tmp_path):
    net = train(
        fresh(), tiny_data, TrainingRecipe(epochs=8, batch_size=32), tmp_path / "checkpoint"
    )
    assert accuracy(net, tiny_data, tiny_data.test) > 0.8 and not net.training


def test_adamw_decays_the_weights_of_layers_alone(tiny_data, tmp_path):
    """With a learning rate times decay of 1, one step leaves nothing of what decays."""
    vit = models.build("vit_tiny", 10)
    recipe = TrainingRecipe(1, learning_rate=1e-3, weight_decay=1e3, optimizer="adamw")
    before = {name: each.detach().clone() for name, each in vit.named_parameters()}
    optimizer = make_optimizer(vit, recipe)
    for parameter in vit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    gone = {name for name, each in vit.named_parameters() if not each.any()}
    kept = {name for name, each in vit.named_parameters() if torch.equal(each, before[name])}
    layers = (torch.nn.Conv2d, torch.nn.Linear)
    assert gone >= {f"{n}.weight" for n, m in vit.named_modules() if isinstance(m, layers)}
    assert kept >= {"pos_embed", "norm.weight", "blocks.0.attn.qkv.bias"}
    assert not gone & {"pos_embed", "norm.weight"}


def test_training_with_adamw_learns(tiny_data, tmp_path):
    recipe = TrainingRecipe(8, learning_rate=5e-3, batch_size=32, optimizer="adamw")
    net = train(fresh(), tiny_data, recipe, tmp_path / "checkpoint")
    assert accuracy(net, tiny_data, tiny_data.test) > 0.8


def test_each_network_has_a_recipe():
    assert recipe_of("resnet20") == TrainingRecipe(epochs=100)
    assert recipe_of("vit_tiny", epochs=3, seed=2).optimizer == "adamw"
    for name in models.NETWORKS:
        assert recipe_of(name, epochs=3).epochs == 3
    with pytest.raises(ValueError, match="unknown network 'vit_tin'; did you mean 'vit_tiny'"):
        recipe_of("vit_tin")


def interrupted(data, checkpoint, monkeypatch, at):
    """Train until a step is stopped as by Ctrl-C; an epoch has 8 steps."""
    step, calls = training.training_step, []

    def stops(*args):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training, "training_step", stops)
        with pytest.raises(KeyboardInterrupt):
            train(fresh(), data, RECIPE, checkpoint)


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """The weights at the end of a training that nothing interrupts."""
    checkpoint = tmp_path_factory.mktemp("training") / "checkpoint"
    return train(fresh(), tiny_data, RECIPE, checkpoint).state_dict()


def trained_alike(network, whole):
    state = network.state_dict()
    return all(torch.equal(whole[key], state[key]) for key in whole)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    tiny_data, tmp_path, monkeypatch, whole
):
    checkpoint = tmp_path / "cut"
    interrupted(tiny_data, checkpoint, monkeypatch, at=12)  # in the middle of the second epoch
    assert trained_alike(train(fresh(), tiny_data, RECIPE, checkpoint), whole)


def test_a_finished_training_is_not_trained_again(tiny_data, tmp_path, monkeypatch, whole):
    checkpoint = tmp_path / "checkpoint"
    train(fresh(), tiny_data, RECIPE, checkpoint)
    monkeypatch.setattr(training, "training_step", None)
    assert trained_alike(train(fresh(), tiny_data, RECIPE, checkpoint), whole)


def flipped(path):
    """Return a checkpoint's bytes with one bit of its largest tensor flipped."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        tensor = archive.read(largest)
    content = bytearray(path.read_bytes())
    content[content.index(tensor) + 3] ^= 0x40
    return bytes(content)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "flipped"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage, tiny_data, tmp_path, monkeypatch, whole
):
    checkpoint = tmp_path / "checkpoint"
    interrupted(tiny_data, checkpoint, monkeypatch, at=20)  # in the third epoch
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "garbage": b"PK" * 500,
            "empty": b"",
            "flipped": flipped(checkpoint),
        }[damage]
    )
    step, calls = training.training_step, []
    monkeypatch.setattr(training, "training_step", lambda *args: (calls.append(1), step(*args))[1])
    with pytest.warns(UserWarning, match="checkpoint is damaged"):
        network = train(fresh(), tiny_data, RECIPE, checkpoint)
    assert trained_alike(network, whole)
    assert len(calls) == 16  # the first epoch is not done again


def test_a_kill_between_the_two_renames_loses_one_epoch(tiny_data, tmp_path, monkeypatch, whole):
    checkpoint = tmp_path / "checkpoint"
    interrupted(tiny_data, checkpoint, monkeypatch, at=20)
    checkpoint.unlink()
    assert trained_alike(train(fresh(), tiny_data, RECIPE, checkpoint), whole)


def test_checkpoints_that_are_all_damaged(tiny_data, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    train(fresh(), tiny_data, TrainingRecipe(epochs=2), checkpoint)
    both = list(tmp_path.iterdir())
    assert len(both) == 2
    for path in both:
        path.write_bytes(path.read_bytes()[:500])
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(UserError, match="checkpoint and .*checkpoint.previous"),
    ):
        train(fresh(), tiny_data, TrainingRecipe(epochs=2), checkpoint)


def test_a_deleted_checkpoint_leaves_nothing(tiny_data, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    train(fresh(), tiny_data, TrainingRecipe(epochs=2), checkpoint)
    delete_checkpoint(checkpoint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["recipe", "data", "start"])
def test_checkpoints_of_another_training(other, tiny_data, tmp_path):
    checkpoint, network = tmp_path / "checkpoint", fresh()
    train(fresh(), tiny_data, TrainingRecipe(epochs=1), checkpoint)
    recipe = TrainingRecipe(epochs=2 if other == "recipe" else 1)
    data = dataclasses.replace(tiny_data, name="other") if other == "data" else tiny_data
    if other == "start":
        with torch.no_grad():
            network.classifier.bias[0] += 1.0
    with pytest.raises(UserError, match=f"other .*{other}"):
        train(network, data, recipe, checkpoint)


def batch_of(data, chosen, rng, shift):
    return augmented_batch(data, data.train, chosen, rng, shift)


def test_images_stay_where_they_are_without_a_shift(tiny_data):
    data = dataclasses.replace(tiny_data, flip=False)
    images, _ = batch_of(data, np.arange(16), np.random.default_rng(0), 0.0)
    assert torch.equal(images, normalize(data.train.images[:16], data))


def test_a_batch_is_augmented_by_the_generator_alone(tiny_data):
    chosen = np.arange(16)
    one, again, other = (
        batch_of(tiny_data, chosen, np.random.default_rng(seed), 0.125) for seed in (0, 0, 1)
    )
    assert torch.equal(one[0], again[0]) and not torch.equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], tiny_data.train.labels[:16])
