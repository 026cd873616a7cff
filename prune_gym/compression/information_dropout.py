"""Learn how much information a channel carries: variational pruning by information dropout.

The output y of every layer is multiplied by log-normal noise, ``y * exp(alpha(y) * n)``, with n
standard normal. The strength ``alpha(y) = MAX_ALPHA * sigmoid(slope * y + offset)`` is learned per
channel and depends on y. The loss is cross-entropy plus ``beta`` times ``-log(alpha / MAX_ALPHA)``,
the information that passes the noise in nats per element, under a log-uniform prior (Achille and
Soatto 2018, "Information Dropout", arXiv 1611.01353, sections 4 and 5). The weights of the network
do not change. Where strong noise does no harm, little information passes, and the weights can be
pruned. This is the element-wise variational pruning of Zhan, Lin & Cao (arXiv 1912.02254), as far
as the abstract tells: the body of the paper is not public.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from prune_gym._utils.device import fast_forward, outside_contexts
from prune_gym.compression.calibration import Calibration
from prune_gym.graph.inputs import Tensors, feed
from prune_gym.graph.layer_table import LayerTable

MAX_ALPHA = 0.7  # as in the code of the information dropout paper
BETA = 0.1
STEPS, BATCH_SIZE, LEARNING_RATE = 160, 32, 0.1


@outside_contexts
def learn_information(
    network: nn.Module, table: LayerTable, images: Tensors, labels: torch.Tensor, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return the information that each channel carries, in nats per element.

    Args:
        network: the trained network, in eval mode; it is not changed.
        table: its layer table.
        images: normalized training images (N, C, H, W).
        labels: their classes, int64 (N,).
        seed: seed of the noise and of the order of images.

    Returns:
        layer with weights, without the last one -> ``float32 (outputs,)``.
    """
    follows = {layer.follows: layer.name for layer in table.layers if layer.follows}
    names = noisy_layers(table)
    outputs = table.outputs(table.full[None])[0][list(table.weighted)].astype(int)
    noises = {
        name: _Noise(int(count)).to(images.device)
        for name, count in zip(names, outputs, strict=False)
    }
    handles = [
        network.get_submodule(follows.get(name, name)).register_forward_hook(noise)
        for name, noise in noises.items()
    ]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _learn(network, list(noises.values()), images, labels)
    finally:
        for handle in handles:
            handle.remove()
    return {name: noise.average().cpu().numpy() for name, noise in noises.items()}


def noisy_layers(table: LayerTable) -> list[str]:
    """Return the names of the layers with noise: all with weights except the last, the output."""
    return [table.layers[index].name for index in table.weighted][:-1]


def importance(
    information: Mapping[str, np.ndarray], calibration: Calibration
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return factors of the magnitudes of weights, per output and per input channel of a layer.

    The importance of a weight is its energy ``w^2 E[x^2]`` times the information of its output
    channel; the factors are the square roots.
    """
    factors = {}
    for name, carried in information.items():
        outputs = torch.from_numpy(carried).clamp_min(1e-6).sqrt()
        moment = calibration.moments.get(name)  # None: the layer reads the images
        sizes = np.ones(1, np.float32) if moment is None else _sizes_of_inputs(moment)
        inputs = torch.from_numpy(sizes)
        factors[name] = (outputs, inputs)
    return factors


def _sizes_of_inputs(moment: np.ndarray) -> np.ndarray:
    """Return the root of the energy of every input, ``(inputs,)``, averaged over groups."""
    energies = np.diagonal(moment, axis1=-2, axis2=-1)
    if moment.ndim == 4:  # of each place of a flattened map
        return np.sqrt(energies[:, 0].T.ravel())
    return np.sqrt(energies.reshape(-1, energies.shape[-1]).mean(0))


def _learn(
    network: nn.Module, noises: list["_Noise"], images: Tensors, labels: torch.Tensor
) -> None:
    optimizer = torch.optim.Adam([p for n in noises for p in n.parameters()], LEARNING_RATE)
    order = torch.randperm(len(images)).repeat(1 + STEPS * BATCH_SIZE // len(images))
    for step in range(STEPS):
        batch = order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]
        with fast_forward(images.device):
            answers = feed(network, images[batch])
        loss = F.cross_entropy(answers.float(), labels[batch])
        passed = torch.stack([noise.passed for noise in noises])
        optimizer.zero_grad()
        (loss + BETA * passed.mean()).backward()
        optimizer.step()


class _Noise(nn.Module):
    """Multiplies a layer's output (N, C, ...) by noise; a forward hook."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(channels, dtype=torch.float32))
        self.offset = nn.Parameter(torch.full((channels,), -2.0, dtype=torch.float32))
        self.passed = torch.zeros(())
        self._seen: list[torch.Tensor] = []

    def forward(self, module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        """Return the noisy output, and keep what information passed."""
        tokens = isinstance(module, nn.Linear) and output.ndim > 2
        shape = (-1,) if tokens else (1, -1) + (1,) * (output.ndim - 2)
        alpha = torch.sigmoid(self.slope.view(shape) * output.float() + self.offset.view(shape))
        information = -alpha.clamp_min(1e-6).log()
        self.passed = information.mean()
        channels = information.detach().movedim(-1 if tokens else 1, 0)
        per_channel = channels.flatten(1).mean(1)
        self._seen = [*self._seen[-(STEPS // 4) :], per_channel]
        return output * torch.exp(MAX_ALPHA * alpha * torch.randn_like(alpha)).to(output.dtype)

    def average(self) -> torch.Tensor:
        """Return the information per channel over the last quarter of the training."""
        return torch.stack(self._seen).mean(0).float()
