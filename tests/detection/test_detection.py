import dataclasses
import re

import numpy as np
import pytest
import torch
from PIL import Image

from prune_gym import models
from prune_gym._utils.paths import data_home
from prune_gym.datasets import digit_scenes
from prune_gym.datasets.detection import DetectionData, DetectionSplit
from prune_gym.datasets.yolo_folder import load_coco, load_folder
from prune_gym.detection.boxes import Detections, decode_head, detect, iou, nms
from prune_gym.detection.loss import Objects, yolo_loss
from prune_gym.detection.metric import average_precision, mean_average_precision
from prune_gym.envs.make import compression_env
from prune_gym.errors import MissingFileError, UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.experiments.plots import front_figure
from prune_gym.graph.residual_blocks import skip_blocks
from prune_gym.graph.trace import trace
from prune_gym.models.darknet.network import Head
from prune_gym.models.darknet.weights import load_darknet
from prune_gym.models.weights_file import load_weights
from prune_gym.models.yolov3 import yolov3_eighth, yolov3_tiny
from prune_gym.training.detection_training import DetectorRecipe, augmented_batch, train_detector
from prune_gym.training.recipe import TrainingRecipe
from prune_gym.training.training import train

SQUARES = ((12, 12), (16, 16), (20, 20), (24, 24), (28, 28), (32, 32))


def split_of(boxes, classes, image_ids, count, side=64):
    return DetectionSplit(
        np.zeros((count, 3, side, side), np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(image_ids, np.int64),
    )


@pytest.fixture(scope="module")
def squares():
    """Bright squares of two colours on a dark ground, 64x64."""
    rng = np.random.default_rng(0)

    def split(count):
        images = rng.integers(0, 40, (count, 3, 64, 64), dtype=np.uint8)
        boxes, classes = np.zeros((count, 4), np.float32), rng.integers(2, size=count)
        for image, box, kind in zip(images, boxes, classes, strict=True):
            side = int(rng.integers(12, 30))
            left, top = rng.integers(64 - side, size=2)
            image[:, top : top + side, left : left + side] = 200
            image[kind, top : top + side, left : left + side] = 0
            box[:] = left, top, left + side, top + side
        return DetectionSplit(images, boxes, classes, np.arange(count))

    return DetectionData("squares", ("cyan", "magenta"), split(32), split(8), split(8), flip=True)


def test_people_read_of_map_where_a_detector_is_scored(squares):
    names = ("accuracy", "flops")
    network = yolov3_tiny(2, 1 / 16, 64).eval()
    env = compression_env(network, squares, objectives=names, latency=None)
    assert [objective.name for objective in env.objectives] == list(names)
    original = env.problem.original
    points = np.array([[original[name] for name in names]])
    figure = front_figure("", env.objectives, points, np.array([True]), original, points[:0])
    assert figure.axes[0].get_ylabel() == "mAP@0.5 on the search split [%]"
    assert figure.axes[0].get_xlabel() == "flops [% of the original]"


def test_a_raw_map_is_decoded_as_yolo_writes_it():
    head = Head(((10, 20), (30, 40)), classes=1, scale_xy=1.2)
    raw = torch.zeros(1, 12, 4, 5)
    raw[0, 6:10, 2, 3] = torch.tensor([0.0, 4.0, 0.5, -0.5])
    box = decode_head(raw, head, (64, 80))[0, 1, 2, 3]
    sigmoid = 1 / (1 + np.exp(-4))
    centre = [(3 + 0.5 * 1.2 - 0.1) * 16, (2 + sigmoid * 1.2 - 0.1) * 16]
    extent = [30 * np.exp(0.5), 40 * np.exp(-0.5)]
    np.testing.assert_allclose(box[:4], [*centre, *extent], rtol=1e-5)


def test_suppression_is_the_greedy_one():
    generator = torch.Generator().manual_seed(0)
    lower = torch.rand(5, 60, 2, generator=generator) * 20
    boxes = torch.cat([lower, lower + 5 + 10 * torch.rand(5, 60, 2, generator=generator)], 2)
    classes = torch.randint(3, (5, 60), generator=generator)
    scores = torch.rand(5, 60, generator=generator).sort(descending=True).values
    scores[:, 55:] = 0
    found = nms(boxes, classes, scores)
    for image in range(5):
        kept = []
        for i in range(55):
            rivals = [j for j in kept if classes[image, j] == classes[image, i]]
            if all(iou(boxes[image, i], boxes[image, j]) <= 0.45 for j in rivals):
                kept.append(i)
        assert found[image].nonzero().flatten().tolist() == kept


def test_broken_maps_find_nothing_and_raise_nothing():
    head = Head(((10, 10),), classes=2)
    for value in (torch.nan, torch.inf, -torch.inf):
        found = detect([torch.full((2, 7, 3, 3), value)], [head], (48, 48))
        assert torch.isfinite(found.scores).all()


def found_of(boxes, classes, scores):
    parts = (boxes, scores, classes)
    return Detections(*(torch.tensor(part)[None] for part in parts))


def test_precision_of_perfect_and_of_no_boxes():
    split = split_of([[1, 2, 20, 30], [5, 5, 50, 40]], [0, 1], [0, 0], 1)
    boxes = [[1.0, 2, 20, 30], [5, 5, 50, 40]]
    assert average_precision([found_of(boxes, [0, 1], [0.9, 0.8])], split) == pytest.approx(1)
    assert average_precision([found_of(boxes, [1, 0], [0.9, 0.8])], split) == 0
    assert average_precision([found_of(boxes, [0, 1], [0.0, 0.0])], split) == 0


def test_precision_counts_false_boxes_by_their_rank():
    split = split_of([[0, 0, 10, 10], [20, 20, 40, 40]], [0, 0], [0, 1], 2)
    first = found_of([[0.0, 0, 10, 10], [50, 50, 60, 60]], [0, 0], [0.9, 0.8])
    second = found_of([[20.0, 20, 40, 40]], [0], [0.7])
    # Right, wrong, right: precision 1 up to recall 1/2 (51 of 101 points), then 2/3.
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision([first, second], split) == pytest.approx(expected)


def test_splits_select_images_with_their_objects():
    split = split_of(np.arange(16), [0, 1, 2, 3], [0, 0, 1, 3], 4)
    part = split.select(np.array([3, 0]))
    assert part.classes.tolist() == [3, 0, 1] and part.image_ids.tolist() == [0, 1, 1]
    with pytest.raises(UserError, match="image_ids"):
        split_of(np.arange(8), [0, 1], [1, 0], 4)
    with pytest.raises(ValueError, match="read-only"):
        split.boxes[0] = 0


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        (tmp_path / "images" / part).mkdir(parents=True)
        (tmp_path / "labels" / part).mkdir(parents=True)
        for index in range(4):
            pixels = rng.integers(256, size=(20, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / part / f"{index}.png")
            label = tmp_path / "labels" / part / f"{index}.txt"
            label.write_text("1 0.5 0.5 0.5 0.5\n" * index)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return tmp_path


def test_a_yolo_folder_is_read(folder):
    data = load_folder(folder, (32, 64))
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.search), len(data.test)) == (2, 2, 4)
    assert data.test.image_ids.tolist() == [1, 2, 2, 3, 3, 3]
    np.testing.assert_allclose(data.test.boxes[0], [16, 8, 48, 24])
    assert len(data.train.boxes) + len(data.search.boxes) == 6


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.5", "5 numbers"),
        ("dog 0.5 0.5 0.5 0.5", "5 numbers"),
        ("2 0.5 0.5 0.5 0.5", "class 2 "),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5 "),
        ("1 0.5 0.5 1.5 0.5", "shares of the image"),
        ("1 0.5 nan 0.5 0.5", "shares of the image"),
        ("1 0.5 0.5 0.5 0", "shares of the image"),
    ],
)
def test_a_broken_label_is_named_with_its_line(folder, line, message):
    path = folder / "labels" / "val" / "2.txt"
    path.write_text(f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}:3: .*{message}"):
        load_folder(folder, (32, 32))


def write_yolo(folder, part, name, labels):
    """Write an image and its label file below a YOLO folder."""
    image = folder / "images" / part / name
    label = (folder / "labels" / part / name).with_suffix(".txt")
    for path in (image, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 40, 3), 99, np.uint8)).save(image)
    label.write_text("".join(f"{each} 0.5 0.5 0.5 0.5\n" for each in labels))


def test_rare_classes_are_searched_on_too(tmp_path):
    """38 of 40 images are empty; of the other two one is held out."""
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    write_yolo(tmp_path, "val", "0.png", [0, 1])
    for index in range(40):
        write_yolo(tmp_path, "train", f"{index}.png", [0, 0, 1] if index in (7, 8) else [])
    data = load_folder(tmp_path, (32, 32))
    assert (len(data.train), len(data.search)) == (20, 20)
    assert data.search.classes.tolist() == data.train.classes.tolist() == [0, 0, 1]
    write_yolo(tmp_path, "train", "7.png", [])
    with pytest.raises(UserError, match="search .* 20 images"):
        load_folder(tmp_path, (32, 32))


def test_every_suffix_and_sub_folder_is_read(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\n")
    for part in ("train", "val", "search"):
        for name in ("a.webp", "b.tif", "far/away/c.png", "far/d.JPG"):
            write_yolo(tmp_path, part, name, [0])
        write_yolo(tmp_path, part, ".hidden/e.png", [0])
    data = load_folder(tmp_path, (32, 32))
    for split in (data.train, data.search, data.test):
        assert len(split) == 4 and split.image_ids.tolist() == [0, 1, 2, 3]


def test_rounded_labels_and_other_encodings_are_read(folder):
    label = folder / "labels" / "val" / "0.txt"
    label.write_bytes(b"\xef\xbb\xbf1 0.5 0.5 1.0000001 1\n")
    (folder / "classes.txt").write_bytes("chat\nchien gâté\n".encode("latin-1"))
    data = load_folder(folder, (32, 64))
    assert data.class_names == ("chat", "chien gâté")
    np.testing.assert_allclose(data.test.boxes[0], [0, 0, 64, 32])
    (folder / "classes.txt").write_bytes("chat\nchien gâté\n".encode("utf-8-sig"))
    assert load_folder(folder, (32, 64)).class_names == ("chat", "chien gâté")
    (folder / "classes.txt").write_bytes("chat\nchien\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"classes\.txt: .*UTF-8"):
        load_folder(folder, (32, 64))
    (folder / "classes.txt").write_text("cat\ndog\n")
    label.write_bytes(b"\xff\xfe1\0")
    with pytest.raises(UserError, match=r"0\.txt: "):
        load_folder(folder, (32, 64))


@pytest.mark.parametrize("size", [64, (64,), (64.0, 64), (0, 64)])
def test_a_size_is_height_and_width(folder, size):
    with pytest.raises(UserError, match=r"size: .*\(height, width\)"):
        load_folder(folder, size)


def test_one_training_image_cannot_be_halved(folder):
    for index in (0, 1, 2):
        (folder / "images" / "train" / f"{index}.png").unlink()
    with pytest.raises(UserError, match="at least 2 images.*got 1"):
        load_folder(folder, (32, 32))


def test_a_network_must_detect_the_datas_classes(squares, tiny_net):
    with pytest.raises(UserError, match="squares .*Tiny"):
        compression_env(tiny_net, squares, latency=None)
    with pytest.raises(UserError, match="Darknet .*3 .*squares .*2"):
        compression_env(yolov3_tiny(3, 1 / 16, 64), squares, latency=None)


def test_a_split_without_objects_has_no_precision():
    split = split_of([], [], [], 1)
    with pytest.raises(UserError, match="one object"):
        average_precision([found_of([[0.0, 0, 1, 1]], [0], [0.9])], split)


def test_what_a_folder_lacks_is_named(folder):
    (folder / "images" / "val" / "0.png").write_text("no image")
    with pytest.raises(UserError, match=r"0\.png"):
        load_folder(folder, (32, 32))
    for label in (folder / "labels" / "train").iterdir():
        label.unlink()
    with pytest.raises(MissingFileError, match="4 images of train"):
        load_folder(folder, (32, 32))
    (folder / "classes.txt").unlink()
    with pytest.raises(MissingFileError, match="classes.txt .*none"):
        load_folder(folder, (32, 32))
    with pytest.raises(MissingFileError, match="nowhere"):
        load_folder(folder / "nowhere", (32, 32))


def test_scenes_show_what_their_boxes_say():
    data = digit_scenes.load()  # checks the SHA-256 of every pixel and box
    assert [len(split) for split in (data.train, data.search, data.test)] == [2500, 500, 500]
    for split in (data.train, data.search, data.test):
        extents = split.boxes[:, 2:] - split.boxes[:, :2]
        assert split.boxes.min() >= 0 and split.boxes.max() <= 128 and extents.min() > 4
        assert (np.bincount(split.image_ids) >= 1).all()
        assert (np.bincount(split.classes) > len(split.classes) / 15).all()


def test_augmentation_moves_boxes_with_their_objects(squares):
    images, objects = augmented_batch(squares, squares.train, np.random.default_rng(0))
    assert len(objects.boxes) > 16
    for box, image_id in zip(objects.boxes.int(), objects.image_ids, strict=True):
        left, top, right, bottom = box.tolist()
        bright = images[image_id].amax(0) > 0.5
        assert bright[top:bottom, left:right].float().mean() > 0.95
        bright[max(top - 13, 0) : bottom + 13, max(left - 13, 0) : right + 13] = False
        assert not bright.any()  # an edge repeated by the shift stays near its square


def test_an_image_without_objects_has_a_loss():
    network = yolov3_tiny(2, 1 / 16, 64, SQUARES)
    nothing = Objects(torch.zeros(0, 4), *(torch.zeros(0, dtype=torch.int64),) * 2)
    loss = yolo_loss(network(torch.zeros(2, 3, 64, 64)), network.heads, (64, 64), nothing)
    loss.backward()
    assert torch.isfinite(loss)


def test_training_learns_and_resumes_to_the_same_result(squares, tmp_path):
    recipe = DetectorRecipe(30, learning_rate=1e-2, batch_size=8)

    def train(checkpoint, on_progress):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = yolov3_tiny(2, 1 / 8, 64, SQUARES)
        return train_detector(network, squares, recipe, tmp_path / checkpoint, on_progress)

    def kill_in_epoch_12(done, total):
        if done == 12:
            raise KeyboardInterrupt

    calls = []
    whole = train("whole", lambda *call: calls.append(call))
    with pytest.raises(KeyboardInterrupt):
        train("resumed", kill_in_epoch_12)
    resumed = train("resumed", lambda *call: calls.append(call))
    assert calls[30:] == [(n, 30) for n in range(12, 31)]
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=0, atol=0)
    assert mean_average_precision(whole, squares, squares.train) > 0.5


def test_a_detector_is_fine_tuned_as_other_networks_are(squares, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = yolov3_tiny(2, 1 / 8, 64, SQUARES)
    recipe = TrainingRecipe(24, learning_rate=1e-2, batch_size=8, optimizer="adamw")
    train(network, squares, recipe, tmp_path / "checkpoint")
    assert accuracy(network, squares, squares.train) > 0.3
    with pytest.raises(UserError, match="distills.*squares"):
        train(network, squares, dataclasses.replace(recipe, distillation=0.5), tmp_path / "other")


def test_a_detector_without_a_block_still_says_how_its_maps_are_read():
    network = models.build("yolov3_eighth", 10).eval()
    blocks = trace(network, (3, 128, 128)).blocks
    assert blocks and skip_blocks(network, blocks[:1], (3, 128, 128)).heads == network.heads


def test_the_shipped_detector_is_as_good_as_its_file_says():
    network, data = yolov3_eighth(), digit_scenes.load()
    metadata = load_weights(network, models.weights_path("yolov3_eighth", "digit-scenes"))
    part = data.search.select(np.arange(150))
    found = mean_average_precision(network.eval(), data, part)
    assert found == pytest.approx(float(metadata["search_map"]), abs=0.03)


def test_the_public_detector_reaches_its_known_precision():
    folder = data_home() / "coco-yolo"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set PRUNE_GYM_HOME")
    data = load_coco()
    name = folder / "yolo-fastest-1.1"
    network = load_darknet(f"{name}.cfg", f"{name}.weights")
    assert mean_average_precision(network, data, data.test) == pytest.approx(0.357, abs=0.003)
