"""Which action space an agent needs."""

import gymnasium as gym
from gymnasium import spaces

from prune_gym.errors import UserError


def require_actions(env: gym.Env, kind: type[spaces.Space], agent: str) -> None:
    """Raise ``ValueError`` where the environment's actions are not of the kind an agent needs."""
    if isinstance(env.action_space, kind):
        return
    wants = "discrete actions" if kind is spaces.Discrete else "continuous actions"
    hint = "with" if kind is spaces.Discrete else "without"
    spec = env.unwrapped.spec
    raise UserError(
        f"{agent} needs {wants}; {spec.id if spec else 'this environment'} has "
        f"{env.action_space}: take the id {hint} -Discrete (`prune-gym envs` lists them)"
    )
