"""Networks that read several inputs: in a tuple or by name, with shared layers, with masks."""

import copy
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from cuts import check_random_cuts, half_of
from playing import constant, play
from several_inputs import TASKS, Siamese, TwoBranches, task
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from prune_gym import Data, ScoredData, ScoredSplit, Split, cli, compress, compression_env
from prune_gym.compression.network_file import load_network, read_network_spec, save_network
from prune_gym.compression.repair import REPAIRS
from prune_gym.compression.verify import check_cut
from prune_gym.costs.flops import Flops
from prune_gym.costs.memory import Memory
from prune_gym.costs.params import Params
from prune_gym.datasets.from_arrays import as_data
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.deployable import deployable
from prune_gym.deployment.export import FORMATS, export
from prune_gym.errors import UserError, UserTypeError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.graph.input_shapes import InputShapes
from prune_gym.graph.inputs import Inputs, feed, shape_of
from prune_gym.graph.trace import trace
from prune_gym.profiling.profile_network import profile
from prune_gym.profiling.session import Setting
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.recipe import TrainingRecipe

GROUPS = {
    "image and vector": {"stem.0": 12, "block.0.0": 16, "vector.0": 16, "vector.2": 10},
    "siamese": {"tower.0.0": 8, "tower.1.0": 12, "tower.2.0": 12, "project": 16},
    "boolean mask": {"embed": 16, "layer.self_attn.q_proj": 4, "layer.linear1": 24},
    "float mask": {"first": 16, "second": 12},
}
GROUPS["by name"] = GROUPS["image and vector"]


def traced(name):
    network, data = task(name)
    inputs = normalize(data.search.images, data)
    return copy.deepcopy(network), inputs, trace(copy.deepcopy(network), shape_of(inputs))


@pytest.mark.parametrize("name", TASKS)
def test_the_cut_is_exact(name):
    network, inputs, _ = traced(name)
    table = trace(network, shape_of(inputs))
    assert {group.name: group.size for group in table.groups} == GROUPS[name]
    check_random_cuts(network, table, inputs)


@pytest.mark.parametrize("name", TASKS)
def test_costs_are_those_of_the_cut_network(name):
    network, inputs, _ = traced(name)
    table = trace(network, shape_of(inputs))
    configuration, small, multiply_adds = half_of(network, table, inputs[:1])
    assert Flops(table)(configuration)[0] == multiply_adds
    assert Params(table)(configuration)[0] == sum(each.numel() for each in small.parameters())


def test_memory_holds_all_inputs_until_they_are_read():
    """While the first of two shared convolutions writes, both images are live."""
    table = trace(Siamese().eval(), ((3, 16, 16), (3, 16, 16)))
    memory = Memory(table)
    assert memory.activations(table.configuration())[0] == 4 * 256 * (3 + 3 + 8)


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_and_its_replay(name):
    network, data = task(name)
    kinds = ("channels", "density", "weight_bits", "activation_bits")
    decide = kinds if name in ("siamese", "float mask") else ("block", *kinds)
    costs = ("accuracy", "flops", "params", "memory", "energy", "size")
    given = {"network": network, "data": data, "latency": None, "round_to": 1}
    env = gym.make("ChannelPrune-v0", **given, decide=decide, objectives=costs)
    problem = env.unwrapped.problem
    assert problem.original["accuracy"] > 0.95
    inputs = normalize(data.search.images[:3], data)
    for action in (0.3, -0.9):  # the second one skips blocks
        strategy = play(env, constant(action))[2][-1]["strategy"]
        assert problem.validate(strategy).reproduced
        assert feed(problem.apply(strategy), inputs).shape == (3, 4)


@pytest.mark.parametrize("name", TASKS)
def test_repair_helps(name):
    network, data = task(name)
    errors = {}
    for repair in REPAIRS:
        env = compression_env(network, data, latency=None, round_to=1, repair=repair)
        small = env.problem.apply(play(env, constant(0.4))[2][-1]["strategy"])
        inputs = normalize(data.search.images, data)
        with torch.no_grad():
            errors[repair] = float((feed(small, inputs) - feed(network, inputs)).square().mean())
    assert errors["least_squares"] == min(errors.values()) < 0.8 * errors["none"]


@pytest.mark.parametrize("name", TASKS)
def test_a_file_is_read_back(name, tmp_path):
    network, data = task(name)
    env = compression_env(network, data, latency=None, round_to=1)
    strategy = play(env, constant(-0.2))[2][-1]["strategy"]
    small, file = env.problem.apply(strategy), tmp_path / "small.safetensors"
    inputs = normalize(data.search.images, data)
    about = {"name": "own", "num_classes": 4, "input_shape": shape_of(inputs)}
    save_network(small, file, configuration=env.problem.configure(strategy), **about)
    assert read_network_spec(file).input_shape == shape_of(inputs)
    again = load_network(file, lambda _: copy.deepcopy(network))
    torch.testing.assert_close(feed(again, inputs), feed(small, inputs))


RECIPE = TrainingRecipe(epochs=6, learning_rate=0.02, batch_size=32, warmup_epochs=0.5)


@pytest.mark.parametrize("name", TASKS)
def test_fine_tuning(name, tmp_path):
    network, data = task(name)
    env = compression_env(network, data, latency=None, round_to=1, repair="none")
    strategy = play(env, constant(-0.3))[2][-1]["strategy"]
    configuration = env.problem.configure(strategy)
    recipe = replace(RECIPE, distillation=0.5)
    tuned = finetune_candidate(env.problem.evaluator, configuration, recipe, tmp_path / "one")
    before, after = (
        accuracy(each, data, data.train) for each in (env.problem.apply(strategy), tuned.best)
    )
    assert after > before + 0.1


def whole(data):
    """Return the inputs and labels of all splits."""
    splits = data.train, data.search, data.test
    names = data.train.images.names
    columns = zip(*(each.images.parts for each in splits), strict=True)
    parts = [np.concatenate(each) for each in columns]
    labels = np.concatenate([each.labels for each in splits])
    return dict(zip(names, parts, strict=True)) if names else tuple(parts), labels


class Items(Dataset):
    """A data set of pairs ((a, b), label) or ({"a": a, "b": b}, label)."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, at):
        if isinstance(self.inputs, dict):
            one = {key: torch.from_numpy(each[at]) for key, each in self.inputs.items()}
        else:
            one = tuple(torch.tensor(each[at]) for each in self.inputs)
        return one, int(self.labels[at])


@pytest.mark.parametrize("name", ["image and vector", "by name", "boolean mask"])
@pytest.mark.parametrize("form", ["arrays", "data set", "loader"])
def test_data_in_memory_data_sets_and_loaders(name, form):
    _, data = task(name)
    inputs, labels = whole(data)
    given = {
        "arrays": lambda: (inputs, labels),
        "data set": lambda: Items(inputs, labels),
        "loader": lambda: DataLoader(Items(inputs, labels), batch_size=50),
    }[form]()
    made, expected = (
        as_data(each, mean=data.mean, std=data.std) for each in (given, (inputs, labels))
    )
    assert (made.mean, made.std) == (expected.mean, expected.std) == (data.mean, data.std)
    for split in ("train", "search", "test"):
        one, other = getattr(made, split), getattr(expected, split)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.images.names == other.images.names
        for ours, theirs in zip(one.images.parts, other.images.parts, strict=True):
            assert ours.dtype == theirs.dtype and not ours.flags.writeable
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", TASKS)
def test_compress(name):
    network, data = task(name)
    inputs, labels = whole(data)
    given = {"evaluations": 3, "agent": "random-ratio"}
    result = compress(network, (inputs, labels), mean=data.mean, std=data.std, **given)
    assert result.after["flops"] <= 0.5 * result.before["flops"]
    assert result.before["test_accuracy"] > 0.9
    tuned = result.finetune(2)
    assert tuned.after["accuracy"] >= accuracy(result.network, result.data, result.data.search)


@pytest.mark.ci
@pytest.mark.parametrize("name", ["by name", "boolean mask"])
def test_what_compress_returns(name, tmp_path):
    network, data = task(name)
    result = compress(network, data, evaluations=2, agent="random-ratio")
    assert "latency here" in result.report()
    result.save(tmp_path / "small.safetensors")
    again = load_network(tmp_path / "small.safetensors", lambda _: copy.deepcopy(network))
    inputs = normalize(data.test.images, data)
    torch.testing.assert_close(feed(again, inputs), feed(result.network, inputs))
    assert result.export(tmp_path / "small.onnx").difference < 1e-4


@pytest.mark.ci
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", TASKS)
def test_export(name, form, tmp_path):
    if form == "executorch":
        pytest.importorskip("executorch")
    network, data = task(name)
    written = export(deployable(network, data), form, False, tmp_path / "one")
    assert written.difference < 1e-4
    assert all(part in str(written) for part in str(shape_of(data.train.images)).split(", "))


@pytest.mark.ci
@pytest.mark.parametrize("name", ["image and vector", "by name", "siamese"])
def test_export_with_8_bits(name, tmp_path):
    network, data = task(name)
    written = export(deployable(network, data), "onnx", True, tmp_path / "int8.onnx")
    assert written.int8 and written.same_class > 0.8


@pytest.mark.parametrize("name", ["by name", "siamese"])
def test_latency_measured_on_this_machine(name):
    pytest.importorskip("onnxruntime")
    network, data = task(name)
    costs = ("accuracy", "latency")
    env = compression_env(network, data, latency="measured", objectives=costs, round_to=1)
    assert play(env, constant(-0.5))[2][-1]["latency_ms"] > 0


def test_data_with_a_score():
    network, data = task("image and vector")

    def split(each):
        with torch.no_grad():
            return ScoredSplit(each.images, feed(network, normalize(each.images, data)))

    def score(outputs, targets):
        return float((outputs - targets).abs().mean().neg().exp())

    def loss(outputs, targets):
        return (outputs - targets).square().mean()

    splits = (split(each) for each in (data.train, data.search, data.test))
    scored = ScoredData("made", *splits, data.mean, data.std, score, loss=loss)
    result = compress(network, scored, evaluations=2, agent="random-ratio", finetune_epochs=1)
    assert result.before["accuracy"] > result.after["accuracy"] > 0.5
    inputs, _ = whole(data)
    targets = np.concatenate([each.targets for each in (scored.train, scored.search, scored.test)])
    given = {"score": score, "mean": data.mean, "std": data.std}
    result = compress(network, (inputs, targets), evaluations=1, agent="random-ratio", **given)
    assert result.before["accuracy"] > 0.97


def test_by_name_on_the_command_line(tmp_path, monkeypatch, capsys):
    module = type(sys)("own_inputs")
    module.network, module.data = (
        (lambda: task("image and vector")[0]),
        (lambda: task("image and vector")[1]),
    )
    monkeypatch.setitem(sys.modules, "own_inputs", module)
    own = ["--network", "own_inputs:network", "--data", "own_inputs:data"]
    options = ["--env", "ChannelPrune-v0", "--agent", "random", "--episodes", "2", *own]
    run = tmp_path / "run"
    assert cli.main(["train", *options, "--latency", "none", "--run", str(run)]) == 0
    strategy = str(next((run / "front").glob("*.json")))
    assert cli.main(["validate", strategy, *own]) == 0
    file = str(tmp_path / "small.safetensors")
    assert cli.main(["apply", strategy, *own, "--out", file]) == 0
    assert cli.main(["export", file, *own, "--format", "torchscript"]) == 0
    assert cli.main(["measure", strategy, *own]) == 2
    assert "measure is for networks that read one input" in capsys.readouterr().err
    assert cli.main(["explain", "own_inputs:network", "--shape", "3x16x16,7:float"]) == 0
    shown = capsys.readouterr().out
    assert "on 3x16x16:float, 7:float: " in shown and "vector.2" in shown
    assert cli.main(["explain", "own_inputs:network", "--shape", "3x16x16,7"]) == 2
    assert "cannot run on inputs of 3x16x16:float, 7:int" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["explain", "own_inputs:network", "--shape", "3x16x16,7:half"])


def test_what_cannot_take_several_inputs_says_so(tmp_path):
    network, data = task("siamese")
    shape = shape_of(data.train.images)
    with pytest.raises(UserError, match="Siamese.*several inputs.*latency table"):
        profile(
            network,
            name="Siamese",
            device="here",
            runtime="torch",
            setting=Setting(1, shape, 1),
            out=tmp_path / "x",
        )
    with pytest.raises(UserError, match="latency table is for networks that read one"):
        compress(network, data, {"latency": 0.5}, evaluations=1)


def split_of(*inputs):
    return Split(inputs, np.zeros(4, np.int64))


PIXELS = np.zeros((4, 3, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((PIXELS, np.zeros((5, 2))), r"equally many rows .*\[4, 5\]"),
        (
            (PIXELS, PIXELS[:, 0, 0]),
            r"input 1: uint8 are images .*\(4, 8\); give .* floats or int64",
        ),
        (({"a": 1}, PIXELS), r"input 0: expected an array or tensor of numbers"),
        ((PIXELS, np.zeros((4, 0))), r"input 1: .*\(4, 0\)"),
        ((PIXELS, np.full((4, 2), np.nan)), "input 1: .*NaN"),
        ((), "at least one input"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
    with pytest.raises(UserError, match=message):
        split_of(*inputs)


def test_normalizations_that_do_not_fit_are_named():
    split = split_of(PIXELS, np.zeros((4, 2)))

    def data(mean, std):
        return Data("x", 4, split, split, split, mean, std, flip=False)

    assert data(((0, 0, 0), None), ((1, 1, 1), ())).std == ((1.0, 1.0, 1.0), ())
    for mean in ((0.0, 0.0, 0.0), None, {"image": (0, 0, 0)}):
        with pytest.raises(UserError, match="mean: expected one for each of 2 inputs"):
            data(mean, mean)
    with pytest.raises(UserError, match=r"mean: .*per channel of the images \(3\)"):
        data(((), ()), ((), ()))
    with pytest.raises(UserError, match="only images are"):
        data(((0, 0, 0), (0, 0)), ((1, 1, 1), (1, 1)))


def test_images_among_several_inputs_are_scaled_to_one_where_nothing_else_is_said():
    data = as_data(((np.tile(PIXELS, (10, 1, 1, 1)), np.zeros((40, 2))), np.arange(40) % 2))
    assert (data.mean, data.std) == (((0.0, 0.0, 0.0), ()), ((1.0, 1.0, 1.0), ()))


def test_data_that_do_not_fit_a_network_are_named():
    network, data = task("image and vector")
    inputs, labels = whole(data)
    with pytest.raises(UserError, match="does not take inputs 7:float, 3x16x16:float"):
        compress(network, (inputs[::-1], labels), mean=data.mean[::-1], std=data.std[::-1])
    with pytest.raises(UserError, match="channels_last: several inputs"):
        compress(network, (inputs, labels), channels_last=True)
    items = [((np.zeros(3), np.zeros(2)), 0), ((np.zeros(3),), 1)]
    with pytest.raises(UserError, match="the same ones for every example"):
        as_data(items)
    with pytest.raises(UserTypeError, match="a tuple or a dict"):
        as_data([(np.zeros(3), np.zeros(2), 0)] * 3)
    single = Split(PIXELS, np.zeros(4, np.int64))
    several = split_of(PIXELS)
    with pytest.raises(UserError, match="one shape"):
        Data("x", 4, single, several, single, (0,) * 3, (1,) * 3, flip=False)


class Timed(nn.Module):
    """Reads an image, a number and a class."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.time, self.kind, self.head = nn.Linear(1, 8), nn.Embedding(5, 6), nn.Linear(6, 4)

    def forward(self, x, time, kind=None):
        x = F.relu(self.first(x)) * self.time(time[:, None]).sigmoid()[:, :, None, None]
        x = self.second(x) * time.view(-1, 1, 1, 1)
        return self.head(x.mean((2, 3)) + self.kind(kind))


class AnyNumber(nn.Module):
    """Reads any number of images."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, *images):
        return self.head((self.first(images[0]) + self.second(images[1])).mean((2, 3)))


IMAGE = torch.randn(2, 3, 8, 8)
OTHERS = {
    "a number and a class": (Timed, (IMAGE, torch.rand(2), torch.tensor([0, 4])), [8, 6]),
    "any number": (AnyNumber, (IMAGE, IMAGE.flip(0)), [8]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_inputs(name):
    kind, parts, sizes = OTHERS[name]
    network, inputs = kind().eval().requires_grad_(False), Inputs(parts)
    table = trace(network, shape_of(inputs))
    assert [group.size for group in table.groups] == sizes
    check_cut(network, table, inputs)


def test_a_network_of_vectors_alone():
    vectors = np.random.default_rng(0).normal(size=(200, 6))
    network = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    with torch.no_grad():
        outputs = network(torch.tensor(vectors, dtype=torch.float32))
        network[2].bias -= outputs.mean(0)
    labels = (outputs - outputs.mean(0)).argmax(1).numpy()
    with pytest.raises(UserError, match=r"\(200, 6\); .*\(\(numbers,\), labels\)"):
        compress(network, (vectors, labels))
    result = compress(network, ((vectors,), labels), evaluations=2, agent="random-ratio")
    assert result.after["params"] < result.before["params"]


def test_shapes_of_several_inputs():
    network = TwoBranches().eval()
    shapes = InputShapes(((3, 16, 16), (7,)), ("float", "float"))
    assert trace(network, shapes).input_shape == shapes
    given = {"image": (3, 16, 16), "vector": (7,)}
    with pytest.raises(UserError, match="image=3x16x16:float, vector=7:int"):
        trace(network, given)
