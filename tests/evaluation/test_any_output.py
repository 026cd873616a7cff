"""Networks with any output: segmentation, several heads, a detector with its own outputs."""

import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from any_output import Detector, Segmenter, TwoHeads
from playing import constant, play
from torch.nn import functional as F

from prune_gym import cli, compress
from prune_gym.compression.repair import REPAIRS
from prune_gym.compression.surgery import first_channels
from prune_gym.compression.verify import largest_error
from prune_gym.datasets import ScoredData, ScoredSplit
from prune_gym.datasets.normalize import normalize
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import accuracy
from prune_gym.evaluation.task import make_evaluator
from prune_gym.graph.trace import trace
from prune_gym.training.build_library import build_library
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.recipe import TrainingRecipe

SHAPE, NORMALIZATION = (3, 16, 16), ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def mean_iou(outputs, targets):
    """Return the mean intersection over union of the classes of all pixels."""
    found, shares = outputs.argmax(1), []
    for each in targets.unique():
        one, other = found == each, targets == each
        shares.append((one & other).sum() / (one | other).sum())
    return torch.stack(shares).mean()


def of_two_heads(outputs, targets):
    hits = (outputs["classes"].argmax(1) == targets["classes"]).float().mean()
    error = (outputs["depth"] - targets["depth"]).square().mean() / targets["depth"].var()
    return (hits + (1 - error).clamp_min(0)) / 2


def agreement(outputs, targets):
    """Return how well boxes and class scores agree with the original's."""
    errors = [
        (one - other).abs().mean() / other.std()
        for one, other in zip(outputs, targets, strict=True)
    ]
    return float(torch.stack(errors).mean().neg().exp())


def made(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = kind()
        with torch.no_grad():
            for _ in range(10):  # running statistics
                network.train()(torch.randn(32, *SHAPE))
    return network.eval().requires_grad_(False)


def images(count, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    return coarse.repeat(4, 2).repeat(4, 3)


def data_of(network, score, targets_of, count=64):
    """Return data whose targets are what the original network computes: its score is about 1."""

    class Pixels:
        mean, std = NORMALIZATION

    def split(count, seed):
        pixels = images(count, seed)
        return ScoredSplit(pixels, targets_of(network(normalize(pixels, Pixels))))

    splits = split(128, 0), split(count, 1), split(32, 2)
    return ScoredData("made", *splits, *NORMALIZATION, score)


TASKS = {
    "segmentation": (Segmenter, mean_iou, lambda out: out.argmax(1)),
    "two-heads": (
        TwoHeads,
        of_two_heads,
        lambda out: {"classes": out["classes"].argmax(1), "depth": out["depth"]},
    ),
    "detector": (Detector, agreement, lambda out: out),
}


@pytest.fixture(scope="module", params=[*TASKS])
def task(request):
    kind, score, targets_of = TASKS[request.param]
    network = made(kind)
    return network, data_of(network, score, targets_of)


def test_an_episode_and_its_replay(task):
    network, data = task
    env = gym.make("ChannelPrune-v0", network=network, data=data, latency=None, round_to=1)
    problem = env.unwrapped.problem
    assert problem.original["accuracy"] > 0.97
    assert problem.reference_point[0] == 0.0 and problem.objectives[0].name == "accuracy"
    whole, small = (play(env, constant(action))[2][-1] for action in (1.0, -0.3))
    assert whole["accuracy"] == problem.original["accuracy"] > small["accuracy"] > 0
    assert problem.validate(small["strategy"]).reproduced
    candidate = problem.apply(small["strategy"])
    inputs = torch.zeros(2, *SHAPE)
    shapes = [
        torch.utils._pytree.tree_map(lambda t: t.shape, n(inputs)) for n in (network, candidate)
    ]
    assert shapes[0] == shapes[1]


def test_the_cut_is_exact(task):
    network, _ = task
    table = trace(network, SHAPE)
    kept = first_channels(table, (table.full + 1) // 2)
    error, dtype = largest_error(network, table, kept, torch.randn(4, *SHAPE))
    assert dtype is torch.float64 and error < 1e-12


def test_repair_helps(task):
    network, data = task
    scores = {}
    for repair in REPAIRS:
        env = compression_env(network, data, latency=None, round_to=1, repair=repair)
        scores[repair] = play(env, constant(0.2))[2][-1]["accuracy"]
    assert scores["least_squares"] == max(scores.values()) > scores["none"]


def test_compress(task):
    network, data = task
    result = compress(network, data, evaluations=6, agent="random-ratio")
    assert result.after["flops"] <= 0.5 * result.before["flops"]
    best = max(record["accuracy"] for record in result.front)
    assert result.strategy.metrics["accuracy"] == best
    assert result.before["test_accuracy"] > 0.97
    assert result.before["test_accuracy"] > result.after["test_accuracy"] > 0
    with pytest.raises(UserError, match="made.*loss="):
        result.finetune(1)


def test_compress_takes_images_and_targets():
    network = made(Segmenter)
    pixels, (mean, std) = images(100, 3), NORMALIZATION
    data = data_of(network, mean_iou, lambda out: out.argmax(1))
    targets = network(normalize(pixels, data)).argmax(1)
    given = {"score": mean_iou, "mean": mean, "std": std}
    result = compress(network, (pixels, targets), evaluations=2, agent="random-ratio", **given)
    assert result.images == {"search": 90, "test": 10} and result.before["accuracy"] > 0.97
    assert len(result.data.train) == 80


@pytest.fixture(scope="module")
def learnable():
    """A network for segmentation, and data with a loss."""
    network = made(Segmenter)
    data = data_of(network, mean_iou, lambda out: out.argmax(1))
    return network, replace(data, loss=F.cross_entropy)


RECIPE = TrainingRecipe(epochs=4, learning_rate=0.02, batch_size=16, warmup_epochs=0.5)


def test_a_network_with_a_loss_is_fine_tuned(learnable, tmp_path):
    env = compression_env(*learnable, latency=None, round_to=1, repair="none")
    strategy = play(env, constant(-0.3))[2][-1]["strategy"]
    configuration = env.problem.configure(strategy)
    tuned = finetune_candidate(env.problem.evaluator, configuration, RECIPE, tmp_path / "one")
    before, after = (
        accuracy(each, learnable[1], learnable[1].test)
        for each in (env.problem.apply(strategy), tuned.best)
    )
    assert after > before + 0.1
    distilling = replace(RECIPE, distillation=0.5)
    with pytest.raises(UserError, match="distills.*made"):
        finetune_candidate(env.problem.evaluator, configuration, distilling, tmp_path / "two")


def test_a_library_of_a_network_with_a_loss(learnable, tmp_path):
    evaluator = make_evaluator(*learnable, "none", block_size=1)
    library = build_library(evaluator, "made", tmp_path, replace(RECIPE, epochs=1), (0.5,))
    (entry,) = library.manifest["networks"]
    assert entry["density"] == 0.5 and entry["search_accuracy"] > 0.3


def test_compress_fine_tunes_with_a_loss(learnable):
    network, data = learnable
    targets = network(normalize(data.train.images, data)).argmax(1)
    given = {"score": mean_iou, "loss": F.cross_entropy, "agent": "random-ratio", "evaluations": 2}
    mean, std = NORMALIZATION
    result = compress(network, (data.train.images, targets), mean=mean, std=std, **given)
    tuned = result.finetune(2)
    assert tuned.after["accuracy"] >= accuracy(result.network, result.data, result.data.search)


def test_the_score_is_of_the_whole_split():
    seen = []

    def score(outputs, targets):
        seen.append((len(outputs), len(targets), outputs.dtype))
        return 0.5

    data = data_of(made(Segmenter), score, lambda out: out.argmax(1), count=600)
    env = compression_env(made(Segmenter), data, latency=None)
    assert env.problem.original["accuracy"] == 0.5
    assert seen == [(600, 600, torch.float32)]


@pytest.mark.parametrize("wrong", [1.2, -0.1, float("nan"), "good", None, torch.zeros(2)])
def test_a_score_is_a_number_from_0_to_1(wrong):
    data = data_of(made(TwoHeads), lambda *_: wrong, lambda out: out)
    env = compression_env(made(TwoHeads), data, latency=None)
    with pytest.raises(UserError, match=r"score: .*\[0, 1\]"):
        env.problem.original  # noqa: B018


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros(3), r"4 images.*\[\(3,\)\]"),
        ({"a": np.zeros(4), "b": np.zeros((5, 2))}, r"\[\(4,\), \(5, 2\)\]"),
        ((), r"shapes \[\]"),
        (["cat", "dog", "cat", "dog"], "arrays or tensors"),
    ],
)
def test_targets_have_a_row_for_each_image(targets, message):
    with pytest.raises(UserError, match=message):
        ScoredSplit(images(4, 0), targets)


def test_what_does_not_fit_is_named(task):
    network, data = task
    with pytest.raises(UserError, match="ScoredData.*score.*loss"):
        compress(network, data, score=mean_iou)
    with pytest.raises(UserError, match="ScoredData.*mean.*std"):
        compress(network, data, mean=(0,) * 3, std=(1,) * 3)
    with pytest.raises(UserError, match=r"score: .*\(outputs, targets\)"):
        ScoredData("x", data.train, data.search, data.test, *NORMALIZATION, score=0.5)
    with pytest.raises(UserError, match=r"loss: .*\(outputs, targets\)"):
        replace(data, loss=0.5)
    with pytest.raises(UserError, match="loss: .*score="):
        compress(network, (data.train.images, np.zeros(128, int)), loss=F.cross_entropy)
    with pytest.raises(UserError, match="score=.*ScoredData"):
        compress(network, [1, 2, 3], score=mean_iou)
    with pytest.raises(UserError, match="'variational'"):
        compression_env(network, data, decide=["variational"])


def test_the_command_line_takes_a_function_that_returns_the_data(tmp_path, monkeypatch):
    network, score, targets_of = TASKS["segmentation"]
    module = type(sys)("own_segmentation")
    module.network = lambda: made(network)
    module.data = lambda: data_of(made(network), score, targets_of)
    monkeypatch.setitem(sys.modules, "own_segmentation", module)
    own = ["--network", "own_segmentation:network", "--data", "own_segmentation:data"]
    options = ["--env", "ChannelPrune-v0", "--agent", "random", "--episodes", "2", *own]
    run = tmp_path / "run"
    assert cli.main(["train", *options, "--latency", "none", "--run", str(run)]) == 0
    strategy = str(next((run / "front").glob("*.json")))
    assert cli.main(["validate", strategy]) == 2  # a file's own function is not called
    assert cli.main(["validate", strategy, *own]) == 0
    assert cli.main(["apply", strategy, *own]) == 0
