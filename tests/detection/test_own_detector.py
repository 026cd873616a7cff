"""A detector in the style of today's YOLOs, with a score and a loss of the user's, end to end."""

import numpy as np
import pytest
import torch
from any_output import Detector
from torch.nn import functional as F

from prune_gym import compress
from prune_gym.detection.boxes import iou, nms
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.evaluation.task import make_evaluator
from prune_gym.training.build_library import build_library
from prune_gym.training.recipe import TrainingRecipe

onnxruntime = pytest.importorskip("onnxruntime", reason="prune-gym[onnx] is not installed")
pytest.importorskip("onnxscript", reason="prune-gym[onnx] is not installed")
pytestmark = pytest.mark.ci

SIDE, CLASSES, OBJECTS = 16, 3, 2
STRIDES = (2, 4)


def scenes(count, seed):
    """Return images with one or two rectangles in a color each, and (N, objects, 5) targets.

    A row has the class, left, top, right and bottom; the class is -1 where there is no object.
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 40, (count, 3, SIDE, SIDE), dtype=np.uint8)
    targets = np.full((count, OBJECTS, 5), -1, np.float32)
    for image, rows in zip(images, targets, strict=True):
        for half, row in enumerate(rows[: rng.integers(1, OBJECTS + 1)]):
            width, height = rng.integers(4, [9, 8])
            left, top = rng.integers(SIDE - width + 1), 8 * half + rng.integers(8 - height + 1)
            kind = rng.integers(CLASSES)
            image[kind, top : top + height, left : left + width] = 220
            row[:] = kind, left, top, left + width, top + height
    return images, targets


def places():
    """Return the centers (places, 2) and the strides (places, 1) of what the network returns."""
    centers, strides = [], []
    for stride in STRIDES:
        along = (torch.arange(SIDE // stride) + 0.5) * stride
        centers.append(torch.cartesian_prod(along, along).flip(1))
        strides.append(torch.full((len(centers[-1]), 1), stride))
    return torch.cat(centers), torch.cat(strides)


def boxes_of(distances):
    """Return left, top, right and bottom (N, places, 4) of distances to the four sides."""
    centers, strides = places()
    sides = distances.mT * strides
    return torch.cat([centers - sides[..., :2], centers + sides[..., 2:]], -1)


def f1_score(outputs, targets):
    """Return the F1 score of boxes with a score above 0.4, which must overlap by half."""
    best, kinds = outputs[1].max(1)
    best, order = best.sort(1, descending=True)
    kinds = kinds.gather(1, order)
    boxes = boxes_of(outputs[0]).gather(1, order[..., None].expand(-1, -1, 4))
    found = (best > 0.4) & nms(boxes, kinds, best)
    overlaps = iou(boxes[:, :, None], targets[:, None, :, 1:]) > 0.5
    right = found[..., None] & overlaps & (kinds[..., None] == targets[:, None, :, 0])
    hits = right.any(1).sum()
    return 2 * hits / (found.sum() + (targets[..., 0] >= 0).sum())


def loss(outputs, targets):
    """Return the overlap and the cross-entropy of the places in the middle of every object."""
    distances, scores = outputs
    centers, strides = places()
    low, high = targets[:, None, :, 1:3], targets[:, None, :, 3:]
    middle, extent = (low + high) / 2, (high - low).amax(-1)
    close = (centers[:, None] - middle).abs().amax(-1) < strides
    fits = (extent < 6) == (strides == STRIDES[0])
    image, place, which = (close & fits & (targets[:, None, :, 0] >= 0)).nonzero(as_tuple=True)
    true = targets[image, which]
    overlaps = iou(boxes_of(distances)[image, place], true[:, 1:])
    wanted = torch.zeros_like(scores)
    wanted[image, true[:, 0].long(), place] = 1
    shares = F.binary_cross_entropy(scores, wanted, reduction="sum") / len(image)
    return (1 - overlaps).mean() + shares


def trained(images, targets):
    """Return a detector, trained for a few seconds; its F1 score is about 0.8."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Detector(CLASSES)
        pixels, wanted = torch.from_numpy(images / np.float32(255)), torch.from_numpy(targets)
        optimizer = torch.optim.AdamW(network.parameters())
        epochs, batches = 12, len(images) // 32
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, epochs * batches)
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).split(32):
                optimizer.zero_grad()
                loss(network(pixels[chosen]), wanted[chosen]).backward()
                optimizer.step()
                schedule.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def compressed():
    images, targets = scenes(512, 0)
    network = trained(images, targets)
    given = {"score": f1_score, "loss": loss, "mean": (0, 0, 0), "std": (1, 1, 1)}
    more = {"agent": "random-ratio", "evaluations": 4, "budgets": {"flops": 0.7}}
    return compress(network, (images, targets), **given, **more)


def test_the_smaller_detector_still_finds_the_objects(compressed):
    before, after = compressed.before, compressed.after
    assert after["flops"] <= 0.7 * before["flops"]
    assert before["test_accuracy"] > 0.7 and after["test_accuracy"] > 0.6
    tuned = compressed.finetune(3)
    assert tuned.after["accuracy"] >= accuracy(compressed.network, tuned.data, tuned.data.search)
    assert tuned.after["flops"] == after["flops"]


def test_the_exported_detector_computes_the_same(compressed, tmp_path):
    compressed.export(tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    images, _ = scenes(3, 1)
    pixels = torch.from_numpy(images / np.float32(255))
    with torch.inference_mode():
        expected = compressed.network(pixels)
    for one, other in zip(session.run(None, {"images": pixels.numpy()}), expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-3, atol=1e-4)


def test_a_library_of_detectors(compressed, tmp_path):
    network, data = compressed.env.problem.evaluator.network, compressed.data
    evaluator = make_evaluator(network, data, "none", block_size=1)
    recipe = TrainingRecipe(epochs=3, learning_rate=0.01, batch_size=32)
    library = build_library(evaluator, "own", tmp_path, recipe, (0.75,))
    (entry,) = library.manifest["networks"]
    assert entry["density"] == 0.75 and entry["search_accuracy"] > 0.4
