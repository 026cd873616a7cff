"""Make the optimizer of a recipe."""

import torch
from torch import nn

from prune_gym.training.recipe import TrainingRecipe


def make_optimizer(network: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe over all parameters of a network.

    AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) decays the weights of layers alone: no bias,
    no scale of a norm and no position embedding, which decay draws away from what they stand for.
    """
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        )
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_weight = name.rpartition(".")[2] == "weight" and parameter.ndim > 1
        (decayed if is_weight else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999))
