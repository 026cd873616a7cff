"""What made a run, and what decides its accuracies."""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

import prune_gym
from prune_gym._utils.device import CPU, fast_dtype
from prune_gym.evaluation.evaluator import Evaluator
from prune_gym.profiling.profile_network import processor

PACKAGES = ("prune-gym", "torch", "numpy", "gymnasium", "stable-baselines3")
DECIDES = {  # key of `provenance` -> what it is called in messages
    "weights": "weights",
    "data": "data",
    "preprocessing": "normalization of the images",
    "repair": "repair",
    "number_format": "number format",
}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def about() -> dict[str, str]:
    """Return what computes here: commit of the package, processor, threads and number format."""
    return {
        "commit": _commit(Path(prune_gym.__file__).parents[1]),
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "number format": number_format(),
    }


def number_format(device: torch.device = CPU) -> str:
    """Return the number format that candidates are scored in on a device."""
    name = str(fast_dtype(device)).removeprefix("torch.")
    return name if device.type == CPU.type else f"{name} on {device.type}"


def provenance(evaluator: Evaluator) -> dict[str, str]:
    """Return what decides the accuracies of an evaluator, large parts of it as checksums."""
    data = evaluator.data
    digest = hashlib.sha256()
    for array in tree_leaves([*vars(data.search).values(), evaluator.images]):
        digest.update(np.ascontiguousarray(array).data)
    importance = hashlib.sha256()
    for name, factors in sorted(evaluator.importance.items()):
        importance.update(name.encode())
        for factor in factors:
            importance.update(factor.numpy().tobytes())
    return {
        "weights": evaluator.checksum,
        "data": digest.hexdigest()[:24],
        "preprocessing": f"mean {list(data.mean)}, standard deviation {list(data.std)}",
        "repair": evaluator.repair
        + (f", weights ranked by {importance.hexdigest()[:24]}" if evaluator.importance else ""),
        "number_format": number_format(evaluator.device),
    }


def differing(before: Mapping[str, Any], evaluator: Evaluator) -> list[str]:
    """Return what is not as it was when ``before`` was recorded, in words.

    What an older version did not record is not compared.
    """
    now = provenance(evaluator)
    return [
        f"{called} ({before[name]} then, {now[name]} now)"
        for name, called in DECIDES.items()
        if name in before and before[name] != now[name]
    ]


def _commit(checkout: Path) -> str:
    """Return the commit of a checkout, with "+changes" where files differ from it, else ""."""
    if not (checkout / ".git").exists():
        return ""

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return ""  # no git here, or it does not trust the folder
