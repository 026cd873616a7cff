"""What this package, and Torch-Pruning, make of one network."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from zoo_networks import built

from prune_gym.compression.verify import largest_error
from prune_gym.datasets.normalize import normalize
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.make import compression_env
from prune_gym.graph.explain import explain
from prune_gym.graph.layer_types import Convolution

EXACT = {torch.float64: 1e-9, torch.float32: 1e-3}
HALF = 0.5


def checked(name: str) -> Iterator[dict[str, Any]]:
    """Yield what is found of a network; every verdict but the last says what is tried next."""
    yield {"verdict": "not built"}
    network, data = built(name)
    yield {"verdict": "refused"}
    env = compression_env(network, data, latency=None, round_to=1)
    shares = explain(env.problem.evaluator.table)
    yield {
        "verdict": "not compared",
        "parameters": shares.parameters,
        "multiply_adds": shares.multiply_adds,
        "groups": len(shares.groups),
    }
    exact, about = compared(env)
    yield {"verdict": "no episode" if exact else "wrong", "about": about}
    if not exact:
        return
    info = episode(env)
    yield {"verdict": "other costs"}
    uncounted = sum(count for _, count in shares.uncounted)
    images = env.problem.evaluator.images[:1]
    found = costs_of(env.problem.apply(info["strategy"]), images)
    claimed = info["params"], info["flops"] + uncounted
    if found != claimed:
        yield {"about": f"{claimed} is claimed, {found} found: parameters and multiply-adds"}
        return
    yield {"verdict": "not reproduced"}
    claims = env.problem.validate(info["strategy"]).claims
    if all(claim.reproduced for claim in claims):
        yield {"verdict": "accepted"}
    else:
        yield {"about": ", ".join(f"{c.name} {c.claimed}: {c.found}" for c in claims)}


def compared(env: CompressionEnv) -> tuple[bool, str]:
    """Return whether a cut to random widths is exact, and by how much it is wrong."""
    evaluator, rng = env.problem.evaluator, np.random.default_rng(0)
    network, table, images = evaluator.network, evaluator.table, evaluator.images[:2]
    kept = [
        np.sort(rng.permutation(group.size)[: rng.integers(1, group.size + 1)])
        for group in table.groups
    ]
    error, dtype = largest_error(network, table, kept, images)
    exact = error < EXACT[dtype] or error < 10 * of_rounding(network, images, dtype)
    return exact, f"error {error:.0e}" + (" in float32" if dtype is torch.float32 else "")


@torch.no_grad()
def of_rounding(network: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> float:
    """Return how much rounded images change the largest output: much in some untrained networks."""
    if not images.is_floating_point():
        return 0.0
    images, least = images.to(dtype), 4 * torch.finfo(dtype).eps
    network = network.to(dtype)
    one, other = (tree_leaves(network(images * scale))[0] for scale in (1, 1 + least))
    network.float()
    return float((one - other).abs().max() / one.abs().max())


def episode(env: CompressionEnv) -> dict[str, Any]:
    """Play an episode of random actions and return its last info."""
    env.reset(seed=0)
    env.action_space.seed(0)
    terminated = False
    while not terminated:
        _, _, terminated, _, info = env.step(env.action_space.sample())
    return info


@torch.no_grad()
def costs_of(network: nn.Module, images: torch.Tensor) -> tuple[int, float]:
    """Return parameters and multiply-adds of a network, counted in the module and as it runs."""
    network = copy.deepcopy(network).requires_grad_(False)  # else the counter follows gradients
    parameters = sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(images)
    return parameters, counter.get_total_flops() / 2


def rival(name: str) -> Iterator[dict[str, Any]]:
    """Yield what Torch-Pruning makes of a network when it is asked for half of all channels."""
    yield {"verdict": "no"}
    import torch_pruning

    network, data = built(name)
    images = normalize(data.train.images[:1], data).contiguous()
    whole, shapes = costs_of(network, images), shapes_of(network, images)
    classes = {shape[1] for shape in shapes}
    ends = [m for m in network.modules() if width_of(m) in classes]
    attention = [m for m in network.modules() if has_heads(m)]
    pruner = torch_pruning.pruner.BasePruner(
        network,
        images,
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=HALF,
        ignored_layers=ends,
        num_heads={m.qkv: m.num_heads for m in attention},
    )
    pruner.step()
    for each in attention:  # here and below, as its examples do
        each.num_heads = pruner.num_heads[each.qkv]
        each.attn_dim = each.qkv.out_features // 3
        each.head_dim = each.attn_dim // each.num_heads
    if isinstance(getattr(network, "conv_proj", None), Convolution):  # torchvision's ViT
        network.hidden_dim = network.conv_proj.out_channels
    if shapes_of(network, images) != shapes:
        yield {"about": "the outputs have another shape"}
        return
    left = costs_of(network, images)
    if left[0] >= whole[0]:
        yield {"about": "nothing is cut"}
        return
    parameters, multiply_adds = (1 - here / there for here, there in zip(left, whole, strict=True))
    yield {"verdict": "taken", "parameters": parameters, "multiply_adds": multiply_adds}


def has_heads(module: nn.Module) -> bool:
    """Return whether a module is timm's attention, of which Torch-Pruning is told the heads."""
    return isinstance(getattr(module, "qkv", None), nn.Linear) and hasattr(module, "head_dim")


def width_of(module: nn.Module) -> int | None:
    """Return how many channels a layer with weights writes."""
    known = isinstance(module, Convolution | nn.Linear)
    return len(module.weight) if known else None


@torch.no_grad()
def shapes_of(network: nn.Module, images: torch.Tensor) -> list[torch.Size]:
    """Return the shapes of a network's outputs."""
    outputs = tree_leaves(network(images))
    return [output.shape for output in outputs if isinstance(output, torch.Tensor)]
