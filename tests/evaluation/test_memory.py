import dataclasses
import itertools
import resource

import numpy as np
import pytest

from prune_gym.datasets import Split
from prune_gym.envs.make import compression_env


def resident():
    """Return the resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def grows(rounds):
    """Return whether every round takes 4 MB more: a leak does, the rest of the process not."""
    for play_round in rounds:
        before = resident()
        play_round()
        if resident() - before < 4:
            return False
    return True


def play_all(env, actions):
    for episode in actions:
        env.reset()
        for action in episode:
            info = env.step(np.array([action], np.float32))[4]
        assert "strategy" in info


def some(split, count=64):
    return Split(split.images[:count].copy(), split.labels[:count].copy())


@pytest.fixture
def env(tiny_task, tiny_data):
    """Few images: thousands of candidates are made here."""
    train, search = some(tiny_data.train), some(tiny_data.search)
    few = dataclasses.replace(tiny_data, train=train, search=search)
    return compression_env(**tiny_task | {"data": few})


def test_ten_thousand_episodes_of_known_strategies_need_no_more_memory(env):
    known = list(itertools.product((-1.0, 0.0, 1.0), repeat=3))
    play_all(env, known * 20)  # the memo has all strategies and the allocator its arenas
    assert not grows([lambda: play_all(env, known * 370)] * 3)
    assert len(env.problem.evaluator.cache) == 27


@pytest.mark.ci
def test_a_new_strategy_leaves_no_more_than_its_line_in_the_memo(env):
    """400 distinct ones may take 4 MB; a network of this size that is left behind takes 20 kB.

    The first hundreds fill oneDNN's cache of compiled kernels.
    """
    options = [decision.options for decision in env.problem.decisions]
    actions = [np.linspace(-1, 1, len(each)) for each in options]
    strategies = [list(each) for each in itertools.product(*actions)]
    np.random.default_rng(0).shuffle(strategies)
    play_all(env, strategies[:800])
    starts = (800, 1200, 1600)
    assert len(strategies) >= 2000
    assert not grows([lambda at=at: play_all(env, strategies[at : at + 400]) for at in starts])
    assert len(env.problem.evaluator.cache) >= 1200
