"""Search for a smaller network, choose a strategy, and fine-tune its network."""

import hashlib
import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import cache_home
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.compress_network.choose import choose, equally_accurate, standard_error
from prune_gym.compress_network.front import Front
from prune_gym.compress_network.prepare import as_fitting_data, share_training_images
from prune_gym.compress_network.result import THREADS, Compressed, measured
from prune_gym.compression.calibration import IMAGES
from prune_gym.costs import COSTS
from prune_gym.datasets import Data, ScoredData
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError, UserTypeError, unknown
from prune_gym.evaluation.copy_network import copy_network
from prune_gym.experiments.evaluated_strategy import EvaluatedStrategy
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.graph.inputs import shape_of
from prune_gym.graph.layer_table import LayerTable
from prune_gym.graph.trace import trace
from prune_gym.profiling.profile_network import processor, profile
from prune_gym.profiling.runtimes import runtime_named
from prune_gym.profiling.session import Setting
from prune_gym.search_space.kinds.options import MIN_KEEP

logger = logging.getLogger(__name__)

HALF_THE_WORK = {"flops": 0.5}
ROUND_TO = (8, 4, 2, 1)  # channels; the first of which the smallest group has four times as many
RUNTIME = "onnxruntime"


@torch.inference_mode(False)  # a caller may have switched off the gradients that training needs
def compress(
    network: nn.Module,
    train_data: Any,
    budgets: Mapping[str, float] | None = None,
    evaluations: int = 100,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    score: Callable[[Any, Any], float] | None = None,
    loss: Callable[[Any, Any], torch.Tensor] | None = None,
    channels_last: bool | None = None,
    finetune_epochs: int = 0,
    exclude: Sequence[str] = (),
    include: Sequence[str] | None = None,
    min_keep: float | Mapping[str, float] = MIN_KEEP,
    batch_size: int = 1,
    device: str = "auto",
    agent: str = "ehvi-envelope-ddpg",
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> Compressed:
    """Search for a smaller network within the budgets; return the one that is probably best.

    Accuracies on a few hundred images are noisy. Strategies within one standard error of the best
    count as equally accurate; of these `prune_gym.compress_network.choose.choose` takes one
    by the probabilities of the right classes, and then the one that keeps most within the budgets.

    The network itself is left as it is. It is traced, so it must be made of what the environments
    understand. With a latency budget its layers are first timed on this machine, which takes a
    minute or more and is kept for the next time.

    Args:
        network: a trained classifier, images (N, C, H, W) -> logits (N, classes); with ``score``,
            a trained network with any outputs.
        train_data: labelled images, best ones that it was not trained on: ``(images, labels)``, a
            torch ``Dataset`` or ``DataLoader`` without random augmentation, or a ``Data``. Floats
            are taken as the network expects them, uint8 as pixels to be scaled to [0, 1]. Several
            inputs are a tuple, or a dict by the names of the forward's arguments, in the place of
            the images; of those, all but uint8 images stay as they are. 10 % are
            test images; the search uses up to 2,000 of the others, those of calibration too where
            there are few.
        budgets: cost -> largest allowed share of the original's: flops, params, memory, latency,
            energy or size; default: half the flops.
        evaluations: strategies to evaluate.
        mean: per channel, what the network's training subtracted from images; uint8 images are
            scaled to [0, 1] before. Of several inputs one such tuple for each, or a dict by name.
        std: per channel, what it then divided by.
        score: ``score(outputs, targets)`` returns a number in [0, 1], higher is better.
            ``train_data`` are then ``(images, targets)`` with tensors of targets, and the metrics
            named accuracy are scores. A ``ScoredData`` has its own. The normalization cannot be
            checked.
        loss: with ``score``, ``loss(outputs, targets)`` returns a tensor of one number, lower is
            better; `Compressed.finetune` needs it.
        channels_last: whether images are (N, H, W, C); None: recognized by the network's channels.
        finetune_epochs: epochs of training of the chosen network, as `Compressed.finetune` does it.
        exclude: patterns of layers that stay as they are, such as ``["features.0", "layer1.*"]``.
            What is cut together with such a layer stays too.
        include: patterns of the layers that may change; None: all.
        min_keep: least share of channels to keep, or shares by pattern: ``{"layer*": 0.5}``.
        batch_size: images that the network runs on at once, for memory and latency.
        device: where candidates are repaired, scored and trained: "cpu", "cuda", "mps", or "auto",
            the first of cuda, mps and cpu that there is. The result is on the processor.
        agent: which agent searches.
        seed: of the splits, the search and the training.
        on_progress: called after every evaluation with their number and ``evaluations``.

    Raises:
        UserTypeError: the network is no module, or the data are of a kind that is not known.
        UserError: data, network or budgets do not fit; the message says what was expected.
        MissingExtraError: a latency budget without ``prune-gym[onnx]``.
    """
    for name, value, least in (
        ("evaluations", evaluations, 1),
        ("finetune_epochs", finetune_epochs, 0),
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
    ):
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise UserError(f"expected {name} >= {least}, an integer; got {value!r}")
    if not isinstance(network, nn.Module):
        load = "; load these weights into the network first" if isinstance(network, dict) else ""
        raise UserTypeError(
            f"network: expected a trained nn.Module, got {type(network).__name__}{load}"
        )
    budgets = _checked(HALF_THE_WORK if budgets is None else budgets)
    network = copy_network(network)
    data = as_fitting_data(train_data, network, seed, mean, std, channels_last, score, loss)
    is_split = isinstance(train_data, Data | ScoredData)
    searched = data if is_split else share_training_images(data, seed)
    logger.info(
        "%d images for calibration, %d for the search, %d for the test",
        *(min(len(searched.train), IMAGES), len(searched.search), len(searched.test)),
    )
    table = trace(network, shape_of(data.search.images))
    env = compression_env(
        network,
        searched,
        objectives=("accuracy", *budgets),
        budgets=budgets,
        latency=_latency_table(network, data, table, batch_size) if "latency" in budgets else None,
        round_to=_round_to(table),
        exclude=exclude,
        include=include,
        min_keep=min_keep,
        batch_size=int(batch_size),
        device=device,
    )
    with tempfile.TemporaryDirectory() as folder:
        evaluated, front = _search(env, agent, int(evaluations), seed, Path(folder), on_progress)
    strategy = choose(env.problem, evaluated).strategy
    result = measured(
        Compressed(
            env.problem.apply(strategy),
            strategy,
            env.problem.original,
            dict(strategy.metrics),
            Front(each.as_dict() for each in front),
            env,
            data,
            notes=_notes(env, evaluated, front),
        ),
        searched,
    )
    return result.finetune(int(finetune_epochs), seed) if finetune_epochs else result


def _checked(budgets: Any) -> dict[str, float]:
    if (
        not isinstance(budgets, Mapping)
        or not budgets
        or "accuracy" in budgets
        or any(isinstance(share, bool) for share in budgets.values())
    ):
        raise UserError(
            'budgets: expected shares of costs, at least one, such as {"flops": 0.5}; got '
            f"{budgets!r}"
        )
    for name in budgets:
        if name not in COSTS:
            raise UserError(unknown("budget", name, COSTS))
    return dict(budgets)


def _notes(
    env: CompressionEnv, evaluated: list[EvaluatedStrategy], front: list[EvaluatedStrategy]
) -> tuple[str, ...]:
    """Return a note, which is logged as a warning, where noise hides the differences."""
    count = len(env.problem.evaluator.data.search)
    on_front = [each.metrics["accuracy"] for each in front]
    error = standard_error(max(on_front), count)
    equal = equally_accurate(env.problem, evaluated)
    logger.info(
        "%d strategies are within one standard error (%.1f points on %d images) of the best",
        *(len(equal), 100 * error, count),
    )
    typical = float(np.median(-np.diff(on_front))) if len(front) > 1 else 0.0
    if typical >= math.sqrt(2) * error or len(equal) == 1:
        return ()
    note = (
        f"neighbors on the front typically differ by {100 * typical:.1f} points of accuracy, and "
        f"on {count} search images a difference has a standard error of "
        f"{100 * math.sqrt(2) * error:.1f}: more images would tell them apart"
    )
    logger.warning(note)
    return (note,)


def _round_to(table: LayerTable) -> int:
    smallest = min((group.size * group.channels_each for group in table.groups), default=1)
    return next((each for each in ROUND_TO if smallest >= 4 * each), 1)


def _latency_table(
    network: nn.Module, data: Data | ScoredData, table: LayerTable, batch_size: int
) -> str:
    """Return the latency table of this network on this machine; measure it the first time."""
    what = (
        f"{table} {processor()} {RUNTIME} {runtime_named(RUNTIME).version()} {THREADS} {batch_size}"
    )
    digest = hashlib.sha256(what.encode()).hexdigest()[:24]
    path = cache_home() / f"latency-{digest}.json"
    if not path.is_file():
        name, setting = (
            type(network).__name__,
            Setting(batch_size, shape_of(data.search.images), THREADS),
        )
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
) -> tuple[list[EvaluatedStrategy], list[EvaluatedStrategy]]:
    """Run the agent; return what it evaluated, and the front, the most accurate first.

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
        return recorded.records, recorded.front()
    finally:
        recorded.close()
