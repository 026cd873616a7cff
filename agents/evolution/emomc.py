"""EMOMC: evolution of one density for all layers and the bits of every layer.

After "Evolutionary Multi-Objective Model Compression for Deep Neural Networks" (IEEE Computational
Intelligence Magazine 16(3), 2021, doi 10.1109/MCI.2021.3084393). Its search is fast because it
takes networks that were pruned and retrained beforehand, one per density: ``prune-gym library``
makes them, and an environment made with ``library=FOLDER`` starts its candidates from them. At the
end one takes the knee point, or the most accurate strategy under limits
(`prune_gym.objectives.selection`).
docs/emomc.md has the departures.
"""

import gymnasium as gym

from prune_gym.agents.common.api import Settings
from prune_gym.agents.evolution.operators import evolve
from prune_gym.agents.evolution.survival import rank_and_crowding


def search(env: gym.Env, settings: Settings) -> None:
    """Play ``settings.episodes`` episodes on an environment with continuous actions.

    Raises:
        UserError: the environment has discrete actions.
    """
    evolve(env, settings, rank_and_crowding, "emomc")
