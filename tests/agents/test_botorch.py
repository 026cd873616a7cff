"""BoTorch's acquisition function as an agent, where the extra is installed."""

import sys

import numpy as np
import pytest
from playing import Recorded
from stable_baselines3.common.logger import Logger

from prune_gym.agents import Settings, find_agent
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.envs.make import compression_env
from prune_gym.errors import MissingExtraError

AGENT = "botorch:qlognehvi"


@pytest.mark.parametrize("kwargs", [{}, {"budgets": {"flops": 0.6}}])
def test_it_starts_from_the_shared_design_and_repeats_nothing(kwargs, tiny_task):
    pytest.importorskip("botorch", reason="the extra botorch is not installed")
    two = {"objectives": ("accuracy", "flops")}
    env = Recorded(compression_env(**tiny_task | two, **kwargs))
    find_agent(AGENT)(env, Settings(3, 3, None, Logger(None, [])))
    problem = env.unwrapped.problem
    assert len(env.values) == 3 and problem.feasible(np.array(env.values)).all()
    if not kwargs:
        first = problem.space.decode(initial_design(3, len(problem.space), 3)[0])
        np.testing.assert_array_equal(env.values[0], first)
        assert len(np.unique(env.values, axis=0)) == 3


def test_unknown_acquisition_functions_get_the_nearest():
    pytest.importorskip("botorch", reason="the extra botorch is not installed")
    with pytest.raises(ValueError, match="did you mean 'qlognehvi'"):
        find_agent("botorch:qlognehv")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "botorch", None)
    monkeypatch.delitem(sys.modules, "prune_gym.agents.botorch_search", raising=False)
    with pytest.raises(MissingExtraError, match=r"prune-gym\[botorch\]"):
        find_agent(AGENT)
