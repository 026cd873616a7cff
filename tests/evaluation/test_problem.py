"""Laws of the compression problem and its search space, against the episodes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import play
from problems import OBJECTIVES, PROBLEMS, make_problem

from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.rollouts import decode_within_budgets
from prune_gym.errors import UserError
from prune_gym.search_space import Strategy
from prune_gym.search_space.strategy import strategy_from_dict

SEEDS = st.integers(0, 2**16)
FEW = settings(max_examples=5, deadline=None)
MANY = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request, tiny_data):
    return make_problem(request.param, tiny_data)


def drawn(problem, seed, n=8):
    """Return random values ``(n, decisions)``, whatever the budgets; some blocks are skipped."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(d.options, n) for d in problem.decisions], axis=1).astype(float)


def within(problem, seed, n=4):
    """Return values of n random strategies that meet the budgets."""
    rng = np.random.default_rng(seed)
    return decode_within_budgets(problem, rng.uniform(-1, 1, (n, len(problem.decisions))))


def played(problem, values, **arguments):
    """Play strategies; returns the episodes' sums of rewards and their last infos."""
    env, sums, infos = CompressionEnv(problem, **arguments), [], []
    for actions in problem.space.encode(values):
        env.reset()
        total, terminated = np.zeros(env.reward_dim), False
        while not terminated:
            action = actions[env.next_decision].astype(np.float32)[None]
            _, reward, terminated, _, info = env.step(action)
            total += reward
        sums.append(total)
        infos.append(info)
    return np.array(sums), infos


@pytest.mark.parametrize("reward", ["incremental", "terminal"])
@given(seed=SEEDS)
@FEW
def test_a_strategy_is_worth_what_its_episode_returns(problem, reward, seed):
    values = within(problem, seed)
    returns = problem.evaluate(values)
    sums, infos = played(problem, values, reward=reward)
    np.testing.assert_allclose(returns, sums, rtol=0, atol=1e-6)
    assert returns[:, 0].tolist() == [info["accuracy"] for info in infos]
    for row, info in zip(values, infos, strict=True):
        np.testing.assert_array_equal(problem.values_of(info["strategy"]), row)


@given(seed=SEEDS)
@FEW
def test_the_batch_is_worth_what_its_strategies_are_one_by_one(problem, seed):
    values = drawn(problem, seed, 4)
    single = np.concatenate([problem.evaluate(row[None]) for row in values])
    assert problem.evaluate(values).tolist() == single.tolist()


@given(seed=SEEDS)
@MANY
def test_savings_are_shares_of_the_original(problem, seed):
    values = drawn(problem, seed)
    savings, space = problem.savings(values), problem.space
    configuration = space.configure(values)
    assert savings.shape == (len(values), len(OBJECTIVES)) and (savings <= 1).all()
    assert not savings[:, 0].any()
    for column, objective in enumerate(problem.objectives[1:], start=1):
        cost = problem.costs[objective.name](configuration)
        original = problem.original[objective.metric]
        np.testing.assert_allclose(savings[:, column], 1 - cost / original, atol=1e-12)
    assert not problem.savings(space.upper[None]).any()


@given(seed=SEEDS)
@MANY
def test_encode_and_decode_are_inverse(problem, seed):
    space, values = problem.space, drawn(problem, seed)
    actions = space.encode(values)
    assert actions.shape == values.shape and (np.abs(actions) <= 1).all()
    np.testing.assert_array_equal(space.decode(actions), values)
    np.testing.assert_array_equal(space.decode(actions.astype(np.float32)), values)
    np.testing.assert_array_equal(space.encode(values[0]), actions[0])
    for index, decision in enumerate(problem.decisions):
        assert actions[0, index] == decision.encode(values[0, index])
        assert values[0, index] == decision.decode(actions[0, index])


@given(seed=SEEDS)
@MANY
def test_decode_takes_the_nearest_option(problem, seed):
    space = problem.space
    actions = np.random.default_rng(seed).uniform(-1, 1, (5, len(space)))
    found = space.decode(actions)
    for index, decision in enumerate(problem.decisions):
        low, high = decision.grid[0], decision.grid[-1]
        places = dict(zip(decision.options.tolist(), decision.grid.tolist(), strict=True))
        wanted = low + (high - low) * (actions[:, index] + 1) / 2
        nearest = [min(abs(place - each) for place in places.values()) for each in wanted]
        got = [abs(places[v] - w) for v, w in zip(found[:, index], wanted, strict=True)]
        assert got == nearest
        assert found[:, index].tolist() == [decision.decode(a) for a in actions[:, index]]


@given(seed=SEEDS)
@MANY
def test_canonicalise_forgets_what_is_in_skipped_blocks(problem, seed):
    space, values = problem.space, drawn(problem, seed)
    before, canonical = values.copy(), space.canonicalise(values)
    np.testing.assert_array_equal(values, before)
    np.testing.assert_array_equal(space.canonicalise(canonical), canonical)
    for row, each in zip(values, canonical, strict=True):
        active = space.active(row)
        np.testing.assert_array_equal(space.active(each), active)
        np.testing.assert_array_equal(each, np.where(active, row, space.lower))
    for name in ("flops", "params", "memory", "energy", "size"):
        cost = problem.costs[name]
        np.testing.assert_array_equal(
            cost(space.configure(canonical)), cost(space.configure(values))
        )


@given(seed=SEEDS)
@MANY
def test_a_strategy_is_read_back(problem, seed):
    space, values = problem.space, drawn(problem, seed)
    for row, canonical in zip(values, space.canonicalise(values), strict=True):
        decisions = json.loads(json.dumps(space.to_strategy(row)))
        np.testing.assert_array_equal(space.from_strategy(decisions), canonical)
        plain = Strategy("", {}, tuple(decisions), {}, "").as_dict()
        for strategy in (plain, strategy_from_dict(plain)):
            np.testing.assert_array_equal(problem.values_of(strategy), canonical)


def test_other_budgets_make_another_problem_on_the_same_parts(problem):
    limits, other = dict(problem.budgets.limits), problem.with_budgets({"params": 0.5})
    assert other.budgets.limits == {"params": 0.5} and problem.budgets.limits == limits
    assert other.space is problem.space and other.evaluator is problem.evaluator
    assert not other.feasible(other.space.upper[None])[0]
    known = problem.with_budgets({"params": 0.5}, other.space.lower)
    values = drawn(problem, 0)
    np.testing.assert_array_equal(known.feasible(values), other.feasible(values))
    with pytest.raises(UserError, match="params"):
        problem.with_budgets({"params": 1e-9})


@given(seed=SEEDS)
@MANY
def test_feasible_is_what_exceeds_no_budget(problem, seed):
    values = np.concatenate([drawn(problem, seed), within(problem, seed)])
    feasible = problem.feasible(values)
    assert feasible.dtype == bool and feasible[-4:].all()
    assert feasible.tolist() == [not problem.budgets.exceeded(row) for row in values]
    configuration, met = problem.space.configure(values), np.ones(len(values), dtype=bool)
    for name, limit in problem.budgets.limits.items():
        original = problem.original[problem.costs[name].metric]
        met &= problem.costs[name](configuration) <= limit * original
    assert feasible.tolist() == met.tolist()
    for row, is_met in zip(values, feasible, strict=True):
        plain = Strategy("", {}, problem.space.to_strategy(row), {}, "")
        if is_met:
            assert len(problem.configure(plain)) == 1
        else:
            with pytest.raises(UserError, match="budgets"):
                problem.configure(plain)


@given(seed=SEEDS)
@FEW
def test_equal_networks_are_evaluated_once(problem, seed):
    """What was to be done in a skipped block makes no other strategy."""
    values = drawn(problem, seed, 3)
    problem.evaluator.cache.clear()
    problem.evaluate(values)
    canonical = problem.space.canonicalise(values)
    assert len(problem.evaluator.cache) == len(np.unique(canonical, axis=0))
    problem.evaluate(canonical)
    assert len(problem.evaluator.cache) == len(np.unique(canonical, axis=0))


def test_workers_measure_what_one_process_measures(problem):
    values = within(problem, 0)
    alone = problem.evaluate(values, jobs=1)
    problem.evaluator.cache.clear()
    score = problem.evaluator.score
    problem.evaluator.score = None  # calling it here would fail
    try:
        assert problem.evaluate(values, jobs=2).tolist() == alone.tolist()
    finally:
        problem.evaluator.score = score


def test_the_original_and_the_reference_point(problem):
    original = problem.original
    assert original["accuracy"] == problem.evaluator.original_score(problem.evaluator.data.search)
    assert set(original) == {"accuracy", *(cost.metric for cost in problem.costs.values())}
    assert problem.reference_point.tolist() == [0.25, 0, 0, 0, 0, 0]
    returns = problem.evaluate(problem.space.upper[None])
    assert returns[0].tolist() == [original["accuracy"], 0, 0, 0, 0, 0]


def test_an_episode_of_the_environment_is_this_problems(problem):
    env = CompressionEnv(problem)
    info = play(env, seed=4)[2][-1]
    assert env.problem is problem and env.objectives == problem.objectives
    assert problem.validate(info["strategy"]).reproduced
    assert problem.feasible(problem.values_of(info["strategy"])[None]).all()
