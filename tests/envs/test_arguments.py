"""Arguments of the wrong type: they also come from strategy files that people edit by hand."""

import gymnasium as gym
import pytest

from prune_gym.errors import UserError

TABLE = "ChannelPrune-Table-v0"
OF_NO_USE = [5, 2.5, float("nan"), True, {"a": 1}, [1], [None], [[1]], object(), b"x", 10**400]
TAKEN = {  # values of the list that an argument does take
    "bits": [[1]],
    "batch_size": [5],
    "calibration_images": [5],
    "discrete": [5],
    "granularity": [5],
    "round_to": [5],
}


@pytest.mark.parametrize(
    "name",
    [
        *("objectives", "budgets", "latency", "energy", "dataflow", "coding", "repair", "library"),
        *("decide", "min_keep", "round_to", "min_density", "granularity", "bits", "exclude"),
        *("include", "batch_size", "device", "calibration_images", "reward", "discrete"),
        "render_mode",
    ],
)
def test_a_wrong_type_is_named_in_a_line(name):
    for value in OF_NO_USE:
        if any(value is each or value == each for each in TAKEN.get(name, ())):
            continue
        with pytest.raises(UserError) as told:
            gym.make(TABLE, disable_env_checker=True, **{name: value})
        assert "\n" not in str(told.value)


def test_budgets_of_another_problem_are_checked_too():
    problem = gym.make(TABLE).unwrapped.problem
    for budgets in (0.5, ["flops"], {"flops": True}):
        with pytest.raises(UserError, match="budget"):
            problem.with_budgets(budgets)


def test_an_action_of_hundreds_of_digits():
    env = gym.make(TABLE)
    env.reset(seed=0)
    with pytest.raises(UserError, match="finite number"):
        env.step([10**400])
