"""Pruned networks on disk: safetensors with the recipe to rebuild them in the header; no pickle."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from prune_gym import models
from prune_gym.models.weights_file import load_weights
from prune_gym.network.surgery import cut, first_channels
from prune_gym.network.trace import trace
from prune_gym.paths import write_atomically

FORMAT = "prune-gym-network-1"


def save_network(
    network: nn.Module,
    path: Path,
    *,
    name: str,
    num_classes: int,
    widths: Mapping[str, int],
    input_shape: tuple[int, int, int] = (3, 32, 32),
) -> None:
    """Write a pruned network's float32 weights and the recipe to rebuild it.

    Args:
        network: what ``env.apply(strategy)`` returned.
        path: the safetensors file.
        name: the original network's name in ``prune_gym.models.NETWORKS``, or any for one's own.
        num_classes: what it was built with.
        widths: the strategy's kept channels by group.
        input_shape: (C, H, W) of an image.
    """
    recipe = {
        "format": FORMAT,
        "network": name,
        "num_classes": str(num_classes),
        "widths": json.dumps(dict(widths)),
        "input_shape": json.dumps(list(input_shape)),
    }
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    write_atomically(Path(path), save(state, recipe))


def load_network(path: str | Path, build: Callable[[int], nn.Module] | None = None) -> nn.Module:
    """Rebuild a pruned network from its file, in eval mode.

    Args:
        path: what :func:`save_network` (or ``prune-gym apply``) wrote.
        build: for a network of one's own, the function that builds the original for a number of
            classes; by default the recipe's name is looked up.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `prune-gym apply` writes pruned networks")
    try:
        with safe_open(path, framework="pt") as file:
            recipe = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error})") from None
    if recipe.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected format {FORMAT!r} in the header, got {recipe.get('format')!r}"
        )
    classes = int(recipe["num_classes"])
    original = build(classes) if build else models.build(recipe["network"], classes)
    table = trace(original.eval(), tuple(json.loads(recipe["input_shape"])))
    network = cut(original, table, first_channels(table, json.loads(recipe["widths"])))
    load_weights(network, path)
    return network.eval()
