"""The controller of ABCP: an LSTM that samples block choices and channel ratios jointly.

After ``general_controller`` of the code of "ABCP: Automatic Block-wise and Channel-wise Network
Pruning via Joint Search" (arXiv 2110.03858): one layer of 64 units, a learned first input, uniform
initial weights, the choice just made as the next input.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prune_gym.search_space import Decision

HIDDEN, BINS = 64, 10
INITIAL = 0.1  # weights are uniform in +-INITIAL
SLOPE = 1.5  # bounds means, by SLOPE * tanh, and the logits of keep and skip, each by as much
LEAST, MOST = 0.05, 0.5  # standard deviation of an action in [-1, 1]


class Sampled(NamedTuple):
    """One decision: the action in [-1, 1] and, of this very sample, log-probability and entropy."""

    action: float
    log_probability: Tensor
    entropy: Tensor


class Memory(NamedTuple):
    """What the controller knows of the episode so far: its next input and the LSTM's state."""

    input: Tensor
    state: tuple[Tensor, Tensor] | None


class Controller(nn.Module):
    """Samples the decisions of an episode one after another.

    Whether a block stays is drawn from a Bernoulli distribution, every other action from a normal
    one. Numbers beyond [-1, 1] are meant as the nearest end, as the environment takes them; their
    log-probability is that of the number drawn.
    """

    def __init__(self, decisions: Sequence[Decision], seed: int) -> None:
        """Make a controller for an environment's decisions; ``seed`` is of all its randomness."""
        super().__init__()
        self._is_block = [decision.kind == "block" for decision in decisions]
        self._rng = torch.Generator().manual_seed(seed)
        self.place = nn.Embedding(len(decisions), HIDDEN)
        self.chosen_block, self.chosen_ratio = nn.Embedding(2, HIDDEN), nn.Embedding(BINS, HIDDEN)
        self.first = nn.Parameter(torch.empty(HIDDEN))
        self.cell = nn.LSTMCell(HIDDEN, HIDDEN)
        self.block, self.ratio = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-INITIAL, INITIAL, generator=self._rng)

    def start(self) -> Memory:
        """Return the memory at the start of an episode."""
        return Memory(self.first, None)

    def sample(self, index: int, memory: Memory) -> tuple[Sampled, Memory]:
        """Sample decision ``index``, given what was sampled before it in this episode."""
        state = self.cell((memory.input + self.place.weight[index])[None], memory.state)
        sample = self._sample_block if self._is_block[index] else self._sample_ratio
        sampled, chosen = sample(state[0][0])
        return sampled, Memory(chosen, state)

    def _sample_block(self, hidden: Tensor) -> tuple[Sampled, Tensor]:
        keeps = torch.distributions.Bernoulli(logits=2 * SLOPE * self.block(hidden)[0].tanh())
        drawn = torch.bernoulli(keeps.probs.detach(), generator=self._rng)
        sampled = Sampled(2 * float(drawn) - 1, keeps.log_prob(drawn), keeps.entropy())
        return sampled, self.chosen_block.weight[int(drawn)]

    def _sample_ratio(self, hidden: Tensor) -> tuple[Sampled, Tensor]:
        mean, width = self.ratio(hidden)
        normal = torch.distributions.Normal(
            SLOPE * mean.tanh(), LEAST + (MOST - LEAST) * width.sigmoid()
        )
        drawn = torch.normal(normal.mean.detach(), normal.stddev.detach(), generator=self._rng)
        action = min(max(float(drawn), -1.0), 1.0)
        chosen = self.chosen_ratio.weight[min(int((action + 1) / 2 * BINS), BINS - 1)]
        return Sampled(action, normal.log_prob(drawn), normal.entropy()), chosen
