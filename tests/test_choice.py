import numpy as np
import pytest

from prune_gym.choice import best_for, best_under, knee_point

RECORDS = [
    {"accuracy": 0.9, "latency_ms": 5.0, "size_bytes": 900.0},
    {"accuracy": 0.8, "latency_ms": 3.0, "size_bytes": 700.0},
    {"accuracy": 0.7, "latency_ms": 2.0, "size_bytes": 800.0},
]


def test_the_knee_is_where_the_front_bends():
    front = np.array([[0.90, 0.0], [0.89, 0.5], [0.88, 0.7], [0.60, 0.8], [0.1, 1.0]])
    assert knee_point(front) == 2


def test_the_knee_is_no_dominated_point_and_needs_no_common_scale():
    returns = np.array([[0.90, 0.0], [0.87, 0.0069], [0.88, 0.007], [0.1, 0.01], [0.0, 0.0]])
    assert knee_point(returns) == 2


def test_the_knee_of_equal_strategies_is_the_first():
    assert knee_point(np.array([[0.5, 0.5], [0.5, 0.5]])) == 0


def test_the_best_for_a_preference():
    returns = np.array([[0.9, 0.1], [0.8, 0.5]])
    assert best_for(returns, np.array([0.5, 0.5])) == 1
    assert best_for(returns, np.array([0.99, 0.01])) == 0


def test_the_most_accurate_under_limits():
    assert best_under(RECORDS, {}) == 0
    assert best_under(RECORDS, {"latency_ms": 4.0}) == 1
    assert best_under(RECORDS, {"latency_ms": 3.0, "size_bytes": 800.0}) == 1


def test_limits_that_nothing_keeps_to():
    with pytest.raises(ValueError, match="latency_ms <= 1.*latency_ms 2"):
        best_under(RECORDS, {"latency_ms": 1.0})
    with pytest.raises(ValueError, match="unknown metric 'latency'.*latency_ms"):
        best_under(RECORDS, {"latency": 1.0})


@pytest.mark.parametrize("choose", [knee_point, lambda rows: best_for(rows, np.ones(2))])
def test_nothing_to_choose_from(choose):
    with pytest.raises(ValueError, match="at least one strategy"):
        choose(np.zeros((0, 2)))
