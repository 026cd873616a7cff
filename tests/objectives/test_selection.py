import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prune_gym.errors import UserError
from prune_gym.objectives.pareto import non_dominated
from prune_gym.objectives.selection import best_for, knee_point

TWO = ("accuracy", "flops")


def test_the_knee_is_where_the_front_bends():
    front = np.array([[0.90, 0.0], [0.89, 0.5], [0.88, 0.7], [0.60, 0.8], [0.1, 1.0]])
    assert knee_point(front, TWO) == 2


def test_the_knee_is_no_dominated_point_and_needs_no_common_scale():
    returns = np.array([[0.90, 0.0], [0.87, 0.0069], [0.88, 0.007], [0.1, 0.01], [0.0, 0.0]])
    assert knee_point(returns, TWO) == 2


def test_costs_that_go_together_count_as_much_as_accuracy_and_no_more():
    front = np.array([[0.98, 0.6], [0.96, 0.8], [0.85, 0.85], [0.5, 0.9]])
    alike = front[:, [0, 1, 1, 1]]
    assert knee_point(front, TWO) == 1
    assert knee_point(alike, ("accuracy", "flops", "latency", "memory")) == 1


def test_the_knee_of_costs_alone():
    front = np.array([[0.9, 0.0], [0.8, 0.8], [0.0, 0.9]])
    assert knee_point(front, ("flops", "memory")) == 1


def test_the_knee_of_equal_strategies_is_the_first():
    assert knee_point(np.array([[0.5, 0.5], [0.5, 0.5]]), TWO) == 0


def test_the_best_for_a_preference():
    returns = np.array([[0.9, 0.1], [0.8, 0.5]])
    assert best_for(returns, np.array([0.5, 0.5])) == 1
    assert best_for(returns, np.array([0.99, 0.01])) == 0


def test_tchebycheff_finds_what_lies_in_a_hollow_of_the_front():
    returns = np.array([[0.9, 0.0], [0.4, 0.4], [0.0, 0.9]])  # the second is below the diagonal
    weights = [np.array([w, 1 - w]) for w in np.linspace(0, 1, 21)]
    assert {best_for(returns, each) for each in weights} == {0, 2}
    assert {best_for(returns, each, "tchebycheff") for each in weights} == {0, 1, 2}


@given(
    arrays(float, (9, 3), elements=st.floats(0, 1, width=16)),
    arrays(float, 3, elements=st.floats(0, 1, width=16)),
)
def test_tchebycheff_never_chooses_what_another_dominates(returns, weights):
    assert non_dominated(returns)[best_for(returns, weights, "tchebycheff")]


@pytest.mark.parametrize(
    "choose", [lambda rows: knee_point(rows, TWO), lambda rows: best_for(rows, np.ones(2))]
)
def test_nothing_to_choose_from(choose):
    with pytest.raises(UserError):
        choose(np.zeros((0, 2)))
