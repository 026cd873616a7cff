"""Critics with one value per objective, and TD3's policy with them."""

from typing import Any

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.td3.policies import TD3Policy
from torch import nn


class VectorCritic(ContinuousCritic):
    """Critics that return one value per objective, each ``(batch, reward_dim)``."""

    def __init__(self, *args: Any, reward_dim: int, **kwargs: Any) -> None:
        """Take ``reward_dim`` beside SB3's arguments."""
        super().__init__(*args, **kwargs)
        arch, activation = kwargs["net_arch"], kwargs["activation_fn"]
        inputs = kwargs["features_dim"] + get_action_dim(self.action_space)
        self.q_networks = []
        for index in range(self.n_critics):
            network = nn.Sequential(*create_mlp(inputs, reward_dim, arch, activation))
            self.add_module(f"qf{index}", network)
            self.q_networks.append(network)


class EnvelopePolicy(TD3Policy):
    """TD3's actor and a vector critic."""

    def __init__(self, *args: Any, reward_dim: int, **kwargs: Any) -> None:
        """Take ``reward_dim`` beside SB3's arguments."""
        self._reward_dim = reward_dim
        super().__init__(*args, **kwargs)

    def make_critic(self, features_extractor=None) -> VectorCritic:
        """Return the critics."""
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return VectorCritic(**kwargs, reward_dim=self._reward_dim).to(self.device)

    def set_training_mode(self, mode: bool) -> None:
        """Do nothing: no layer depends on the mode, which SB3 sets twice a step."""

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"reward_dim": self._reward_dim}
