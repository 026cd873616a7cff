"""Wrappers: scalar views of the vector reward, for agents that know only scalars."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from prune_gym.errors import UserError
from prune_gym.objectives.objective import weights_array
from prune_gym.objectives.preferences import balanced, concentration


class ScalarReward(gym.Wrapper, RecordConstructorArgs):
    """The reward as one Python float: the weighted sum of the vector.

    ``info["vector_reward"]`` holds the vector and ``info["weights"]`` a copy of the weights.

    Example:
        >>> import gymnasium as gym, prune_gym
        >>> from prune_gym.envs.wrappers import ScalarReward
        >>> env = ScalarReward(gym.make("ChannelPrune-VGG16-v0"), {"accuracy": 0.7, "flops": 0.3})
    """

    def __init__(
        self, env: gym.Env, weights: Mapping[str, float] | Sequence[float] | None = None
    ) -> None:
        """Wrap a vector environment.

        Args:
            env: an environment with ``objectives``.
            weights: one per objective, in order or by name (the rest weigh 0); they are scaled to
                sum to 1. None: half for accuracy, the other half shared by the costs.

        Raises:
            UserError: an unknown objective, a wrong number of weights, or a negative one; or the
                reward is scalar already.
        """
        _require_vector(env)
        RecordConstructorArgs.__init__(
            self, weights=dict(weights) if isinstance(weights, Mapping) else weights
        )
        gym.Wrapper.__init__(self, env)
        self.reward_space = _scalar_space()
        names = [objective.name for objective in env.get_wrapper_attr("objectives")]
        self._weights = weights_array(balanced(names) if weights is None else weights, names)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Step and weigh the reward."""
        obs, vector, terminated, truncated, info = self.env.step(action)
        reward = float(self._weights @ np.asarray(vector, dtype=np.float64))
        info = {**info, "vector_reward": np.array(vector), "weights": self._weights.copy()}
        return obs, reward, terminated, truncated, info

    def action_masks(self) -> np.ndarray:
        """Return the discrete actions that the budgets allow (for MaskablePPO)."""
        return self.env.get_wrapper_attr("action_masks")()


class PreferenceConditioned(gym.Wrapper, RecordConstructorArgs):
    """A scalar reward for a preference that is drawn for each episode and is observed.

    The preference (non-negative weights that sum to 1) is appended to the observation. It is drawn
    from a Dirichlet distribution around the priorities; ``reset(options={"preference": weights})``
    sets it instead. ``info["vector_reward"]`` holds the vector.
    """

    def __init__(self, env: gym.Env, priorities: Mapping[str, float] | None = None) -> None:
        """Wrap a vector environment.

        Args:
            env: an environment with ``objectives`` and a flat Box observation.
            priorities: mean weight by objective, scaled to sum to 1; those not named get (almost)
                none. Default: half for accuracy, the other half shared by the costs.

        Raises:
            UserError: an unknown objective, a negative priority, or all zero; or the reward is
                scalar already.
        """
        _require_vector(env)
        RecordConstructorArgs.__init__(self, priorities=dict(priorities) if priorities else None)
        gym.Wrapper.__init__(self, env)
        self.reward_space = _scalar_space()
        self.names = [o.name for o in env.get_wrapper_attr("objectives")]
        self.concentration = concentration(self.names, priorities)
        inner = env.observation_space
        assert isinstance(inner, spaces.Box) and len(inner.shape) == 1
        k = len(self.names)
        self.observation_space = spaces.Box(
            np.append(inner.low, np.zeros(k, np.float32)),
            np.append(inner.high, np.ones(k, np.float32)),
            dtype=np.float32,
        )
        self._preference = np.full(k, 1 / k)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode with a fresh preference, or with ``options["preference"]``.

        Raises:
            UserError: the preference is none over these objectives, or another option is unknown.
        """
        others = dict(options or {})
        given = "preference" in others
        preference = weights_array(others.pop("preference"), self.names) if given else None
        obs, info = self.env.reset(seed=seed, options=others)
        if preference is not None:
            self._preference = preference
        else:
            self._preference = self.np_random.dirichlet(self.concentration)
        return self._extend(obs), {**info, "preference": self._preference.copy()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Step and weigh the reward by the episode's preference."""
        obs, vector, terminated, truncated, info = self.env.step(action)
        reward = float(self._preference @ np.asarray(vector, dtype=np.float64))
        info = {**info, "vector_reward": np.array(vector), "preference": self._preference.copy()}
        return self._extend(obs), reward, terminated, truncated, info

    def action_masks(self) -> np.ndarray:
        """Return the discrete actions that the budgets allow (for MaskablePPO)."""
        return self.env.get_wrapper_attr("action_masks")()

    def _extend(self, obs: np.ndarray) -> np.ndarray:
        return np.append(obs, self._preference).astype(np.float32)


def _scalar_space() -> spaces.Box:
    """Return the bounds of one number as the reward, for libraries that ask (such as TorchRL)."""
    return spaces.Box(-1.0, 1.0, (), np.float32)


def _require_vector(env: gym.Env) -> None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, ScalarReward | PreferenceConditioned):
            raise UserError(
                "the environment's reward is scalar already; take the id without -Scalar, and one "
                "of ScalarReward and PreferenceConditioned"
            )
        env = env.env
