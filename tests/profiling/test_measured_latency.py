"""``latency="measured"``: the clock's answer, with the last step."""

import numpy as np
import pytest
from playing import constant, play

from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError

OBJECTIVES = ("accuracy", "flops", "latency")


@pytest.fixture(scope="module")
def timed(tiny_task):
    pytest.importorskip("onnxruntime")
    return compression_env(**tiny_task | {"latency": "measured", "objectives": OBJECTIVES})


def test_it_pays_with_the_last_step(timed):
    _, rewards, infos = play(timed, constant(-1.0))
    original = timed.problem.original["latency_ms"]
    assert not rewards[:-1, 2].any()
    assert rewards[-1, 2] == pytest.approx(1 - infos[-1]["latency_ms"] / original, abs=1e-6)
    assert infos[-1]["latency_ms"] > 0 and original > 0


def test_the_observation_does_not_show_it(timed):
    observations, _, _ = play(timed, constant(0.3))
    again, _, _ = play(compression_env(**_without(timed)), constant(0.3))
    np.testing.assert_array_equal(observations, again)


def _without(timed):
    data, network = timed.problem.evaluator.data, timed.problem.evaluator.network
    return {
        "network": network,
        "data": data,
        "latency": None,
        "objectives": ("accuracy", "flops"),
        "round_to": 1,
    }


def test_it_says_that_it_is_not_deterministic(timed):
    latency = timed.objectives[2]
    assert latency.platform_dependent and not latency.deterministic


def test_a_strategy_is_validated_without_it(timed):
    strategy = play(timed, constant(0.0))[2][-1]["strategy"]
    result = timed.problem.validate(strategy)
    assert result.reproduced and "latency_ms" not in {claim.name for claim in result.claims}


def test_it_takes_no_budget(tiny_task):
    pytest.importorskip("onnxruntime")
    arguments = tiny_task | {"latency": "measured", "budgets": {"latency": 0.5}}
    with pytest.raises(UserError, match="budget latency=0.5: .*clock"):
        compression_env(**arguments)
