"""Copy the user's network as evaluators need it, and refuse what cannot be copied."""

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from prune_gym._utils.device import to_dtype
from prune_gym.errors import UserError, first_line
from prune_gym.graph.layer_types import is_of_torch
from prune_gym.graph.unwrap import unwrap_compiled, unwrapped


def copy_network(network: nn.Module) -> nn.Module:
    """Return a copy of the plain network on the processor: float32, eval mode, no gradients.

    Its memory is in PyTorch's own order, also where the network was trained channels-last.

    Raises:
        UserError: it cannot be copied, or its weights have no numbers.
    """
    network = unwrapped(network)
    _check_weights(network)
    # PyTorch copies no result of a computation, such as what a pruning mask last made of a weight.
    values = (each for module in network.modules() for each in tree_leaves(vars(module)))
    results = [each for each in values if torch.is_tensor(each) and each.grad_fn is not None]
    try:
        plain = copy.deepcopy(network, {id(each): each.detach().clone() for each in results})
    except Exception as error:  # whatever an attribute raises that cannot be copied
        raise UserError(
            f"{type(network).__name__} cannot be copied ({first_line(error)}): "
            "copy.deepcopy(network) must work; keep locks, open files and generators out of its "
            "attributes"
        ) from error
    unwrap_compiled(plain)
    plain = to_dtype(plain.cpu(), torch.float32).eval().requires_grad_(False)
    return plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _check_weights(network: nn.Module) -> None:
    """Refuse a network whose weights cannot be read, and say what to do."""
    kind = type(network).__name__
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(
                f"{f'{kind}: {name!r}' if name else kind} is a TorchScript module, whose layers "
                "cannot be cut: take the nn.Module that it was made from in its place"
            )
        if ".quantized." in type(module).__module__ and is_of_torch(module):
            raise UserError(
                f"{kind}: {name!r} holds integers that PyTorch packed, which cannot be cut: give "
                "the network as it was before it was quantized"
            )
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if is_lazy(value):
            raise UserError(
                f"{kind}: {name!r} has no shape yet: run the network on a batch of images once, "
                "and train it"
            )
        if value.is_meta:
            raise UserError(
                f"{kind}: {name!r} is on the meta device and has no numbers: load the trained "
                "weights first"
            )
