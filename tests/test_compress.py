import copy
import dataclasses
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from named import splits
from nets import Tiny
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from prune_gym import compress
from prune_gym.compress_network.choose import choose, standard_error
from prune_gym.compress_network.prepare import share_training_images
from prune_gym.compression.network_file import load_network
from prune_gym.datasets import Data
from prune_gym.datasets.from_arrays import as_data
from prune_gym.datasets.normalize import normalize
from prune_gym.errors import UserError, UserTypeError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.models.resnet import ResNet
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


def test_it_is_within_a_standard_error_of_the_best(compressed):
    best, count = compressed.front[0]["accuracy"], compressed.images["search"]
    assert best == max(record["accuracy"] for record in compressed.front)
    assert compressed.after["accuracy"] >= best - standard_error(best, count)
    for record in compressed.front:
        assert record["flops"] <= 0.6 * compressed.before["flops"]


def test_few_images_are_all_searched_on_but_those_of_the_test(compressed):
    data = compressed.env.problem.evaluator.data
    assert (
        compressed.images
        == {"search": 461, "test": 51}
        == {
            "search": len(data.search),
            "test": len(data.test),
        }
    )
    searched = {image.tobytes() for image in data.search.images}
    assert not searched & {image.tobytes() for image in data.test.images}
    assert {image.tobytes() for image in compressed.data.search.images} <= searched


def test_of_many_images_those_of_calibration_are_not_searched_on():
    rng = np.random.default_rng(0)
    data = as_data((rng.integers(0, 256, (6_000, 3, 4, 4), np.uint8), np.arange(6_000) % 4))
    used = share_training_images(data, seed=0)
    assert (len(used.train), len(used.search), len(used.test)) == (512, 2_000, 600)
    parts = [{i.tobytes() for i in part.images} for part in (used.train, used.search, used.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 3_112


@pytest.fixture(scope="module")
def evaluate(compressed):
    """A function: share of channels -> that strategy, with what it costs and a given accuracy."""
    problem = compressed.env.problem

    def evaluate(share, accuracy):
        actions = np.full((1, len(problem.decisions)), 2 * share - 1)
        values = problem.space.canonicalise(problem.space.decode(actions))
        metrics = problem.cost_metrics(problem.space.configure(values))
        decisions = problem.space.to_strategy(values[0])
        strategy = dataclasses.replace(compressed.strategy, decisions=decisions)
        return EvaluatedStrategy(strategy, metrics | {"accuracy": accuracy})

    return evaluate


def test_what_only_noise_puts_first_is_not_chosen(compressed, evaluate):
    """On 461 images one standard error at 96 % is 0.9 points, or four images."""
    problem = compressed.env.problem
    tiny, small, large = (
        evaluate(share, 0.96 - n) for share, n in ((0.15, 0), (0.3, 1e-3), (0.6, 2e-3))
    )
    assert choose(problem, [tiny, small, large]) is large
    assert choose(problem, [large, small, tiny, tiny]) is large


def test_what_is_clearly_more_accurate_is_chosen(compressed, evaluate):
    tiny, large = evaluate(0.15, 0.96), evaluate(0.6, 0.94)
    assert choose(compressed.env.problem, [large, tiny]) is tiny


def test_of_equal_strategies_the_one_that_keeps_most_is_chosen(compressed, evaluate):
    """Twelve, of which eight are finalists, and the most accurate one is the smallest."""
    many = [evaluate(share, 0.96) for share in np.linspace(0.65, 0.2, 12)]
    many[-1] = evaluate(0.15, 0.9601)
    chosen = choose(compressed.env.problem, many)
    assert chosen.metrics["flops"] >= many[7].metrics["flops"]


def test_a_standard_error_is_never_nothing():
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert 0 < standard_error(1.0, 400) < standard_error(1.0, 50) < 0.03


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
    assert flops.endswith(f"{factor:.3g}x smaller")
    assert any(
        line.startswith("test_accuracy") and "points (51 test images)" in line for line in lines
    )
    assert "±" in lines[1] and lines[-1].startswith("next: result.finetune")
    assert compressed.after["file_bytes"] < compressed.before["file_bytes"]


def test_the_report_has_the_latency_and_its_spread(compressed):
    timed = compressed.latency
    assert 0 < timed.after.low <= timed.after.median <= timed.after.high
    shown = str(compressed)
    assert shown == compressed.report() and f"{timed.factor.median:.2f}x as fast (" in shown
    assert f"quartiles {timed.before.low:.3g} to {timed.before.high:.3g} ms and " in shown


def test_a_notebook_shows_short_tables(compressed):
    problem = compressed.env.problem
    for shown in (compressed, compressed.front, compressed.strategy, problem, compressed.data):
        assert len(repr(shown)) < 500 and "\n" not in repr(shown)
    table = compressed._repr_html_()
    assert table.startswith("<table>") and "<th>before</th>" in table and "latency here" in table
    assert compressed.front._repr_html_().count("<tr>") == 1 + len(compressed.front)
    rows = compressed.strategy._repr_html_().count("<tr>")
    assert rows == 1 + len(problem.decisions)


def test_a_name_out_of_a_file_is_no_html(compressed):
    named = dataclasses.replace(compressed.strategy, env_id="<script>")
    assert "<script>" not in named._repr_html_() and "&lt;script&gt;" in named._repr_html_()


def test_saved_and_loaded(compressed, tmp_path, floats):
    file = tmp_path / "small.safetensors"
    compressed.save(tmp_path / "small.safetensors")
    again = load_network(tmp_path / "small.safetensors", build=lambda classes: Tiny())
    with pytest.raises(UserError, match="from the number of classes.*lambda classes: MyNetwork"):
        load_network(tmp_path / "small.safetensors", build=lambda: Tiny())
    with pytest.raises(UserTypeError, match="it returned type"):
        load_network(tmp_path / "small.safetensors", build=lambda classes: Tiny)
    assert compressed.after["file_bytes"] <= file.stat().st_size
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


class Endless(IterableDataset):
    """A data set without a length."""

    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (7, UserTypeError, "got int"),
        (["a", "b"], UserTypeError, "arrays or tensors"),
        ((np.zeros((40, 8)), np.zeros(40, int)), UserError, "N, C, H, W"),
        (
            (np.zeros((40, 3, 8, 8)), np.zeros(39, int)),
            UserError,
            r"\(40,\).*\(39,\)",
        ),
        (
            (np.zeros((40, 3, 8, 8)), np.zeros(40)),
            UserError,
            "got float64",
        ),
        ((np.zeros((4, 3, 8, 8)), np.zeros(4, int)), UserError, "30 labelled"),
        (
            (np.zeros((40, 3, 8, 8)), np.full(40, -1)),
            UserError,
            "got -1",
        ),
        (
            (np.full((40, 3, 8, 8), np.nan), np.zeros(40, int)),
            UserError,
            "NaN.* 40 of",
        ),
        ((np.zeros((40, 3, 8, 8), int), np.zeros(40, int)), UserError, "got int64"),
        ([], UserError, "list is empty"),
        (
            [(np.zeros((3, side, 8), np.uint8), 0) for side in (8, 9)] * 20,
            UserError,
            r"\(3, 8, 8\) and \(3, 9, 8\)",
        ),
        ([{"image": 1, "label": 2}] * 40, UserTypeError, "image, label"),
        ({"images": np.zeros((40, 3, 8, 8))}, UserTypeError, "got dict"),
        ((np.zeros((0, 3, 8, 8)), np.zeros(0, int)), UserError, r"at least one.*\(0, 3, 8, 8\)"),
        ((torch.zeros(40, 3, 8, 8).to_sparse(), torch.zeros(40)), UserError, "dense .*sparse"),
        ((torch.zeros(40, 3, 8, 8, device="meta"), torch.zeros(40)), UserError, "dense .*meta"),
        (Endless(), UserTypeError, "in a torch DataLoader"),
    ],
)
def test_data_that_are_none(given, error, message):
    with pytest.raises(error, match=message):
        as_data(given)


def test_a_loader_that_makes_no_batches(floats):
    whole, loader = TensorDataset(*floats), DataLoader(TensorDataset(*floats), batch_size=None)
    images = as_data(loader).search.images
    np.testing.assert_array_equal(images, as_data(whole).search.images)


class Asserting(Tiny):
    """A network that takes 3x8x8 images in float32 alone, as its forward asserts."""

    def forward(self, x):
        assert x.shape[-1] == 8, "expected images of 8 pixels"
        assert x.dtype == torch.float32, "expected float32"
        return super().forward(x)


def test_what_a_forward_asserts_is_told_or_kept_to(network, floats):
    asserting = Asserting()
    asserting.load_state_dict(network.state_dict())
    found = compress(asserting, floats, **FEW)
    assert found.before["accuracy"] > 0.8
    with pytest.raises(UserError, match=r"2, 3, 9, 9\): expected images of 8 pixels"):
        compress(asserting, (F.pad(floats[0], (0, 1, 0, 1)), floats[1]))


def test_one_output_is_told_to_have_a_score(network, floats):
    one = torch.nn.Sequential(copy.deepcopy(network), torch.nn.Linear(4, 1))
    with pytest.raises(UserError, match="1 outputs.*give score="):
        compress(one, (floats[0], floats[1] % 2))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_tensors_of_a_training(kind):
    images = torch.rand(40, 3, 8, 8, dtype=kind, requires_grad=True)
    given = as_data((images, torch.arange(40) % 4))
    plain = as_data((images.detach().float().numpy(), np.arange(40) % 4))
    np.testing.assert_array_equal(given.train.images, plain.train.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": {}}, "budgets: "),
        ({"budgets": 0.5}, "budgets: .*got 0.5"),
        ({"budgets": {"accuracy": 0.9}}, "budgets: "),
        ({"budgets": {"flop": 0.5}}, "unknown budget 'flop'; did you mean 'flops'"),
        ({"budgets": {"flops": 0.0001}}, "flops"),
        ({"budgets": {"flops": True}}, "budgets: "),
        ({"evaluations": 0}, "evaluations >= 1"),
        ({"evaluations": 2.5}, "evaluations .*got 2.5"),
        ({"evaluations": "10"}, "evaluations .*got '10'"),
        ({"seed": -1}, "seed >= 0.*got -1"),
        ({"seed": "a"}, "seed >= 0.*got 'a'"),
        ({"finetune_epochs": -1}, "finetune_epochs >= 0"),
        ({"mean": (0.5,) * 3}, "mean and std"),
        ({"mean": (0.5,), "std": (0.5,)}, r"mean: .*\(3\)"),
        ({"agent": "envelope"}, "did you mean 'envelope-ddpg'"),
    ],
)
def test_arguments_that_do_not_fit(change, message, network, floats):
    with pytest.raises(UserError, match=message):
        compress(network, floats, **change)


def test_networks_that_do_not_fit_their_data(network, floats):
    images, labels = floats
    with pytest.raises(UserTypeError, match="network: .*got str"):
        compress("vgg16", floats)
    with pytest.raises(UserTypeError, match="got OrderedDict"):
        compress(network.state_dict(), floats)
    with pytest.raises(UserError, match="2, 1, 8, 8"):
        compress(network, (images[:, :1], labels))
    for more in (labels + 2, torch.where(labels == 3, 4, labels)):
        with pytest.raises(UserError, match="4 outputs"):
            compress(network, (images, more))
    wrong = copy.deepcopy(network)
    with torch.no_grad():
        wrong.classifier.weight.neg_()
    with pytest.raises(UserError, match="chance"):
        compress(wrong, floats)
    with pytest.raises(UserError, match="classifier"):
        compress(network.features, floats)


@pytest.fixture(scope="module")
def digits():
    """A ResNet-8 that knows its images by heart, and 500 of these."""
    images, labels = load_digits(return_X_y=True)
    images = np.repeat(images.reshape(-1, 1, 8, 8) / 16, 3, axis=1).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = torch.tensor(images[order]), torch.tensor(labels[order])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ResNet(1, 10)
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
        for _ in range(8):
            for batch in torch.randperm(1_000).split(50):
                optimizer.zero_grad()
                F.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
    return net.eval(), (images[500:1_000], labels[500:1_000]), (images[1_000:], labels[1_000:])


def test_half_of_the_work_is_not_a_twentieth(digits):
    """Ties at 100 % are broken by probabilities, not by the lowest cost."""
    network, given, others = digits
    found = compress(network, given, budgets={"flops": 0.5}, evaluations=20)

    @torch.inference_mode()
    def right(net):
        return float((net(others[0]).argmax(1) == others[1]).float().mean())

    best = max(right(found.env.problem.apply(each["strategy"])) for each in found.front)
    assert 0.3 < found.after["flops"] / found.before["flops"] <= 0.5
    assert right(found.network) >= best - 2 * standard_error(best, len(others[1]))


def test_differences_within_the_noise_are_named(network, floats, caplog):
    """Wrong labels make 60 images so noisy that only the worst strategies stand out."""
    images, labels = floats[0][:60], floats[1][:60].clone()
    labels[::5] = (labels[::5] + 1) % 4
    with caplog.at_level(logging.WARNING):
        found = compress(network, (images, labels), evaluations=12, agent="random-ratio")
    (note,) = found.notes
    assert "on 54 search images a difference has a standard error of" in note
    assert note in caplog.text and f"note: {note}" in str(found)


def test_a_single_strategy_is_compared_with_none(network, floats):
    assert compress(network, floats, evaluations=1, agent="random-ratio").notes == ()


def test_fine_tuning_is_judged_on_images_that_it_does_not_train_on(compressed):
    with torch.inference_mode():
        tuned = compressed.finetune(epochs=1)
    assert tuned.images == {"search": 51, "test": 51} and compressed.images["search"] == 461
    data = compressed.data
    held_out = [accuracy(each.network, data, data.search) for each in (compressed, tuned)]
    assert tuned.after["accuracy"] == held_out[1] >= held_out[0]
    with pytest.raises(UserError, match="epochs: .*got 0"):
        compressed.finetune(0)


FEW = {"evaluations": 2, "agent": "random-ratio"}


def test_labels_from_one(network, floats, caplog):
    images, labels = floats
    with caplog.at_level(logging.WARNING):
        found = compress(network, (images, labels + 1), **FEW)
    assert "labels 1 to 4 are taken as the classes 0 to 3" in caplog.text
    assert found.before == compress(network, floats, **FEW).before


def test_channels_last_is_recognized_or_given(network, floats):
    images, labels = floats
    last = images.permute(0, 2, 3, 1)
    expected = compress(network, floats, **FEW).before
    assert compress(network, (last, labels), **FEW).before == expected
    assert compress(network, (last, labels), channels_last=True, **FEW).before == expected
    with pytest.raises(UserError, match=r"\(2, 8, 8, 3\)"):
        compress(network, (last, labels), channels_last=False)
    with pytest.raises(UserError, match="Data.*mean"):
        compress(network, splits(), channels_last=True)


def test_wrong_normalization_is_named_and_the_right_one_taken(network):
    """The network takes pixels in [0, 1] less 0.5, over 0.25."""
    pixels, labels = splits().train.images, splits().train.labels
    zero_to_one, given = (pixels / 255).astype(np.float32), {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    expected = compress(network, splits(), **FEW).before["flops"]
    for images in (pixels, zero_to_one):
        found = compress(network, (images, labels), **given, **FEW)
        assert found.before["accuracy"] > 0.8 and found.before["flops"] == expected
    scaled = 40 * zero_to_one + 7
    with pytest.raises(UserError, match="mean=.* and std=") as named:
        compress(network, (scaled, labels))
    mean, std = re.search(r"mean=\((.*)\) and std=\((.*)\),", str(named.value)).groups()
    given = {"mean": tuple(map(float, mean.split(","))), "std": tuple(map(float, std.split(",")))}
    np.testing.assert_allclose(given["mean"], scaled.mean((0, 2, 3)), rtol=0.02)
    np.testing.assert_allclose(given["std"], scaled.std((0, 2, 3)), rtol=0.02)
    assert compress(network, (scaled, labels), **given, **FEW).before["accuracy"] > 0.7
    kept = compress(network, (scaled, labels), mean=(0,) * 3, std=(1,) * 3, **FEW)
    assert kept.before["accuracy"] < 0.6


def with_weight_norm(net):
    torch.nn.utils.parametrizations.weight_norm(net.classifier)
    return net


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net.train(),
        lambda net: net.half(),
        lambda net: torch.nn.DataParallel(net),
        lambda net: torch.compile(net),
        lambda net: with_weight_norm(net),
    ],
    ids=["train", "half", "DataParallel", "compile", "weight norm"],
)
def test_a_network_as_its_training_left_it(wrap, network, floats):
    wrapped = wrap(copy.deepcopy(network))
    before = {key: value.clone() for key, value in wrapped.state_dict().items()}
    mode = wrapped.training
    found = compress(wrapped, (floats[0].half(), floats[1]), **FEW)
    assert found.before["accuracy"] > 0.8 and wrapped.training == mode
    assert all(torch.equal(value, before[key]) for key, value in wrapped.state_dict().items())


def test_the_user_limits_what_is_cut(network, floats):
    limits = {"exclude": ["features.2"], "min_keep": {"features.0": 0.5}, "batch_size": 2}
    result = compress(
        network, floats, budgets={"memory": 0.9}, evaluations=2, agent="random-ratio", **limits
    )
    widths = {each["name"]: each["value"] for each in result.strategy.decisions}
    assert "features.2.0" not in widths and widths["features.0.0"] >= 6
    problem = result.env.problem
    memory, whole = problem.costs["memory"], problem.original_configuration
    assert result.before["memory_bytes"] == memory.weights(whole) + 2 * memory.activations(whole)
