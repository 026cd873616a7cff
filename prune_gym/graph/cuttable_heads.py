"""Attention whose code cannot have fewer heads, put into a form that can."""

from torch import nn

from prune_gym.graph import window_attention
from prune_gym.graph.multihead_attention import CuttableAttention, is_special
from prune_gym.graph.shared_weights import find_aliases


def make_heads_cuttable(network: nn.Module) -> None:
    """Replace attention in a network, in place, by modules that compute the same and can be cut.

    That is ``nn.MultiheadAttention`` and torchvision's attention in windows. Those that are shared,
    that add tokens, or whose keys or values have another width stay.
    """
    kept = find_aliases(network)
    for name, module in [*network.named_modules()]:
        cuttable = _cuttable(module) if name else None
        if cuttable and not any(each == name or each.startswith(f"{name}.") for each in kept):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, cuttable)


def _cuttable(module: nn.Module) -> nn.Module | None:
    """Return what computes the same with any number of heads; None where nothing does."""
    if type(module) is nn.MultiheadAttention and not is_special(module):
        return CuttableAttention(module)
    return window_attention.cuttable(module)
