"""What an agent may decide, within which budgets: decisions, search space, budgets, strategies."""

from prune_gym.search_space.decision import Decision
from prune_gym.search_space.kinds import KINDS, DecisionKind, SpaceOptions, register_kind
from prune_gym.search_space.space import SearchSpace, make_decisions
from prune_gym.search_space.strategy import Strategy, load_strategy

__all__ = [
    "KINDS",
    "Decision",
    "DecisionKind",
    "SearchSpace",
    "SpaceOptions",
    "Strategy",
    "load_strategy",
    "make_decisions",
    "register_kind",
]
