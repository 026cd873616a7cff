"""Run folders, latency tables and caches of anybody: an error that names the file, or a result."""

import json
import shutil
import warnings

import gymnasium as gym
import numpy as np
import pytest
from candidates import network_and_table
from foreign import ANYTHING, FUZZ, changed, changed_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from prune_gym._utils.array_cache import read_arrays, write_arrays
from prune_gym._utils.checked_lines import checked_line
from prune_gym.agents import Settings, find_agent
from prune_gym.cli import main
from prune_gym.costs import build_costs
from prune_gym.costs.latency_table import SHIPPED, load_latency_table
from prune_gym.errors import UserError
from prune_gym.experiments.folder import RunFolder
from prune_gym.experiments.record import RecordRun
from prune_gym.experiments.report.page import report_page
from prune_gym.experiments.results import check_task, read_results
from prune_gym.experiments.run_config import RunConfig

RUN = settings(FUZZ, max_examples=6)
CONFIG = RunConfig("ChannelPrune-Table-v0", "random", 4, 0)
FILES = ("config.json", "task.json", "about.json", "front/000.json", "evaluations.jsonl")


@pytest.fixture(scope="module")
def env():
    return gym.make("ChannelPrune-Table-v0").unwrapped


@pytest.fixture(scope="module")
def folder(env, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "one"
    recorded = RecordRun(env, RunFolder(path, CONFIG, False))
    find_agent("random")(recorded, Settings(4, 0, None, None))
    recorded.write_front()
    recorded.close()
    return path


def resume(path, env):
    """Go on with a run as ``prune-gym train --resume`` does."""
    opened = RunFolder(path, CONFIG, True)
    try:
        check_task(path, env)
        recorded = RecordRun(env, opened)
        find_agent("random")(recorded, Settings(4, 0, None, None))
        recorded.write_front()
        recorded.close()
    finally:
        opened.close()


def shown(path, env):
    assert "one" in report_page([read_results(path)])


def chosen(path, env):
    results = read_results(path)
    assert set(results.files) <= set(range(len(results.records)))
    assert main(["choose", str(path), "--knee"]) in (0, 2)


def told(read, path, env):
    """Read a run folder; an error is one that names what is in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path, env)
        except UserError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("read", [shown, chosen, resume])
@RUN
@given(data=st.data())
def test_run_folders_with_a_changed_value(read, folder, env, tmp_path, data):
    path = shutil.copytree(folder, tmp_path / "one", dirs_exist_ok=True)
    file = path / data.draw(st.sampled_from(FILES))
    if file.suffix == ".jsonl":
        records = [json.loads(line.partition(" ")[2]) for line in file.read_text().splitlines()]
        whole = data.draw(st.booleans())
        records = [data.draw(ANYTHING)] if whole else changed(records, data.draw)
        file.write_bytes(b"".join(checked_line(record) for record in records))
    else:
        file.write_text(json.dumps(changed(json.loads(file.read_text()), data.draw)))
    told(read, path, env)


@pytest.mark.parametrize("read", [shown, chosen, resume])
@RUN
@given(data=st.data())
def test_run_folders_with_changed_bytes(read, folder, env, tmp_path, data):
    path = shutil.copytree(folder, tmp_path / "one", dirs_exist_ok=True)
    file = path / data.draw(st.sampled_from(FILES))
    file.write_bytes(changed_bytes(file.read_bytes(), data.draw))
    told(read, path, env)


def latency_of(file):
    """Return the latency of two strategies by a table, or None where it is refused."""
    table = network_and_table("vgg16")[1]
    try:
        cost = build_costs(table, load_latency_table(str(file)))["latency"]
    except UserError as error:
        assert "foreign.json" in str(error) or "not in the latency table" in str(error)
        return None
    return cost(table.configuration(np.stack([table.full, table.full // 2])))


@RUN
@given(data=st.data())
def test_latency_tables_with_a_changed_value(tmp_path, data):
    file = tmp_path / "foreign.json"
    content = json.loads((SHIPPED / "reference-cpu.json").read_text())
    few = dict(list(content["layers"].items())[:3])
    part = changed({**content, "layers": few}, data.draw)
    if isinstance(part.get("layers"), dict):
        part["layers"] = content["layers"] | part["layers"]
    file.write_text(json.dumps(part))
    found = latency_of(file)
    assert found is None or (np.isfinite(found).all() and (found >= 0).all())


@settings(FUZZ, max_examples=10)
@given(data=st.data())
def test_latency_tables_with_changed_bytes(tmp_path, data):
    file = tmp_path / "foreign.json"
    file.write_bytes(changed_bytes((SHIPPED / "reference-cpu.json").read_bytes(), data.draw))
    found = latency_of(file)
    assert found is None or (np.isfinite(found).all() and (found >= 0).all())


@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_a_damaged_cache_is_made_again(tmp_path_factory, data):
    arrays = {"one": np.arange(6.0).reshape(2, 3), "two": np.array([1, 2], dtype=np.int64)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        write_arrays("fuzzed.npz", arrays)
        file = tmp_path_factory.getbasetemp() / "cache" / "prune-gym" / "fuzzed.npz"
        file.write_bytes(changed_bytes(file.read_bytes(), data.draw))
        found = read_arrays("fuzzed.npz", ["one", "two"])
        assert found is None or found.keys() == arrays.keys()
