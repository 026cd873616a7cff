"""Weights that a layer computes from others: weight norm, spectral norm, pruning masks."""

from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def make_weights_plain(network: nn.Module) -> None:
    """Replace weights that are computed by what they are in eval mode, in place.

    Surgery cuts plain weights alone. These are the weights of ``torch.nn.utils.parametrize``, of
    the older ``weight_norm`` and ``spectral_norm``, and of the masks of ``torch.nn.utils.prune``.
    The network must be in eval mode, in which spectral norm takes no step.
    """
    for module in [*network.modules()]:
        if parametrize.is_parametrized(module):
            _remove_parametrizations(module)
        for hook in [*module._forward_pre_hooks.values()]:
            if isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)


def _remove_parametrizations(module: nn.Module) -> None:
    """Do what ``remove_parametrizations`` does, which also changes the class that copies share."""
    lists: Any = module.parametrizations
    values = {name: getattr(module, name).detach().clone() for name in lists}
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        originals = [*lists[name].parameters(recurse=False)]
        if originals:
            is_trained = any(each.requires_grad for each in originals)
            module.register_parameter(name, nn.Parameter(value, is_trained))
        else:
            module.register_buffer(name, value)
