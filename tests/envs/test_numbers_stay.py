"""What a short episode of every id gives does not move unnoticed."""

import json

import pytest
from id_numbers import FILE, NAMED, numbers
from real_data import why_no_env

from prune_gym.evaluation import task

KNOWN = json.loads(FILE.read_text())
ONE_IMAGE_IN = 500  # accuracy may differ by one image of so many between processors


@pytest.mark.ci
@pytest.mark.parametrize("env_id", NAMED)
def test_an_episode_gives_the_same_numbers_as_before(env_id, monkeypatch):
    if why := why_no_env(env_id):
        pytest.skip(why)
    task.forget_evaluators()
    before, now = KNOWN[env_id], numbers(env_id, monkeypatch)
    task.forget_evaluators()
    assert now["decisions"] == before["decisions"]
    assert now["metrics"].keys() == before["metrics"].keys()
    for name, value in before["metrics"].items():
        tolerance = {"abs": 1 / ONE_IMAGE_IN} if name == "accuracy" else {"rel": 1e-9}
        assert now["metrics"][name] == pytest.approx(value, **tolerance), name
    assert now["rewards"] == pytest.approx(before["rewards"], abs=1 / ONE_IMAGE_IN)
    assert now["observations"] == pytest.approx(before["observations"], abs=2e-3)
