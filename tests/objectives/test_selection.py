import numpy as np
import pytest

from prune_gym.errors import UserError
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


@pytest.mark.parametrize(
    "choose", [lambda rows: knee_point(rows, TWO), lambda rows: best_for(rows, np.ones(2))]
)
def test_nothing_to_choose_from(choose):
    with pytest.raises(UserError):
        choose(np.zeros((0, 2)))
