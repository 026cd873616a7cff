"""The original's accuracy is measured once for a network, a split and a processor."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from playing import constant, play

from prune_gym.envs.make import compression_env
from prune_gym.evaluation.task import make_evaluator


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "prune-gym"


def scores_in(cache):
    return sorted(cache.glob("score-*.npz"))


@pytest.fixture
def evaluator(cache, tiny_net, tiny_data):
    return make_evaluator(tiny_net, tiny_data, "least_squares")


def test_what_changes_nothing_scores_as_the_original():
    env = gym.make("ChannelPrune-ResNet20-v0").unwrapped
    evaluator, full = (
        env.problem.evaluator,
        env.problem.space.configure(env.problem.space.upper[None]),
    )
    measured = evaluator.score(evaluator.candidate(full), evaluator.data.search)
    kept = evaluator.accuracy(full)  # perhaps by another number of threads
    assert env.problem.original["accuracy"] == kept > 0.9
    assert abs(measured - kept) <= 0.001


@pytest.mark.parametrize("decide", ["channels", "density"])
def test_an_episode_that_changes_nothing(decide, cache, tiny_task):
    env = compression_env(**tiny_task, decide=(decide,))
    info = play(env, constant(1.0))[2][-1]
    evaluator = env.problem.evaluator
    candidate = evaluator.candidate(env.problem.configure(info["strategy"]))
    assert info["accuracy"] == evaluator.score(candidate, evaluator.data.search)
    assert len(scores_in(cache)) == 1
    assert play(env, constant(-1.0))[2][-1]["accuracy"] < info["accuracy"]


def test_it_is_read_again(evaluator, cache, tiny_net, tiny_data):
    assert evaluator.original_score(tiny_data.test) > 0.9
    (file,) = scores_in(cache)
    np.savez(file, score=np.array(0.125))
    again = make_evaluator(tiny_net, tiny_data, "merge")
    assert again.original_score(tiny_data.test) == 0.125
    assert again.accuracy(again.table.configuration()) > 0.9  # the search split's


def test_a_damaged_file_is_replaced(evaluator, cache, tiny_data):
    score = evaluator.original_score(tiny_data.search)
    (file,) = scores_in(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert evaluator.original_score(tiny_data.search) == score
    assert file.read_bytes() == whole


def other_weights(net, data):
    other = type(net)()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        next(other.parameters()).mul_(0.5)
    return other.eval(), data


def other_labels(net, data):
    search = dataclasses.replace(data.search, labels=(data.search.labels + 1) % 4)
    return net, dataclasses.replace(data, search=search)


def other_scale(net, data):
    return net, dataclasses.replace(data, mean=(0.1, 0.9, 0.5))


@pytest.mark.parametrize("change", [other_weights, other_labels, other_scale])
def test_another_network_or_split_is_measured(evaluator, cache, tiny_net, tiny_data, change):
    evaluator.original_score(tiny_data.search)
    net, data = change(tiny_net, tiny_data)
    other = make_evaluator(net, data, "none")
    measured = other.score(other.network, data.search)
    assert other.original_score(data.search) == measured
    assert len(scores_in(cache)) == 2
