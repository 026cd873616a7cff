import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from named import splits
from nets import Tiny
from torch.utils.data import DataLoader, TensorDataset

from prune_gym import compress
from prune_gym.compression.network_file import load_network
from prune_gym.datasets import Data
from prune_gym.datasets.from_arrays import as_data
from prune_gym.datasets.normalize import normalize
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.profiling import profile_network


@pytest.fixture(scope="module")
def network():
    from named import trained

    return trained()


@pytest.fixture(scope="module")
def floats():
    """Images just as the network expects them, and labels, as tensors."""
    images = normalize(splits().train.images, splits())
    return images, torch.tensor(splits().train.labels)


@pytest.fixture(scope="module")
def compressed(network, floats):
    return compress(network, floats, budgets={"flops": 0.6}, evaluations=6, agent="random-ratio")


def test_the_network_is_smaller_and_within_the_budget(compressed, network):
    assert compressed.after["flops"] <= 0.6 * compressed.before["flops"]
    params = sum(p.numel() for p in compressed.network.parameters())
    assert params == compressed.after["params"] < compressed.before["params"]
    assert sum(p.numel() for p in network.parameters()) == compressed.before["params"]


def test_it_is_the_most_accurate_of_the_front(compressed):
    assert compressed.strategy.as_dict() == compressed.front[0]["strategy"]
    best = max(record["accuracy"] for record in compressed.front)
    assert compressed.front[0]["accuracy"] == best
    for record in compressed.front:
        assert record["flops"] <= 0.6 * compressed.before["flops"]


def test_before_and_after_are_those_of_the_networks(compressed):
    data = compressed.env.problem.evaluator.data
    for metric, split in (("accuracy", data.search), ("test_accuracy", data.test)):
        assert compressed.after[metric] == accuracy(compressed.network, data, split)
    assert compressed.before["accuracy"] > 0.8


def test_the_report_is_a_table(compressed):
    assert repr(compressed).startswith("<Compressed: test_accuracy") and len(repr(compressed)) < 200
    lines = str(compressed).splitlines()
    assert lines[0].split() == ["before", "after", "change"]
    (flops,) = [line for line in lines if line.startswith("flops")]
    factor = compressed.before["flops"] / compressed.after["flops"]
    assert flops.endswith(f"{factor:.2f} x less")
    assert any(line.startswith("test_accuracy") and "points" in line for line in lines)


def test_saved_and_loaded(compressed, tmp_path, floats):
    compressed.save(tmp_path / "small.safetensors")
    again = load_network(tmp_path / "small.safetensors", build=lambda classes: Tiny())
    with torch.inference_mode():
        torch.testing.assert_close(again(floats[0][:8]), compressed.network(floats[0][:8]))


def test_exported_as_onnx(compressed, tmp_path, floats, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="prune-gym[onnx] is not installed")
    exported = compressed.export(tmp_path / "small.onnx")
    assert exported.difference < 1e-3 and exported.num_images == 51
    assert capsys.readouterr().out == ""
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    (found,) = session.run(None, {"images": floats[0][:8].numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.tensor(found), compressed.network(floats[0][:8]), rtol=1e-3, atol=1e-3
        )
    with pytest.raises(ValueError, match="unknown format 'onxx'; did you mean 'onnx'"):
        compressed.export(tmp_path / "small.onnx", form="onxx")


def test_the_default_agent_repeats_itself_and_fine_tunes(network, floats):
    kwargs = {"evaluations": 3, "finetune_epochs": 1, "seed": 2}
    one = compress(network, floats, **kwargs)
    with torch.inference_mode():
        again = compress(network, floats, **kwargs)
    assert one.strategy == again.strategy and one.after == again.after
    assert one.after["flops"] <= 0.5 * one.before["flops"]


def test_an_agent_that_takes_priorities_is_told_to_look_at_accuracy(
    network, floats, tmp_path, monkeypatch
):
    """The budgets say already how small it has to be."""
    (tmp_path / "curious.py").write_text(
        "from agents import find_agent\n"
        "told = []\n"
        "def search(env, settings):\n"
        "    told.append(settings.priorities)\n"
        "    return find_agent('random')(env, settings)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    compress(network, floats, evaluations=2, agent="curious:search")
    assert sys.modules.pop("curious").told == [{"accuracy": 1.0}]


def test_a_latency_budget_measures_the_layers_once(network, floats, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="prune-gym[onnx] is not installed")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(profile_network, "LATTICE_RUNS", 4)
    monkeypatch.setattr(profile_network, "RANDOM_RUNS", 8)
    kwargs = {"budgets": {"latency": 1.0}, "evaluations": 2, "agent": "random-ratio"}
    found = compress(network, floats, **kwargs)
    assert 0 < found.after["latency_ms"] <= found.before["latency_ms"]
    (table,) = (tmp_path / "prune-gym").glob("latency-*.json")
    written = table.stat().st_mtime_ns
    compress(network, floats, **kwargs)
    assert table.stat().st_mtime_ns == written


def test_importing_the_package_stays_light():
    script = "import sys, prune_gym; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_data_are_split(floats):
    data = as_data(floats, seed=3)
    assert (len(data.train), len(data.search), len(data.test)) == (410, 51, 51)
    again, other = as_data(floats, seed=3), as_data(floats, seed=4)
    assert np.array_equal(data.search.images, again.search.images)
    assert not np.array_equal(data.search.images, other.search.images)
    rows = [
        image.tobytes() for part in (data.train, data.search, data.test) for image in part.images
    ]
    assert len(set(rows)) == len(rows) == 512


def test_float_images_reach_the_network_as_they_are(floats):
    data = as_data(floats)
    found = torch.cat([normalize(p.images, data) for p in (data.train, data.search, data.test)])
    apart = torch.cdist(found.flatten(1), floats[0].flatten(1), p=torch.inf)
    assert apart.amin(0).max() < 1e-4 and apart.amin(1).max() < 1e-4


def test_every_kind_of_data_is_the_same(floats):
    images, labels = floats
    pairs = TensorDataset(images, labels)
    expected = as_data(floats)
    for given in (
        (images.numpy(), labels.numpy()),
        pairs,
        DataLoader(pairs, batch_size=100),
        [(image.numpy(), int(label)) for image, label in zip(images, labels, strict=True)],
    ):
        data = as_data(given)
        assert np.array_equal(data.train.images, expected.train.images)
        assert np.array_equal(data.train.labels, expected.train.labels)


def test_bytes_are_scaled_to_one():
    images, labels = splits().train.images, splits().train.labels
    data = as_data((images, labels))
    assert (data.mean, data.std) == ((0.0,) * 3, (1.0,) * 3)
    last = as_data((images.transpose(0, 2, 3, 1), labels))
    assert np.array_equal(last.train.images, data.train.images)
    assert normalize(images[:1], data).max() <= 1


def test_own_data_are_taken_as_they_are():
    assert as_data(splits()) is splits() and isinstance(splits(), Data)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (7, TypeError, "expected a Data, a pair of arrays .* got int"),
        (["a", "b"], TypeError, "images as arrays or tensors"),
        ((np.zeros((40, 8, 8)), np.zeros(40, int)), ValueError, "expected images .N, C, H, W"),
        (
            (np.zeros((40, 3, 8, 8)), np.zeros(39, int)),
            ValueError,
            r"40 labels of shape \(40,\); got \(39,\)",
        ),
        (
            (np.zeros((40, 3, 8, 8)), np.zeros(40)),
            ValueError,
            "expected integers 0, 1, ..., got float64",
        ),
        ((np.zeros((4, 3, 8, 8)), np.zeros(4, int)), ValueError, "at least 30 labelled images"),
        (
            (np.zeros((40, 3, 8, 8)), np.full(40, -1)),
            ValueError,
            "expected integers 0, 1, ..., got -1",
        ),
        ((np.full((40, 3, 8, 8), np.nan), np.zeros(40, int)), ValueError, "expected finite uint8"),
        ((np.zeros((40, 3, 8, 8), int), np.zeros(40, int)), ValueError, "got int64"),
        ([], ValueError, "this list is empty"),
        (
            [(np.zeros((3, side, 8), np.uint8), 0) for side in (8, 9)] * 20,
            UserError,
            r"images: expected one shape, got \(3, 8, 8\) and \(3, 9, 8\)",
        ),
        ([{"image": 1, "label": 2}] * 40, TypeError, "mappings of image, label, not pairs"),
    ],
)
def test_data_that_are_none(given, error, message):
    with pytest.raises(error, match=message):
        as_data(given)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_tensors_of_a_training(kind):
    images = torch.rand(40, 3, 8, 8, dtype=kind, requires_grad=True)
    given = as_data((images, torch.arange(40) % 4))
    plain = as_data((images.detach().float().numpy(), np.arange(40) % 4))
    np.testing.assert_array_equal(given.train.images, plain.train.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": {}}, "budgets: expected shares of costs, at least one"),
        ({"budgets": 0.5}, "budgets: expected shares of costs.*got 0.5"),
        ({"budgets": {"accuracy": 0.9}}, "budgets: expected shares of costs"),
        ({"budgets": {"flop": 0.5}}, "did you mean 'flops'"),
        ({"budgets": {"flops": 0.0001}}, "flops"),
        ({"evaluations": 0}, "expected evaluations >= 1"),
        ({"agent": "envelope"}, "did you mean 'envelope-ddpg'"),
    ],
)
def test_arguments_that_do_not_fit(change, message, network, floats):
    with pytest.raises(ValueError, match=message):
        compress(network, floats, **change)


def test_networks_that_do_not_fit_their_data(network, floats):
    images, labels = floats
    with pytest.raises(TypeError, match="network: expected a trained nn.Module, got str"):
        compress("vgg16", floats)
    with pytest.raises(ValueError, match="does not take images of shape .*2, 1, 8, 8"):
        compress(network, (images[:, :1], labels))
    with pytest.raises(ValueError, match="has 4 outputs, and there are labels up to 4"):
        compress(network, (images, labels + 1))
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        wrong.classifier.weight.neg_()
    with pytest.raises(ValueError, match="little more than chance .*normalized as in its training"):
        compress(wrong, floats)
    with pytest.raises(ValueError, match="expected a classifier"):
        compress(network.features, floats)
