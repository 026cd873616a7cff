"""Make a library of pruned networks: prune a little, retrain one epoch, keep the network."""

import copy
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_gym._utils.paths import write_atomically
from prune_gym._utils.progress import OnProgress, ignore_progress
from prune_gym.compression.unstructured import keep_zeros, sparsify
from prune_gym.datasets import AnyData
from prune_gym.errors import UserError
from prune_gym.evaluation.evaluator import Evaluator, accuracy
from prune_gym.evaluation.network_library import (
    FORMAT,
    MANIFEST,
    Library,
    read_manifest,
    read_network,
)
from prune_gym.models.weights_file import save_weights
from prune_gym.training.checkpoint import delete_checkpoint
from prune_gym.training.recipe import TrainingRecipe
from prune_gym.training.training import train

logger = logging.getLogger(__name__)


def build_library(
    evaluator: Evaluator,
    name: str,
    folder: Path,
    recipe: TrainingRecipe,
    densities: Sequence[float],
    on_progress: OnProgress = ignore_progress,
) -> Library:
    """Make one network per density, each from the one before; go on where it was interrupted.

    Weights are pruned element-wise by magnitude, the same share of every layer (EMOMC's multi-step
    pruning), and stay zero while the others are trained.

    Args:
        evaluator: of the trained network that is the start, with masks of one weight each.
        name: of that network, for the manifest.
        folder: for the files.
        recipe: of the retraining after each step; its seed counts up from step to step.
        densities: shares of weights kept, in (0, 1), falling.
        on_progress: called after every step of a retraining with the steps done and their total.

    Raises:
        UserError: the folder holds a library made in another way, or the data have a score and no
            loss.
    """
    manifest = _begin(folder, evaluator, name, recipe, densities)
    made = manifest["networks"]
    for step, density in enumerate(densities):
        if step < len(made):
            continue
        logger.info("Density %g: network %d of %d", density, step + 1, len(densities))
        network = copy.deepcopy(evaluator.network)
        if made:
            read_network(folder, made[-1], network)
        shares = np.full(len(evaluator.table.weighted), density)
        sparsify(network, evaluator.table, shares)
        keep_zeros(network.requires_grad_(True))
        checkpoint = folder / f".{density:g}.checkpoint"
        seeded = replace(recipe, seed=recipe.seed + step)
        place, data = evaluator.device.type, evaluator.data
        train(network, data, seeded, checkpoint, on_progress=on_progress, device=place)
        made.append(_keep(network.cpu(), data, folder, density))
        delete_checkpoint(checkpoint)
        _write(folder, manifest)
    return Library(folder)


def _begin(
    folder: Path,
    evaluator: Evaluator,
    name: str,
    recipe: TrainingRecipe,
    densities: Sequence[float],
) -> dict[str, Any]:
    """Return the manifest to go on with: that of the folder, or a new one."""
    wanted = {
        "format": FORMAT,
        "network": name,
        "data": evaluator.data.name,
        "start": evaluator.checksum,
        "recipe": str(recipe),
        "densities": [float(density) for density in densities],
    }
    if not (folder / MANIFEST).is_file():
        manifest = wanted | {"networks": []}
        _write(folder, manifest)
        return manifest
    manifest = read_manifest(folder)
    changed = [key for key, value in wanted.items() if manifest.get(key) != value]
    if changed:
        raise UserError(
            f"{folder} holds a library made in another way (other {', '.join(changed)}); give the "
            "same options, or another --out"
        )
    return manifest


def _keep(network: nn.Module, data: AnyData, folder: Path, density: float) -> dict[str, Any]:
    """Write a network's file and return its entry of the manifest."""
    network.half().float()  # what the file holds is what is measured
    with torch.inference_mode():
        found = accuracy(network, data, data.search)
    path = folder / f"{density:.3f}.safetensors"
    save_weights(network, path, {"density": f"{density:g}"})
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"density": density, "file": path.name, "sha256": checksum, "search_accuracy": found}


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
