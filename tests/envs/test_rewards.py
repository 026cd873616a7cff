import itertools

import numpy as np
import pytest
from four_classes import TINY_OBJECTIVES
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import constant, play

from prune_gym.envs.make import compression_env
from prune_gym.objectives.pareto import hypervolume, non_dominated

ACTIONS = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)


@pytest.fixture(scope="session")
def rewarded(tiny_task):
    """One environment for all examples of a property."""
    return compression_env(**tiny_task)


def actions_of(values):
    return lambda step: np.array([values[step]], dtype=np.float32)


@given(ACTIONS)
@settings(max_examples=40, deadline=None)
def test_an_episodes_sum_is_the_saving(rewarded, values):
    _, rewards, infos = play(rewarded, actions_of(values))
    info = infos[-1]
    original = rewarded.problem.original
    expected = [
        info["accuracy"],
        1 - info["flops"] / original["flops"],
        1 - info["params"] / original["params"],
        1 - info["memory_bytes"] / original["memory_bytes"],
    ]
    np.testing.assert_allclose(rewards.sum(axis=0), expected, rtol=0, atol=1e-6)


def test_sums_on_a_registered_id_with_latency(env):
    _, rewards, infos = play(env, constant(-0.8))
    core = env.unwrapped
    full = core.problem.original_configuration
    info = infos[-1]
    expected = [info["accuracy"]]
    for name in ("flops", "latency", "memory"):
        cost = core.problem.costs[name]
        expected.append(1 - info[cost.metric] / cost(full)[0])
    np.testing.assert_allclose(rewards.sum(axis=0), expected, rtol=0, atol=1e-6)


def test_each_step_pays_the_cut_it_has_made(tiny):
    """Undecided groups count at full width; by hand for parameters of Tiny."""

    def params(a, b, c):
        return 27 * a + 2 * a + 9 * a * b + 2 * b + 9 * b * c + 2 * c + 4 * c + 4

    _, rewards, infos = play(tiny, constant(-1.0))
    a, b, c = (decision["value"] for decision in infos[-1]["strategy"]["decisions"])
    before = [params(12, 16, 16), params(a, 16, 16), params(a, b, 16), params(a, b, c)]
    expected = [-(after - b4) / before[0] for b4, after in itertools.pairwise(before)]
    column = TINY_OBJECTIVES.index("params")
    np.testing.assert_allclose(rewards[:, column], expected, rtol=1e-6)


def test_accuracy_comes_with_the_last_step_alone(tiny):
    _, rewards, infos = play(tiny, constant(0.5))
    assert not rewards[:-1, 0].any()
    assert rewards[-1, 0] == np.float32(infos[-1]["accuracy"])


@given(ACTIONS)
@settings(max_examples=10, deadline=None)
def test_terminal_mode_pays_the_same_sum_at_the_end(tiny_task, rewarded, values):
    terminal = compression_env(**tiny_task, reward="terminal")
    terminal.problem.evaluator.cache = rewarded.problem.evaluator.cache
    _, rewards, _ = play(terminal, actions_of(values))
    assert not rewards[:-1].any()
    _, step_by_step, _ = play(rewarded, actions_of(values))
    np.testing.assert_allclose(rewards[-1], step_by_step.sum(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", [("flops",), ("memory", "accuracy"), TINY_OBJECTIVES[::-1]])
def test_objectives_are_chosen_and_ordered(tiny_task, rewarded, order):
    env = compression_env(**(tiny_task | {"objectives": order}))
    env.problem.evaluator.cache = rewarded.problem.evaluator.cache
    assert env.reward_dim == len(order) and env.reward_space.shape == (len(order),)
    columns = [TINY_OBJECTIVES.index(name) for name in order]
    action = constant(0.0)
    np.testing.assert_array_equal(play(env, action)[1], play(rewarded, action)[1][:, columns])


def test_keeping_all_costs_all(tiny):
    _, rewards, infos = play(tiny, constant(1.0))
    assert not rewards[:, 1:].any()
    evaluator = tiny.problem.evaluator
    original = evaluator.score(evaluator.network, evaluator.data.search)
    assert infos[-1]["accuracy"] == original == tiny.problem.original["accuracy"] > 0.9


def test_reference_point(tiny, env):
    assert tiny.problem.reference_point.tolist() == [0.25, 0, 0, 0]
    assert env.unwrapped.problem.reference_point.tolist() == [0.1, 0, 0, 0]


def test_hypervolume_by_hand():
    reference = np.array([0.1, 0.0])
    assert hypervolume(np.array([[1.0, 1.0]]), reference) == pytest.approx(1.0)
    assert hypervolume(np.array([[0.55, 0.5]]), reference) == pytest.approx(0.25)
    two = np.array([[0.55, 0.5], [0.1 + 0.225, 0.8]])
    assert hypervolume(two, reference) == pytest.approx(0.25 + 0.25 * 0.3)
    assert hypervolume(np.array([[0.05, 0.9], [0.5, 0.0]]), reference) == 0.0
    assert hypervolume(np.zeros((0, 2)), reference) == 0.0


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.3, 0.6, 1.0])] * 3), min_size=1, max_size=12))
def test_non_dominated_against_a_brute_force(rows):
    points = np.array(rows)
    expected = []
    for i, p in enumerate(points):
        beaten = any((q >= p).all() and (q > p).any() for q in points)
        copy = any((q == p).all() for q in points[:i])
        expected.append(not beaten and not copy)
    assert non_dominated(points).tolist() == expected
