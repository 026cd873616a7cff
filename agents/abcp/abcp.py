"""ABCP: an LSTM controller that samples a whole strategy, taught by REINFORCE.

After "ABCP: Automatic Block-wise and Channel-wise Network Pruning via Joint Search" (arXiv
2110.03858, IEEE TCDS 2023). A strategy is sampled decision by decision
(`prune_gym.agents.abcp.controller.Controller`) and its controller is taught by

    loss = -(R - b) * sum log p(sample) - c * sum H,      b <- b + (1 - d) (R - b)

where R is the weighted sum of the episode's return and the log-probability is that of the very
sample that was scored. docs/abcp.md has the departures, and what the published code does instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor

from prune_gym.agents.abcp.controller import Controller
from prune_gym.agents.common.action_spaces import require_actions
from prune_gym.agents.common.api import Settings, problem_of
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.rollout import play
from prune_gym.agents.common.sb3_training import descend
from prune_gym.errors import UserError
from prune_gym.objectives.objective import weights_array
from prune_gym.objectives.preferences import balanced
from prune_gym.search_space import Decision

LEARNING_RATE = 3e-3
DECAY = 0.9  # of the baseline
ENTROPY = 1e-4


class Episode(NamedTuple):
    """One sampled episode: its return ``(reward_dim,)``, and log p and entropy summed over it."""

    total: np.ndarray
    log_probability: Tensor
    entropy: Tensor


class ABCP:
    """The agent.

    Attributes:
        controller: what samples the strategies.
        baseline: moving average of the rewards.
    """

    def __init__(self, controller: Controller, baseline: float) -> None:
        """Take a controller and what the first rewards are compared with."""
        self.controller, self.baseline = controller, baseline
        self._optimizer = torch.optim.Adam(controller.parameters(), lr=LEARNING_RATE)

    def play(self, env: gym.Env) -> Episode:
        """Play one sampled episode; decisions in skipped blocks are neither made nor counted."""
        core: Any = env.unwrapped
        env.reset()
        memory = self.controller.start()
        total = np.zeros(core.reward_dim)
        terminated, log_probabilities, entropies = False, [], []
        while not terminated:
            index = core.next_decision
            sampled, memory = self.controller.sample(index, memory)
            action = np.array([sampled.action], dtype=np.float32)
            _, reward, terminated, _, _ = env.step(action)
            total += np.asarray(reward)
            log_probabilities.append(sampled.log_probability)
            entropies.append(sampled.entropy)
        return Episode(total, torch.stack(log_probabilities).sum(), torch.stack(entropies).sum())

    def learn(self, played: Episode, reward: float, logger: Logger) -> None:
        """Make the sample that was scored more likely if it was better than the baseline."""
        advantage = reward - self.baseline
        loss = -advantage * played.log_probability - ENTROPY * played.entropy
        descend(self._optimizer, loss)
        self.baseline += (1 - DECAY) * advantage
        logger.record("train/loss", loss.item())
        logger.record("train/baseline", self.baseline)
        logger.record("train/entropy", played.entropy.item())
        logger.dump()

    def save(self, path: Path) -> None:
        """Write the controller's weights and the baseline."""
        torch.save({"controller": self.controller.state_dict(), "baseline": self.baseline}, path)

    @classmethod
    def load(cls, path: Path, decisions: Sequence[Decision], seed: int) -> "ABCP":
        """Return the agent in a file, for the decisions of its environment.

        Raises:
            UserError: it was taught on an episode of other length.
        """
        state = torch.load(path, weights_only=True)
        places = len(state["controller"]["place.weight"])
        if places != len(decisions):
            raise UserError(
                f"{path} is of an environment of {places} decisions, this one has {len(decisions)}"
            )
        agent = cls(Controller(decisions, seed), state["baseline"])
        agent.controller.load_state_dict(state["controller"])
        return agent


def search(env: gym.Env, settings: Settings) -> ABCP:
    """Play the initial design, which sets the baseline, and learn from every episode after it.

    Raises:
        UserError: the environment has discrete actions, or an unknown objective has a priority.
    """
    require_actions(env, gym.spaces.Box, "abcp")
    problem = problem_of(env)
    names = [o.name for o in problem.objectives]
    weights = weights_array(settings.priorities or balanced(names), names)
    decisions = problem.decisions
    strategies = initial_design(settings.episodes, len(decisions), settings.seed)
    returns = [
        play(env, actions, settings.seed if episode == 0 else None)[0]
        for episode, actions in enumerate(strategies)
    ]
    agent = ABCP(Controller(decisions, settings.seed), float(np.mean(returns @ weights)))
    for _ in range(settings.episodes - len(strategies)):
        played = agent.play(env)
        agent.learn(played, float(weights @ played.total), settings.logger)
    return agent
