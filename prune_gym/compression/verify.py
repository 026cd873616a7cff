"""Does a network that was traced really run as its table says, once it is cut?"""

from functools import partial
from typing import Any

import torch
from torch import nn

from prune_gym.compression.surgery import cut, first_channels
from prune_gym.errors import UnsupportedLayerError, UserError, first_line
from prune_gym.graph.layer_table import LayerTable

IMAGES = 2


def count_classes(outputs: Any) -> int:
    """Return how many classes a network's outputs are of.

    Raises:
        UserError: it is no classifier.
    """
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        raise UserError("expected a classifier: images (N, C, H, W) -> logits (N, classes)")
    return outputs.shape[1]


@torch.inference_mode()
def check_cut(network: nn.Module, table: LayerTable, images: torch.Tensor) -> None:
    """Cut half of all channels away, run what is left and compare it with the table.

    Args:
        network: the original, in eval mode.
        table: its layer table.
        images: normalized, as the search gives them to candidates (N, C, H, W).

    Raises:
        UserError: a layer is never used, the cut network does not run, or one of its layers has
            another size than the table says.
    """
    known = {layer.name for layer in table.layers}
    for name, module in network.named_modules():
        if name not in known and next(module.parameters(recurse=False), None) is not None:
            raise UnsupportedLayerError(name, "never used in eval mode: delete it from the network")
    widths = (table.full + 1) // 2
    candidate = cut(network, table, first_channels(table, widths))
    found: dict[str, int] = {}

    def note(name: str, module: nn.Module, _: tuple, output: torch.Tensor) -> None:
        found[name] = module.get_parameter("weight").numel() * output[0, 0].numel()

    names = [table.layers[index].name for index in table.weighted]
    for name in names:
        candidate.get_submodule(name).register_forward_hook(partial(note, name))
    kind = type(network).__name__
    try:
        candidate(images[:IMAGES])
    except Exception as error:  # whatever its forward raises
        raise UserError(
            f"{kind} runs, but not with half of its channels ({first_line(error)}): is a number of "
            "channels, or of images, written in its forward?"
        ) from error
    expected = table.weights(table.configuration(widths[None]))[0] * table.weighted_pixels
    for name, count in zip(names, expected, strict=True):
        if found.get(name) != count:
            raise UnsupportedLayerError(
                name, f"{found.get(name, 0):,} multiply-adds when cut, expected {count:,.0f}"
            )
