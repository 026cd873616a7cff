"""Variations of strategies, and their reduction to the budgets."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_gym.agents.common.candidates import VARIATIONS, mutate, repair_to_budget

ID = "ChannelPrune-Table-v0"


@pytest.fixture(scope="module")
def env():
    """An environment that forbids most strategies."""
    return gym.make(ID, budgets={"flops": 0.3}).unwrapped


@pytest.fixture(scope="module")
def everything():
    """The values of all strategies, also of those over the budget."""
    return gym.make(ID).unwrapped.strategies()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_reduction_takes_away_only_and_only_from_what_is_over(env, everything, seed):
    rng = np.random.default_rng(seed)
    values = everything[rng.integers(len(everything), size=50)]
    over = ~env.problem.feasible(values)
    found = repair_to_budget(env.problem, values, rng)
    assert (found[~over] == values[~over]).all() and (found <= values).all()
    for column, decision in enumerate(env.problem.decisions):
        assert np.isin(found[:, column], decision.options).all()


def test_reductions_succeed_and_use_what_the_budget_leaves(env, everything):
    over = everything[~env.problem.feasible(everything)]
    found = repair_to_budget(env.problem, over, np.random.default_rng(0))
    assert env.problem.feasible(found).all()
    spent = 1 - env.problem.savings(found)[:, [o.name for o in env.objectives].index("flops")]
    assert np.median(spent) > 0.2  # of the 0.3 that are allowed


def test_variations_of_what_just_meets_a_budget_meet_it(env, everything):
    flops = [o.name for o in env.objectives].index("flops")
    within = everything[env.problem.feasible(everything)]
    parents = within[env.problem.savings(within)[:, flops].argsort()[:20]]
    children = mutate(env.problem, parents, np.random.default_rng(0))
    assert children.shape == (VARIATIONS, len(env.problem.decisions))
    assert env.problem.feasible(children).all()
    assert len(np.unique(children, axis=0)) > 50
