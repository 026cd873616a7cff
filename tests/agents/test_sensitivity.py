"""The agent that plans from sensitivities, and what it plans."""

import gymnasium as gym
import numpy as np
import pytest
from playing import Recorded
from stable_baselines3.common.logger import Logger

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.sensitivity.outlook import Outlook, energy_lost
from prune_gym.agents.sensitivity.plans import plan
from prune_gym.agents.sensitivity.sensitivity import planned
from prune_gym.envs.make import compression_problem
from prune_gym.objectives.pareto import hypervolume

TABLE = "ChannelPrune-Table-v0"
JOINT = "JointPrune-ResNet20-v0"
EVERY_KIND = ("block", "channels", "density", "weight_bits", "activation_bits")


def evaluated(agent, episodes, seed=0, **kwargs):
    """The problem, and the values that an agent evaluates on the table."""
    env = Recorded(gym.make(TABLE, **kwargs))
    find_agent(agent)(env, Settings(episodes, seed, None, Logger(None, [])))
    return env.unwrapped.problem, np.array(env.values)


def found(problem, values):
    return hypervolume(problem.evaluate(values), problem.reference_point)


@pytest.mark.parametrize("seed", range(3))
def test_twenty_planned_strategies_beat_random_ones_and_those_of_many_more_evaluations(seed):
    problem, values = evaluated("sensitivity", 60, seed)
    assert found(problem, values[:20]) > 0.53
    assert found(problem, values) > 0.545
    assert found(problem, values[:20]) > found(*evaluated("random-ratio", 60, seed))


def test_what_is_evaluated_is_what_was_planned_and_each_only_once():
    problem, values = evaluated("sensitivity", 100)
    assert (values == planned(problem, 100, seed=0)).all()
    assert len(np.unique(values, axis=0)) == 100


def test_a_shorter_plan_is_the_beginning_of_a_longer_one():
    problem = gym.make(TABLE).unwrapped.problem
    assert (planned(problem, 10, seed=3) == planned(problem, 60, seed=3)[:10]).all()


def test_planning_evaluates_nothing(tiny_task):
    problem = compression_problem(**tiny_task)
    problem.evaluator.cache.clear()
    assert len(planned(problem, 30, seed=0)) == 30
    assert not problem.evaluator.cache


def test_budgets_hold_for_every_strategy():
    budgets = {"flops": 0.4, "memory": 0.6, "params": 0.3}
    problem, values = evaluated("sensitivity", 40, budgets=budgets)
    assert problem.feasible(values).all() and len(np.unique(values, axis=0)) == 40
    assert found(problem, values) > found(*evaluated("random-ratio", 40, budgets=budgets))


def test_a_budget_that_only_the_smallest_strategy_meets():
    problem = gym.make(TABLE).unwrapped.problem
    least = 1 - problem.savings(problem.space.lower[None])[0, 1]
    problem, values = evaluated("sensitivity", 3, budgets={"flops": least * 1.0001})
    assert (values == problem.space.lower).all()


@pytest.mark.parametrize("budgets", [None, {"flops": 0.5, "size": 0.2}])
def test_every_kind_of_decision_can_be_planned(budgets):
    problem = gym.make(JOINT, decide=EVERY_KIND, budgets=budgets).unwrapped.problem
    values = plan(Outlook(problem), np.random.default_rng(0))
    assert problem.feasible(values).all() and len(np.unique(values, axis=0)) == len(values) > 50
    assert (problem.space.canonicalise(values) == values).all()
    for index, decision in enumerate(problem.decisions):
        assert np.isin(values[:, index], decision.options).all()
    kinds = np.array([decision.kind for decision in problem.decisions])
    varied = np.ptp(values, axis=0) > 0
    assert all(varied[kinds == kind].any() for kind in EVERY_KIND)
    assert (values[:, kinds == "block"] == 0).any()


def test_no_planned_strategy_is_worse_than_another_in_everything_that_is_known():
    outlook = Outlook(gym.make(TABLE).unwrapped.problem)
    values = plan(outlook, np.random.default_rng(0))
    known = np.column_stack([outlook.savings(values), -outlook.lost(values)])
    better = (known[:, None] >= known).all(axis=2) & (known[:, None] > known).any(axis=2)
    assert not better.any()


def test_the_energy_lost_is_what_the_shares_leave():
    space = gym.make(TABLE).unwrapped.problem.space
    values = space.decode(np.random.default_rng(0).uniform(-1, 1, (20, len(space))))
    shares = [
        [d.sensitivity_at(x) for d, x in zip(space.decisions, row, strict=True)] for row in values
    ]
    left = np.prod(1 - np.array(shares), axis=1)
    np.testing.assert_allclose(np.exp(-energy_lost(space, values)), left)
    assert energy_lost(space, space.upper[None]) == 0


def test_decisions_in_a_skipped_block_lose_nothing():
    space = gym.make(JOINT, decide=("block", "channels")).unwrapped.problem.space
    first = [decision.kind for decision in space.decisions].index("block")
    values = space.upper.copy()[None]
    values[0, first] = 0
    share = space.decisions[first].sensitivity[0]
    canonical = space.canonicalise(values)
    assert (canonical != values).any()
    np.testing.assert_allclose(energy_lost(space, canonical), -np.log1p(-min(share, 0.99)))


@pytest.mark.parametrize("objectives", [("accuracy",), ("flops",), ("flops", "params")])
def test_fewer_objectives_can_be_planned(objectives):
    problem, values = evaluated("sensitivity", 12, objectives=objectives)
    best = problem.space.upper if objectives == ("accuracy",) else problem.space.lower
    assert (values[0] == best).all() and len(np.unique(values, axis=0)) == 12


def test_a_latency_that_is_measured_is_not_measured_while_planning(tiny_task, monkeypatch):
    task = tiny_task | {"latency": "measured", "objectives": ("accuracy", "latency")}
    problem = compression_problem(**task)
    monkeypatch.setattr(type(problem.costs["latency"]), "__call__", None)
    values = planned(problem, 10, seed=0)
    assert len(np.unique(Outlook(problem).savings(values))) > 3


def test_a_small_space_is_repeated(tiny_task):
    problem = compression_problem(**tiny_task, min_keep=1.0)
    assert (planned(problem, 5, seed=0) == problem.space.upper).all()
