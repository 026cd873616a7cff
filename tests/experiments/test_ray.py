"""Cells on a Ray cluster of two nodes, both on this machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import pytest
from joblib import Parallel, delayed
from places import HELPERS, ROOT
from test_benchmark import arguments, contents, words
from tiny_envs import TINY

from prune_gym import cli
from prune_gym._utils.parallel import workers
from prune_gym.agents.common.initial_design import initial_design
from prune_gym.agents.common.rollout import play_all
from prune_gym.evaluation.accuracy_cache import AccuracyCache

ENVELOPE = {"agents": ("ehvi-envelope-ddpg",), "evaluations": 12}
MISSING = "Ray is not installed: pip install 'prune-gym[ray]'"
pytestmark = pytest.mark.ci
PATIENCE = 300  # seconds; on a busy machine processes start slowly
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason=MISSING)
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        folders = (ROOT, HELPERS, Path(__file__).parent)  # modules that other processes import
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = NODE | {"include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(**NODE)
        yield cluster
        cluster.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert cli.main(arguments(folder, **ENVELOPE)) == 0
    return folder


def node():
    import ray

    time.sleep(2)
    return ray.get_runtime_context().get_node_id()


def test_calls_go_to_all_nodes(cluster):
    with workers(None, cluster.address):
        nodes = Parallel()(delayed(node)() for _ in range(2))
    assert set(nodes) == {each.node_id for each in cluster.list_all_nodes()}


def test_an_error_is_raised_here(cluster):
    with workers(2, cluster.address), pytest.raises(ZeroDivisionError):
        Parallel()(delayed(divmod)(1, each) for each in (1, 0))


def test_a_cluster_gives_what_one_process_gives(cluster, alone, tmp_path):
    assert cli.main(arguments(tmp_path, "--ray", cluster.address, **ENVELOPE)) == 0
    assert contents(tmp_path) == contents(alone)


def test_generations_are_evaluated_on_the_cluster(cluster, monkeypatch):
    env = gym.make(TINY)
    actions, evaluator = initial_design(30, 3, 0), env.unwrapped.problem.evaluator
    monkeypatch.setattr(evaluator, "cache", AccuracyCache())
    returns, infos = play_all(env, actions)
    evaluator.cache = AccuracyCache()
    monkeypatch.setattr(evaluator, "score", None)  # calling it here would fail
    with workers(None, cluster.address):
        again, same = play_all(env, actions)
    assert (again == returns).all() and same == infos


def test_a_node_that_dies_costs_no_result(cluster, alone, tmp_path):
    options = arguments(tmp_path, "--ray", cluster.address, **ENVELOPE)
    process = subprocess.Popen([sys.executable, "-m", "prune_gym.cli", *options])
    end = time.monotonic() + PATIENCE
    while len(started := started_journals(tmp_path)) < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)  # kill -9
    assert not list(tmp_path.glob("runs/*/*/*/cell.json"))  # it had one of the two
    assert process.wait(PATIENCE) == 0
    assert len(started - started_journals(tmp_path)) == 1  # one was opened again
    assert contents(tmp_path) == contents(alone)


def started_journals(folder):
    """Return the files, as the system tells them apart, with a finished episode in them."""
    found = (journal.stat() for journal in folder.glob("runs/*/*/*/evaluations.jsonl"))
    return {stat.st_ino for stat in found if stat.st_size}


def test_no_cluster_at_the_address(tmp_path, capsys):
    pytest.importorskip("ray", reason=MISSING)
    assert cli.main(arguments(tmp_path, "--ray", "127.0.0.1:1")) == 2
    assert "127.0.0.1:1" in words(capsys.readouterr().err)


def test_ray_is_an_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(arguments(tmp_path, "--ray", "auto")) == 2
    assert "pip install 'prune-gym[ray]'" in words(capsys.readouterr().err)
