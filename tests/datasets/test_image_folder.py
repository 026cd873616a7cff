import hashlib
import runpy
import shutil

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from places import ROOT
from playing import constant, play

from prune_gym import datasets, models
from prune_gym.datasets import image_folder, imagenet
from prune_gym.errors import MissingFileError, UserError
from prune_gym.models.weights_file import save_weights


def write_images(root, classes, count, suffix="png", seed=0):
    """Write images of odd sizes whose middle shows their class; return the number of classes."""
    rng = np.random.default_rng(seed)
    for label in range(classes):
        folder = root / f"class-{label}"
        folder.mkdir(parents=True)
        for index in range(count):
            height, width = rng.integers(20, 60, 2)
            pixels = rng.integers(0, 60, (height, width, 3))
            pixels[height // 4 : -(height // 4), width // 4 : -(width // 4), label % 3] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.{suffix}")


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "fruit", 3, 20)
    (tmp_path / "fruit" / "readme.txt").write_text("not an image")
    return tmp_path / "fruit"


def test_the_splits(root):
    data = image_folder.load(root, size=16)
    assert data.name == "fruit" and data.num_classes == 3
    splits = data.train, data.search, data.test
    assert [len(split) for split in splits] == [48, 6, 6]
    for split in splits:
        assert split.images.dtype == np.uint8 and split.images.shape[1:] == (3, 16, 16)
        middle = split.images[:, :, 6:10, 6:10].mean((2, 3))
        assert (middle.argmax(1) == split.labels).all()
    digests = [hashlib.sha256(image.tobytes()).digest() for s in splits for image in s.images]
    assert len(set(digests)) == 60


def test_the_split_depends_on_class_and_name_alone(root, tmp_path):
    moved = tmp_path / "elsewhere" / "fruit"
    for path in sorted(root.glob("*/*.png"), reverse=True):
        (moved / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, moved / path.parent.name)
    one, other = image_folder.load(root, size=16), image_folder.load(moved, size=16)
    for name in ("train", "search", "test"):
        np.testing.assert_array_equal(getattr(one, name).images, getattr(other, name).images)


def test_the_middle_is_cut_out_and_not_squeezed(tmp_path):
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert (image_folder.read_image(tmp_path / "wide.png", 56) == 255).all()


def test_grey_and_transparent_images_are_read(tmp_path):
    for mode in ("L", "RGBA", "P", "1"):
        Image.new(mode, (30, 20)).save(tmp_path / "image.png")
        assert image_folder.read_image(tmp_path / "image.png", 16).shape == (16, 16, 3)


def test_fewer_images_can_be_read(root):
    data = image_folder.load(root, size=16, most={"train": 5, "test": 2})
    assert [len(split) for split in (data.train, data.search, data.test)] == [5, 6, 2]


def test_what_is_wrong_with_a_folder_is_said(root, tmp_path):
    with pytest.raises(MissingFileError, match="nothing: "):
        image_folder.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="empty: .*CLASS/IMAGE"):
        image_folder.load(tmp_path / "empty")
    with pytest.raises(UserError, match="10000x10000"):
        image_folder.load(root, size=10_000)
    damaged = root / "class-0" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(UserError, match=r"class-0.0\.png"):
        image_folder.load(root, size=16)
    write_images(tmp_path / "few", 1, 2)
    with pytest.raises(UserError, match="30 .* got 2"):
        image_folder.load(tmp_path / "few", size=16)


def test_every_class_is_in_every_split(root):
    write_images(root / "rare", 1, 3)
    data = image_folder.load(root, size=16)
    for split in (data.train, data.search, data.test):
        assert set(split.labels) == {0, 1, 2, 3}


def test_only_folders_of_images_are_classes(root):
    expected = image_folder.load(root, size=16)
    for name in (".ipynb_checkpoints", "__MACOSX", "notes"):
        (root / name).mkdir()
    shutil.copy(root / "class-0" / "0.png", root / ".ipynb_checkpoints" / "0.png")
    shutil.copy(root / "class-0" / "0.png", root / "__MACOSX" / "0.png")
    shutil.copy(root / "class-0" / "0.png", root / "class-1" / "._0.png")
    found = image_folder.load(root, size=16)
    assert found.num_classes == 3
    np.testing.assert_array_equal(found.train.labels, expected.train.labels)


def test_images_in_sub_folders_are_of_their_class(root):
    (root / "class-2" / "more" / "still more").mkdir(parents=True)
    for index in range(10):
        source = root / "class-2" / f"{index}.png"
        source.rename(root / "class-2" / "more" / "still more" / source.name)
    data = image_folder.load(root, size=16)
    splits = data.train, data.search, data.test
    assert sum((split.labels == 2).sum() for split in splits) == 20


def test_folders_of_splits_are_no_classes(root, tmp_path):
    (tmp_path / "whole").mkdir()
    for name in ("train", "val"):
        shutil.copytree(root, tmp_path / "whole" / name)
    with pytest.raises(UserError, match="train, val"):
        image_folder.load(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most": {"val": 2}}, "'val'.* train, search, test"),
        ({"most": {"train": 0}}, "images >= 1, got 0"),
        ({"most": {"train": 2.5}}, "images >= 1, got 2.5"),
        ({"size": (32, 32)}, r"size: .*got \(32, 32\)"),
        ({"size": 0}, "size: .*got 0"),
    ],
)
def test_options_that_are_none(root, options, message):
    with pytest.raises(UserError, match=message):
        image_folder.load(root, **({"size": 16} | options))


@pytest.fixture
def small_imagenet(tmp_path, monkeypatch):
    """An ImageNet of three classes with weights in a data home, read with fewer pixels."""
    monkeypatch.setenv("PRUNE_GYM_HOME", str(tmp_path))
    for name, value in {"CLASSES": 3, "TRAIN": 20, "SEARCH": 12, "TEST": 6, "SIZE": 32}.items():
        monkeypatch.setattr(imagenet, name, value)
    write_images(tmp_path / "imagenet" / "train", 3, 12, "JPEG")
    write_images(tmp_path / "imagenet" / "val", 3, 4, "JPEG", seed=1)
    net = models.build("mobilenet_v1_imagenet", 3)
    file = "mobilenet_v1_imagenet-imagenet.safetensors"
    save_weights(net, tmp_path / "weights" / file, {})
    datasets.load.cache_clear()
    yield tmp_path
    datasets.load.cache_clear()


def test_an_imagenet_id_from_images_and_weights_in_the_data_home(small_imagenet):
    env = gym.make("ChannelPrune-MobileNetV1-ImageNet-v0")
    data = env.unwrapped.problem.evaluator.data
    assert [len(split) for split in (data.train, data.search, data.test)] == [20, 12, 6]
    _, rewards, infos = play(env, constant(-0.5))
    assert len(rewards) == 14 and 0 <= infos[-1]["accuracy"] <= 1
    assert infos[-1]["flops"] < env.unwrapped.problem.original["flops"]


def test_imagenet_must_be_there_and_whole(small_imagenet):
    shutil.rmtree(small_imagenet / "imagenet" / "val" / "class-2")
    with pytest.raises(UserError, match="got 3 and 2"):
        imagenet.load()
    shutil.rmtree(small_imagenet / "imagenet" / "val")
    with pytest.raises(MissingFileError, match="imagenet: .*train/"):
        imagenet.load()


def test_imagenet_needs_more_training_images_than_it_searches_on(small_imagenet, monkeypatch):
    monkeypatch.setattr(imagenet, "SEARCH", 36)
    with pytest.raises(UserError, match="36 images .* got 36"):
        imagenet.load()


@pytest.mark.ci
def test_the_table_of_accuracy_against_multiply_adds(small_imagenet, capsys):
    script = runpy.run_path(str(ROOT / "benchmarks" / "without_training.py"))
    out = small_imagenet / "table.csv"
    asked = ["--env", "ChannelPrune-MobileNetV1-ImageNet-v0", "--keep", "0.7", "0.5"]
    search = ["--evaluations", "2", "--calibration", "15", "--device", "cpu"]
    script["main"]([*asked, *search, "--out", str(out)])
    header, original, *rows = [line.split(",") for line in out.read_text().splitlines()]
    assert header[:2] == ["keep", "multiply_adds"]
    for (keep, flops, *_), share in zip(rows, ("0.7", "0.5"), strict=True):
        assert keep == share
        assert float(flops) <= float(share) * float(original[1])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 + 3 and shown[2].startswith("| 1 |")


@pytest.mark.ci
def test_more_images_calibrate(small_imagenet):
    found = {}
    for count in (1, 8, 20):
        env = gym.make("ChannelPrune-MobileNetV1-ImageNet-v0", calibration_images=count)
        found[count] = env.unwrapped.problem.evaluator
        assert len(found[count].images) == count
    few, many = (found[count].calibration.moments for count in (8, 20))
    assert not any(np.array_equal(few[layer], many[layer]) for layer in few)
    with pytest.raises(UserError, match="calibration_images: expected a whole number .*got 0"):
        gym.make("ChannelPrune-MobileNetV1-ImageNet-v0", calibration_images=0)
