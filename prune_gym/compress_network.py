"""Compress the user's own network in one call: search, choose, fine-tune."""

import copy
import hashlib
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prune_gym._utils.formatting import format_change, format_metric
from prune_gym._utils.paths import cache_home
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.compression.network_file import save_network
from prune_gym.compression.verify import count_classes
from prune_gym.datasets import Data
from prune_gym.datasets.from_arrays import as_data
from prune_gym.datasets.normalize import normalize
from prune_gym.deployment.deployable import deployable
from prune_gym.deployment.export import Exported, export
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError, UserTypeError
from prune_gym.evaluation.evaluator import Evaluator, accuracy
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.trace import trace
from prune_gym.graph.unwrap import unwrapped
from prune_gym.profiling.profile_network import processor, profile
from prune_gym.profiling.runtimes import Setting, runtime_named
from prune_gym.search_space.strategy import Strategy, strategy_from_dict
from prune_gym.training.finetune import finetune_candidate
from prune_gym.training.recipe import load_recipe

logger = logging.getLogger(__name__)

HALF_THE_WORK = {"flops": 0.5}
ABOVE_CHANCE = 0.05  # of the way up from chance; below it the images are not those it knows
ROUND_TO = (8, 4, 2, 1)  # channels; the first of which the smallest group has four times as many
RUNTIME = "onnxruntime"
THREADS = 1  # with more, ONNX Runtime shares them in the process and refuses its other sessions


@dataclass(frozen=True, repr=False)
class Compressed:
    """The smaller network that :func:`compress` found, and the front it is chosen from.

    ``print(result)`` shows before and after; `save` and `export` write the network.

    Attributes:
        network: the chosen strategy's network, float32, in eval mode.
        strategy: its decisions and what the search measured.
        before: metrics of the original; ``accuracy`` is that on the search split, ``test_accuracy``
            that on the test split.
        after: the same of ``network``.
        front: records of all non-dominated strategies, the most accurate first.
        env: the environment; ``env.problem.apply(front[3]["strategy"])`` gives another network.
    """

    network: nn.Module
    strategy: Strategy
    before: dict[str, float]
    after: dict[str, float]
    front: list[dict[str, Any]]
    env: CompressionEnv

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors; ``load_network(path, build)`` reads it.

        ``build`` takes a number of classes and returns the original architecture.
        """
        data = self.env.problem.evaluator.data
        assert isinstance(data, Data)
        save_network(
            self.network,
            Path(path),
            name=type(self.env.problem.evaluator.network).__name__,
            num_classes=data.num_classes,
            configuration=self.env.problem.configure(self.strategy),
            input_shape=data.search.images.shape[1:],
        )

    def export(self, path: str | Path, form: str = "onnx", int8: bool = False) -> Exported:
        """Write the network as ONNX, or as a "torch" (export) program or "torchscript".

        Raises:
            MissingExtraError: ``prune-gym[onnx]`` is not installed.
            UserError: no such form; int8 in another one than ONNX; what was written does not
                compute what PyTorch does.
        """
        given = deployable(self.network, self.env.problem.evaluator.data)
        return export(given, form, int8, Path(path))

    def __repr__(self) -> str:
        """Return one line: accuracy and costs, before and after."""
        shown = [name for name in ("test_accuracy", "flops", "params") if name in self.before]
        changes = (
            f"{name} {format_metric(self.before[name], name)} -> "
            f"{format_metric(self.after[name], name)}"
            for name in shown
        )
        return f"<Compressed: {', '.join(changes)}; {len(self.front)} strategies on the front>"

    def __str__(self) -> str:
        """Return the table of before and after."""
        lines = [f"{'':<16}{'before':>12}{'after':>12}  change"]
        for metric in sorted(self.before, key=lambda name: not name.endswith("accuracy")):
            before, after = self.before[metric], self.after[metric]
            cells = f"{format_metric(before, metric):>12}{format_metric(after, metric):>12}"
            lines.append(f"{metric:<16}{cells}  {format_change(before, after, metric)}")
        return "\n".join([*lines, f"non-dominated strategies found: {len(self.front)}"])


@torch.inference_mode(False)  # a caller may have switched off the gradients that training needs
def compress(
    network: nn.Module,
    train_data: Any,
    budgets: Mapping[str, float] | None = None,
    evaluations: int = 100,
    *,
    finetune_epochs: int = 0,
    agent: str = "ehvi-envelope-ddpg",
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> Compressed:
    """Search for a smaller network within the budgets; return the most accurate one found.

    The network itself is left as it is. It is traced, so it must be made of what the environments
    understand. With a latency budget its layers are first timed on this machine, which takes a
    minute or more and is kept for the next time.

    Args:
        network: a trained classifier, images (N, C, H, W) -> logits (N, classes).
        train_data: labelled images, best ones that it was not trained on: ``(images, labels)``, a
            torch ``Dataset`` or ``DataLoader`` without random augmentation, or a ``Data``. Floats
            are taken as the network expects them, uint8 as pixels to be scaled to [0, 1].
        budgets: cost -> largest allowed share of the original's: flops, params, memory, latency,
            energy or size; default: half the flops.
        evaluations: strategies to evaluate.
        finetune_epochs: epochs of training of the chosen network, by the recipe "short"; it is
            kept where it is more accurate on the search split than the repaired one.
        agent: which agent searches.
        seed: of the splits, the search and the training.
        on_progress: called after every evaluation with their number and ``evaluations``.

    Raises:
        UserTypeError: the network is no module, or the data are of a kind that is not known.
        UserError: data, network or budgets do not fit; the message says what was expected.
        MissingExtraError: a latency budget without ``prune-gym[onnx]``.
    """
    if evaluations < 1 or finetune_epochs < 0:
        raise UserError(
            "expected evaluations >= 1 and finetune_epochs >= 0, got "
            f"{evaluations} and {finetune_epochs}"
        )
    if not isinstance(network, nn.Module):
        raise UserTypeError(f"network: expected a trained nn.Module, got {type(network).__name__}")
    budgets = HALF_THE_WORK if budgets is None else budgets
    if not isinstance(budgets, Mapping) or not budgets or "accuracy" in budgets:
        raise UserError(
            'budgets: expected shares of costs, at least one, such as {"flops": 0.5}; got '
            f"{budgets!r}"
        )
    budgets = dict(budgets)
    network = copy.deepcopy(unwrapped(network)).cpu().float().eval()
    data = _fitting(as_data(train_data, seed), network)
    table = trace(network, data.search.images.shape[1:])
    env = compression_env(
        network,
        data,
        objectives=("accuracy", *budgets),
        budgets=budgets,
        latency=_latency_table(network, data, table) if "latency" in budgets else None,
        round_to=_round_to(table),
    )
    _check(env.problem.evaluator)
    with tempfile.TemporaryDirectory() as folder:
        front = _search(env, agent, evaluations, seed, Path(folder), on_progress)
        strategy = strategy_from_dict(front[0]["strategy"])
        found = env.problem.apply(strategy)
        if finetune_epochs:
            recipe = load_recipe("short", epochs=finetune_epochs, seed=seed)
            recipe = replace(recipe, batch_size=min(recipe.batch_size, len(data.train)))
            where = Path(folder, "checkpoint")
            tuned = finetune_candidate(
                env.problem.evaluator, env.problem.configure(strategy), recipe, where
            ).best
            found = max((tuned, found), key=lambda each: accuracy(each, data, data.search))
    before, after = env.problem.original, dict(strategy.metrics)
    for metrics, each in ((before, env.problem.evaluator.network), (after, found)):
        metrics["accuracy"] = accuracy(each, data, data.search)
        metrics["test_accuracy"] = accuracy(each, data, data.test)
    return Compressed(found, strategy, before, after, front, env)


@torch.inference_mode()
def _fitting(data: Data, network: nn.Module) -> Data:
    """Return the data with as many classes as the network has outputs.

    Raises:
        UserError: the network does not take the images, or has fewer outputs than classes.
    """
    images = normalize(data.train.images[:2], data)
    try:
        outputs = network(images)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the network does not take images of shape {tuple(images.shape)}: {error}"
        ) from error
    classes = count_classes(outputs)
    if classes < data.num_classes:
        raise UserError(
            f"the network has {classes} outputs, and there are labels up to {data.num_classes - 1}"
        )
    return replace(data, num_classes=classes)


def _check(evaluator: Evaluator) -> None:
    data = evaluator.data
    assert isinstance(data, Data)
    found = accuracy(evaluator.network, data, data.search)
    if found < data.chance + ABOVE_CHANCE * (1 - data.chance):
        raise UserError(
            f"the network is right on {found:.1%} of {len(data.search)} images, little more than "
            f"chance ({data.chance:.1%}): is it trained, and are the images normalized as in its "
            "training? Give them as floats just as the network expects them (without outliers: "
            "they are put on 256 levels), or as a Data with mean and std"
        )


def _round_to(table: LayerTable) -> int:
    smallest = min((group.size * group.channels_each for group in table.groups), default=1)
    return next((each for each in ROUND_TO if smallest >= 4 * each), 1)


def _latency_table(network: nn.Module, data: Data, table: LayerTable) -> str:
    """Return the latency table of this network on this machine; measure it the first time."""
    what = f"{table} {processor()} {RUNTIME} {runtime_named(RUNTIME).version()} {THREADS}"
    digest = hashlib.sha256(what.encode()).hexdigest()[:24]
    path = cache_home() / f"latency-{digest}.json"
    if not path.is_file():
        name, setting = type(network).__name__, Setting(1, data.search.images.shape[1:], THREADS)
        profile(
            network, name=name, device="this machine", runtime=RUNTIME, setting=setting, out=path
        )
    return str(path)


def _search(
    env: CompressionEnv,
    agent: str,
    evaluations: int,
    seed: int,
    folder: Path,
    on_progress: OnProgress,
) -> list[dict[str, Any]]:
    """Run the agent and return the front's records, the most accurate first.

    The budgets say how small; what is left to look for is accuracy, where an agent can be told so.
    """
    from prune_gym.agents import takes_priorities
    from prune_gym.experiments.run_agent import run_agent
    from prune_gym.experiments.run_config import RunConfig

    priorities = {"accuracy": 1.0} if takes_priorities(agent) else None
    config = RunConfig("", agent, evaluations, seed, preference=priorities)
    recorded = RecordRun(env, RunFolder(folder, config, resume=False))
    try:

        def finished() -> None:
            best = max(record.metrics["accuracy"] for record in recorded.records)
            logger.info(
                "evaluation %d of %d: best accuracy %.1f %%",
                *(recorded.episode, evaluations, 100 * best),
            )
            on_progress(recorded.episode, evaluations)

        run_agent(recorded, finished)
        return [record.as_dict() for record in recorded.front()]
    finally:
        recorded.close()
