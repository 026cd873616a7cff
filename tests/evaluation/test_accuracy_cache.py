"""Accuracies that are known: in this process, and in a file that several processes share."""

import subprocess
import sys

import numpy as np
import pytest

from prune_gym.evaluation.accuracy_cache import AccuracyCache
from prune_gym.evaluation.evaluator import Evaluator

WRITE = """
import sys
from pathlib import Path
from prune_gym.evaluation.accuracy_cache import AccuracyCache

path, name, count = sys.argv[1:]
cache = AccuracyCache()
cache.share(Path(path))
for number in range(int(count)):
    cache.put(f"{name} {number}".encode(), number / 1000)
print(cache.get(b"of the parent"))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "accuracies.jsonl"


@pytest.fixture
def cache(path):
    cache = AccuracyCache()
    cache.share(path)
    return cache


def another(path):
    """Return the cache of another process, as far as it can be told apart: it shares the file."""
    cache = AccuracyCache()
    cache.share(path)
    return cache


def child(path, name, count, variables):
    command = [sys.executable, "-c", WRITE, str(path), name, str(count)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_write_at_once_lose_nothing(path, cache, subprocess_env):
    cache.put(b"of the parent", 0.5)
    children = [child(path, name, 300, subprocess_env) for name in ("one", "two")]
    assert [process.communicate(timeout=120)[0] for process in children] == ["0.5\n", "0.5\n"]
    for name in ("one", "two"):
        found = [cache.get(f"{name} {number}".encode()) for number in range(300)]
        assert found == [number / 1000 for number in range(300)]
    assert path.read_bytes().count(b"\n") == 601


def test_what_a_process_knew_before_it_shares_stays_its_own(path, cache):
    other = AccuracyCache({b"own": 0.1})
    other.share(path)
    assert other.get(b"own") == 0.1 and cache.get(b"own") is None


def test_a_known_accuracy_is_written_once(path, cache):
    other = another(path)
    cache.put(b"a", 0.5)
    cache.put(b"a", 0.5)
    other.put(b"a", 0.5)
    assert path.read_bytes().count(b"\n") == 1 and other.get(b"a") == 0.5


def test_a_torn_line_is_ignored(path, cache):
    """What a killed process left: a part of a line, and what was written to the end of it."""
    cache.put(b"before", 0.4)
    with path.open("ab") as file:
        file.write(path.read_bytes()[:-9])
    other = another(path)
    assert other.get(b"before") == 0.4
    cache.put(b"glued", 0.6)
    cache.put(b"after", 0.7)
    assert cache.get(b"glued") == 0.6  # this process knows what it measured
    assert other.get(b"glued") is None  # another one measures it again
    assert other.get(b"after") == 0.7
    other.put(b"glued", 0.6)
    assert another(path).get(b"glued") == 0.6


def test_a_line_is_not_read_before_it_is_whole(path, cache):
    other = another(path)
    cache.put(b"a", 0.5)
    line = path.read_bytes()
    path.write_bytes(line[:20])
    assert other.get(b"a") is None
    with path.open("ab") as file:
        file.write(line[20:])
    assert other.get(b"a") == 0.5


@pytest.mark.parametrize("garbage", [b"\x00\xff\n", b"\n\n", b"deadbeef {}\n", b"no checksum\n"])
def test_garbage_is_ignored(path, cache, garbage):
    path.write_bytes(garbage)
    cache.put(b"a", 0.5)
    assert another(path).get(b"a") == 0.5


def test_clearing_forgets_what_this_process_knows():
    cache = AccuracyCache({b"a": 0.5})
    assert len(cache) == 1 and cache.get(b"a") == 0.5
    cache.clear()
    assert len(cache) == 0 and cache.get(b"a") is None


def test_an_evaluator_uses_the_cache_that_it_is_given(tiny):
    """Also an empty one: whoever hands it in wants to find the accuracies there."""
    one = tiny.problem.evaluator
    cache, parts = AccuracyCache(), (one.network, one.table, one.data, one.calibration, one.pixels)
    evaluator = Evaluator(*parts, cache=cache)
    configuration = tiny.problem.space.configure(tiny.problem.space.lower[None])
    accuracy = evaluator.accuracy(configuration)
    assert cache.get(configuration.key()) == accuracy and len(cache) == 1
    cache.put(configuration.key(), 0.125)
    assert evaluator.accuracy(configuration) == 0.125


def test_an_accuracy_is_measured_once_by_whichever_way(tiny):
    problem = tiny.problem
    values = np.stack([problem.space.lower, problem.space.upper, problem.space.lower])
    returns = problem.evaluate(values)
    assert len(problem.evaluator.cache) == 2
    problem.evaluator.score = None  # calling it would fail
    assert problem.evaluate(values).tolist() == returns.tolist()
    assert problem.accuracies(values).tolist() == returns[:, 0].tolist()
