"""Fine-tune the pruned network of a strategy."""

import copy
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from prune_gym._utils.json_file import read_json
from prune_gym._utils.paths import write_atomically
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.compression.unstructured import keep_zeros
from prune_gym.envs.replay import environment_of, save_of
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.graph.configuration import Configuration
from prune_gym.search_space.strategy import load_strategy
from prune_gym.training.history import History
from prune_gym.training.recipe import TrainingRecipe
from prune_gym.training.training import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finetuned:
    """The networks of a finished fine-tuning, quantized where the strategy says bits.

    Attributes:
        best: after the epoch of the highest accuracy on the search split, in eval mode.
        last: after the last epoch, in eval mode.
        history: every epoch's figures, and which one was best.
    """

    best: nn.Module
    last: nn.Module
    history: History


def finetune_candidate(
    evaluator: Evaluator,
    configuration: Configuration,
    recipe: TrainingRecipe,
    checkpoint: Path,
    log: Path | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Finetuned:
    """Train one strategy's repaired candidate on the training split.

    Weights that the strategy set to zero stay zero. Bits come after training: the float network is
    trained, then quantized as the search does it. The teacher, where the recipe distills, is the
    original network.

    Args:
        evaluator: of the original network.
        configuration: that of one strategy.
        recipe: how to train.
        checkpoint: where training goes on after an interruption.
        log: folder for TensorBoard's file.
        on_progress: called after every step with the steps done and their total.

    Raises:
        UserError: the checkpoint is damaged or belongs to another training; the data have a score
            and no loss, or the recipe distills and they have no classes.
    """
    floats = configuration.in_float()
    network = evaluator.candidate(floats).requires_grad_(True)
    keep_zeros(network)
    teacher = None
    if recipe.distillation:
        teacher = fold_batch_norm(copy.deepcopy(evaluator.network), evaluator.table)
    history = History(log)
    try:
        train(
            network,
            evaluator.data,
            recipe,
            checkpoint,
            teacher=teacher,
            history=history,
            on_progress=on_progress,
            device=evaluator.device.type,
        )
    finally:
        history.close()
    last = network.cpu()
    best = copy.deepcopy(last)
    best.load_state_dict(history.best)
    best, last = (evaluator.quantize(each, configuration) for each in (best, last))
    return Finetuned(best, last, history)


@dataclass(frozen=True)
class FinetuneReport:
    """The files of a finished fine-tuning and how accurate each network is.

    Attributes:
        best: file of the best epoch's network.
        last: file of the last epoch's network.
        figures: JSON file of all figures.
        accuracies: network -> split ("search", "test") -> accuracy, in the order: the original,
            the pruned network before training, the best epoch, the last epoch.
    """

    best: Path
    last: Path
    figures: Path
    accuracies: dict[str, dict[str, float]]

    @property
    def is_worse(self) -> bool:
        """Whether the best epoch is less accurate on the search split than no training."""
        _, before, best, _ = (each["search"] for each in self.accuracies.values())
        return best < before


def finetune(
    strategy_file: Path,
    recipe: TrainingRecipe,
    out: Path,
    on_progress: OnProgress = ignore_progress,
    *,
    network: str | None = None,
    data: str | None = None,
    device: str = "auto",
) -> FinetuneReport:
    """Fine-tune a strategy's network and write it, with its figures, beside ``out``.

    It writes ``out`` (the best weights), ``NAME-last.safetensors``, ``NAME.json`` (all figures)
    and, while it trains, ``NAME.checkpoint`` and ``NAME.tensorboard/``. The same command goes on
    from the checkpoint; after the end it only reports again. ``on_progress`` is called after every
    step with the steps done and their total. ``network``, ``data`` and ``device`` are those of
    `environment_named`.

    Raises:
        MissingFileError: no such strategy.
        UserError: not a strategy, or one of another network; the checkpoint is damaged or belongs
            to another training; the data have a score and no loss; ``NAME.json`` is not of a
            fine-tuning.
    """
    strategy = load_strategy(strategy_file)
    _check_free(out.with_suffix(".json"))
    env = environment_of(strategy, network, data, device)
    evaluator, configuration = env.problem.evaluator, env.problem.configure(strategy)
    logger.info("Fine-tuning %s (%s)", strategy_file, strategy.env_id)
    files = {kind: out.with_suffix(f".{kind}") for kind in ("checkpoint", "tensorboard", "json")}
    tuned = finetune_candidate(
        evaluator, configuration, recipe, files["checkpoint"], files["tensorboard"], on_progress
    )
    last = out.with_name(f"{out.stem}-last{out.suffix}")
    save_of(strategy, env, tuned.best, out)
    save_of(strategy, env, tuned.last, last)
    stages = {
        "pruned, not trained": evaluator.candidate(configuration),
        f"best, epoch {tuned.history.best_epoch}": tuned.best,
        f"last, epoch {recipe.epochs}": tuned.last,
    }
    splits = {"search": evaluator.data.search, "test": evaluator.data.test}
    scores = {"original": {name: evaluator.original_score(each) for name, each in splits.items()}}
    for stage, candidate in stages.items():
        scores[stage] = {name: evaluator.score(candidate, each) for name, each in splits.items()}
    content = {
        "strategy": strategy.as_dict(),
        "recipe": asdict(recipe),
        "accuracy": scores,
        "best_epoch": tuned.history.best_epoch,
        "epochs": tuned.history.epochs,
        "torch": torch.__version__,
    }
    write_atomically(files["json"], (json.dumps(content, indent=1) + "\n").encode())
    return FinetuneReport(out, last, files["json"], scores)


def _check_free(figures: Path) -> None:
    """Refuse to overwrite what no fine-tuning wrote, such as a strategy of that name."""
    if not figures.is_file():
        return
    try:
        content = read_json(figures)
    except UserError:
        content = None
    if not isinstance(content, dict) or "best_epoch" not in content:
        raise UserError(
            f"the figures would be written to {figures}, which holds something else: give --out "
            "another name"
        )
