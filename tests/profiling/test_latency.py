import importlib.util
import itertools
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_of_tiny import (
    ONE,
    layer_times,
    models_table,
    resnet_table,
    timed,
    tiny_latency,
    tiny_table,
)
from nets import Tiny, make

from prune_gym import models
from prune_gym.cli import main
from prune_gym.costs.latency import Latency, signatures
from prune_gym.costs.latency_table import LatencyTable, LayerTimes, Streaming, load_latency_table
from prune_gym.errors import MissingExtraError, UserError
from prune_gym.graph.trace import trace
from prune_gym.profiling.check_latency_table import Check, check
from prune_gym.profiling.design_of_experiments import grid, lattice, random_strategies
from prune_gym.profiling.fit_conversions import fit_conversions
from prune_gym.profiling.fit_latency_table import Run, fit, run_errors
from prune_gym.profiling.measured_latency import MeasuredLatency
from prune_gym.profiling.profile_network import profile
from prune_gym.profiling.runtimes import RUNTIMES
from prune_gym.profiling.session import Setting
from prune_gym.profiling.timing import Timed

SETTING = Setting(batch=1, input_shape=(3, 8, 8), threads=1)


def random_times(seed=0):
    rng = np.random.default_rng(seed)
    return lambda layer, i, o: rng.uniform(0.1, 1.0, (len(i), len(o)))


def one(latency, widths, **parts):
    return latency(tiny_table().configuration(np.array([widths]), **parts))[0]


@pytest.mark.parametrize("widths", [(12, 16, 16), (6, 16, 8), (12, 8, 16), (6, 8, 8)])
def test_latency_at_grid_points_is_the_tables(widths):
    table, latency, layers = tiny_latency(random_times())
    expected = 0.0
    for key, _, _, _, i, o in timed(table, (table.full, np.array(widths))):
        (inputs, outputs, *_), times = layers[key].axes, layers[key].milliseconds
        expected += times[inputs.tolist().index(i), outputs.tolist().index(o), 0, 0]
    assert one(latency, widths) == pytest.approx(expected, rel=1e-12)


@given(st.tuples(st.integers(1, 12), st.integers(1, 16), st.integers(1, 16)))
def test_latency_of_a_bilinear_table_is_exact_within_the_grid(widths):
    """Bilinear interpolation reproduces a bilinear function; outside, the grid's edge holds."""
    table, latency, _ = tiny_latency(lambda layer, i, o: 1.0 + np.outer(i, o) + i[:, None])
    expected = 0.0
    for _, _, full_i, full_o, i, o in timed(table, (table.full, np.array(widths))):
        i, o = max(i, full_i // 2), max(o, full_o // 4)
        expected += 1.0 + i * o + i
    assert one(latency, widths) == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 5), st.tuples(st.integers(1, 12), st.integers(1, 16), st.integers(1, 16)))
def test_latency_stays_within_its_cells(seed, widths):
    _, latency, layers = tiny_latency(random_times(seed))
    low = high = 0.0
    for key, _, _, _, i, o in timed(tiny_table(), (tiny_table().full, np.array(widths))):
        row, column = (
            slice(max(np.searchsorted(points, count, side="right") - 1, 0), None)
            for points, count in zip(layers[key].axes, (i, o), strict=False)
        )
        cell = layers[key].milliseconds[row, column][:2, :2]
        low += cell.min()
        high += cell.max()
    assert low - 1e-9 <= one(latency, widths) <= high + 1e-9


def resnet_latency(axes=(ONE, ONE), times=lambda key: 1.0):
    """Return the latency of ResNet-20 with a table that knows density and bits."""
    return Latency(resnet_table(), LatencyTable({}, resnet_layers(axes, times)))


def resnet_layers(axes=(ONE, ONE), times=lambda key: 1.0):
    return {
        key: layer_times([1, 64], [1, 64], times(key) * np.ones((2, 2, *map(len, axes))), *axes)
        for key in signatures(resnet_table()).values()
    }


def test_a_skipped_block_takes_no_time():
    table, latency = resnet_table(), resnet_latency()
    count = len(signatures(table))
    assert one(latency, table.full) == count
    blocks = np.ones((1, len(table.blocks)), dtype=bool)
    blocks[0, [1, 4]] = False
    assert one(latency, table.full, blocks=blocks) == count - 4


def test_density_and_bits_count_where_the_table_has_them():
    table = resnet_table()
    scale = np.array([[0.25, 0.5], [0.5, 1.0]])  # (density, bits)
    latency = resnet_latency((np.array([0.5, 1.0]), np.array([8, 32])), lambda key: scale)
    blind, count, weighted = resnet_latency(), len(signatures(table)), len(table.weighted)
    assert one(latency, table.full) == count
    half = {"density": np.full((1, weighted), 0.5), "weight_bits": np.full((1, weighted), 8)}
    assert one(latency, table.full, **half) == 0.25 * weighted + count - weighted
    assert one(blind, table.full, **half) == count
    between = {"density": np.full((1, weighted), 0.75)}
    assert one(latency, table.full, **between) == 0.75 * weighted + count - weighted
    below = {"density": np.full((1, weighted), 0.1)}  # the grid's edge holds
    assert one(latency, table.full, **below) == 0.5 * weighted + count - weighted


def test_channels_are_rounded_up_as_the_runtime_does():
    table = tiny_table()
    layers = {
        key: layer_times([i] if i < 8 else [8, 16], [o] if o < 8 else [8, 16], times, round_up=8)
        for key, _, i, o, *_ in timed(table, (table.full, table.full))
        for times in [np.outer([1] if i < 8 else [8, 16], [1] if o < 8 else [8, 16])]
    }
    latency = Latency(table, LatencyTable({}, layers))
    assert one(latency, (9, 9, 9)) == one(latency, (12, 16, 16)) > one(latency, (8, 8, 8))
    assert one(latency, (1, 2, 3)) == one(latency, (8, 8, 8))


def test_outputs_that_do_not_fill_a_block_cost_more():
    table = tiny_table()
    layers = {
        key: LayerTimes((ONE, np.array([8.0, 16.0]), ONE, ONE), np.ones((1, 2, 1, 1)), 8, extra)
        for key in signatures(table).values()
        for extra in [np.array([0.5, 1.0])]
    }
    latency = Latency(table, LatencyTable({}, layers))
    count = len(layers)
    assert one(latency, (8, 16, 16)) == count + 0.5  # the classifier's 4 outputs
    assert one(latency, (8, 9, 16)) == count + 1.5
    assert one(latency, (7, 16, 16)) == count + 0.5 + 2 * 0.5  # the pool has 7 channels too


def test_networks_larger_than_the_caches_take_longer():
    table, full = resnet_table(), resnet_table().full
    streaming = Streaming(from_mb=0.5, to_mb=1.0, ms_per_mb=2.0)
    layers = resnet_layers()
    latency = Latency(table, LatencyTable({}, layers, streaming))
    megabytes = 4e-6 * sum(
        p.numel() for p in models.build("resnet20", 10).parameters() if p.ndim > 1
    )
    assert megabytes > 1.0
    count = len(signatures(table))
    assert one(latency, full) == pytest.approx(count + 2.0 * megabytes)
    assert one(latency, np.minimum(full, 8)) == count
    blocks = np.ones((1, len(table.blocks)), dtype=bool)
    blocks[0, -2:] = False  # without the largest layers the rest fits
    assert one(latency, full, blocks=blocks) == count - 4


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_a_batch_costs_exactly_what_its_strategies_cost_one_by_one(data):
    table, weighted = resnet_table(), len(resnet_table().weighted)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    n = data.draw(st.integers(1, 40))
    latency = resnet_latency(
        (np.array([0.2, 1.0]), np.array([4, 32])), lambda key: rng.random((2, 2, 2, 2))
    )
    configuration = table.configuration(
        rng.integers(1, table.full + 1, size=(n, len(table.groups))),
        density=rng.random((n, weighted)),
        weight_bits=rng.integers(2, 33, size=(n, weighted)),
        blocks=rng.random((n, len(table.blocks))) < 0.7,
    )
    together = latency(configuration)
    assert together.shape == (n,) and together.dtype == np.float64
    assert together.tolist() == [latency(configuration[row])[0] for row in range(n)]


def test_all_layers_that_a_table_lacks_are_named_at_once():
    keys = list(dict.fromkeys(signatures(tiny_table()).values()))
    with pytest.raises(UserError) as refused:
        Latency(tiny_table(), LatencyTable({"device": "none"}, {}))
    message = str(refused.value)
    assert all(f"\n  {key}\n" in message for key in keys) and "prune-gym profile" in message
    assert message.startswith(f"{len(keys)} of the {len(keys)} layer signatures")
    some = {key: layer_times([1], [1], [1.0]) for key in keys[1:]}
    with pytest.raises(UserError, match=f"^1 of the {len(keys)} .* on a phone:\n  {keys[0]}\n"):
        Latency(tiny_table(), LatencyTable({"device": "a phone"}, some))


def renamed(key, factor):
    kind, _, widths = key.rpartition(", ")
    inputs, outputs = (int(factor * int(number)) for number in widths.split(" to "))
    return f"{kind}, {inputs} to {outputs}"


def test_a_layer_without_entry_takes_the_times_of_the_narrowest_wider_one():
    table, latency, layers = tiny_latency(lambda layer, i, o: np.add.outer(i, 2 * o))
    twice = {renamed(key, 2): entry for key, entry in layers.items()}
    widest = {renamed(key, 4): layer_times([4096], [4096], [1e6]) for key in layers}
    configuration = table.configuration(widths=np.maximum(table.full // 2, 1)[None])
    for entries in (twice, widest | twice):
        found = Latency(table, LatencyTable({"device": "test"}, entries))
        assert found(configuration).tolist() == latency(configuration).tolist()
    narrow = {key: layer_times([1], [1], [1.0]) for key in twice}
    with pytest.raises(UserError, match="layer signatures of this network are not in"):
        Latency(table, LatencyTable({"device": "test"}, narrow))


def write_table(path, layers, **change):
    path.write_text(json.dumps(FORMAT | {"device": "a phone", "layers": layers} | change))
    return str(path)


def test_layers_of_untimed_kinds_take_no_time(tmp_path):
    """A device that timed convolutions only: a pool with an entry still counts."""
    table = resnet_table()
    keys = signatures(table)
    conv = {keys[i]: LAYER for i in keys if table.layers[i].kind == "conv"}
    path = tmp_path / "phone.json"
    with pytest.raises(UserError, match="(?s)^2 of the 8 .* linear 1x1"):
        Latency(table, load_latency_table(write_table(path, conv)))
    latency = load_latency_table(write_table(path, conv, untimed=["linear", "pool", "batch_norm"]))
    count = sum(layer.kind == "conv" for layer in table.layers)
    assert one(Latency(table, latency), table.full) == pytest.approx(0.2 * count)
    pool = {key: LAYER for index, key in keys.items() if table.layers[index].kind == "pool"}
    latency = load_latency_table(write_table(path, conv | pool, untimed=["linear"]))
    assert one(Latency(table, latency), table.full) == pytest.approx(0.2 * count + 0.1 * len(pool))


def test_a_table_without_time_for_a_network_is_refused(tmp_path):
    table, path = resnet_table(), tmp_path / "phone.json"
    zero = LAYER | {"milliseconds": [[0], [0]]}
    keys = signatures(table).values()
    latency = load_latency_table(write_table(path, dict.fromkeys(keys, zero)))
    with pytest.raises(UserError, match="a phone .* 0 ms"):
        Latency(table, latency)
    none = load_latency_table(write_table(path, {}, untimed=["conv", "linear", "pool"]))
    with pytest.raises(UserError, match="layer signatures"):
        Latency(table, none)


def test_the_profile_command_lists_the_signatures(capsys):
    command = ["profile", "--network", "nets:Tiny", "--shape", "3x8x8", "--signatures"]
    assert main(command) == 0
    expected = list(dict.fromkeys(signatures(tiny_table()).values()))
    assert capsys.readouterr().out.splitlines() == expected


FORMAT = {"format": "prune-gym-latency-2"}
LAYER = {"inputs": [1, 2], "outputs": [1], "milliseconds": [[0.1], [0.2]]}


@pytest.mark.parametrize(
    "content",
    [
        '{"format": "prune-gym-lat',
        "[]",
        json.dumps({"format": "prune-gym-latency-9", "layers": {}}),
        json.dumps(FORMAT),
        *(
            json.dumps(FORMAT | {"layers": {"conv": LAYER | change}})
            for change in (
                {"milliseconds": [[0.1]]},
                {"milliseconds": [[0.1], [-0.2]]},
                {"milliseconds": [[0.1], [float("nan")]]},
                {"milliseconds": [[0.1], [float("inf")]]},
                {"milliseconds": [[0.1], [1e308]]},
                {"milliseconds": [[0.1], [10**400]]},
                {"milliseconds": [[0.1], ["0.2"]]},
                {"inputs": [2, 1]},
                {"inputs": [1, 1]},
                {"inputs": [1, float("nan")]},
                {"inputs": [float("-inf"), 1]},
                {"inputs": [[1], [2]]},
                {"inputs": None},
                {"inputs": []},
                {"density": [0.5, 1.0]},
                {"density": [2.0], "milliseconds": [[[0.1]], [[0.2]]]},
                {"round_up": 0},
                {"round_up": True},
                {"round_up": 10**30},
                {"unfilled_milliseconds": [1, 2]},
                {"unfilled_milliseconds": [-1000]},
                {"unfilled_milliseconds": [float("nan")]},
            )
        ),
        json.dumps(FORMAT | {"layers": {"conv": 3}}),
        json.dumps(FORMAT | {"layers": {}, "threads": "two"}),
        json.dumps(FORMAT | {"layers": {}, "runtime": 1}),
        json.dumps(FORMAT | {"layers": {}, "networks": []}),
        json.dumps(FORMAT | {"layers": {}, "untimed": "pool"}),
        json.dumps(FORMAT | {"layers": {}, "untimed": ["pools"]}),
        "[" * 100_000,
        "\udcff",
    ],
)
def test_damaged_latency_tables(tmp_path, content):
    path = tmp_path / "latency.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="latency.json .*prune-gym profile"):
        load_latency_table(str(path))


NUMBERS = st.one_of(
    st.integers(-2, 40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from((10**400, 1e308, None, "1", True)),
)
ANY_JSON = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
AXIS = st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True).map(sorted)


@st.composite
def tables_with_a_fault(draw):
    """Draw the JSON of a table for Tiny in which a few values are replaced at random."""
    layers = {}
    for key in signatures(tiny_table()).values():
        inputs, outputs = draw(AXIS), draw(AXIS)
        times = draw(st.lists(st.floats(0.01, 9), min_size=9, max_size=9))
        grid = np.resize(times, (len(inputs), len(outputs))).tolist()
        layers[key] = {"inputs": inputs, "outputs": outputs, "milliseconds": grid}
    content = FORMAT | {"device": "a phone", "layers": layers}
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from([content, layers, *layers.values()]))
        others = ("round_up", "unfilled_milliseconds", "streaming", "untimed", "density")
        if isinstance(place, dict):
            keys = (*place, *others, "int8", "conversions")
            place[draw(st.sampled_from(keys))] = draw(ANY_JSON)
    return json.dumps(content)


@given(tables_with_a_fault())
@settings(max_examples=150, deadline=None)
def test_a_table_is_refused_by_name_or_gives_finite_times(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_text(content)
    try:
        latency = load_latency_table(str(path))
    except UserError as refused:
        assert str(path) in str(refused)
        return
    try:
        cost = Latency(tiny_table(), latency)
    except UserError as refused:
        assert "layer signatures" in str(refused) or "0 ms" in str(refused)
        return
    widths = np.array([tiny_table().full, [1, 1, 1], [5, 9, 13]])
    times = cost(tiny_table().configuration(widths))
    assert (np.isfinite(times) & (times >= 0)).all() and times[0] > 0


def test_damaged_streaming(tmp_path):
    path = tmp_path / "latency.json"
    for streaming in ({"from_mb": 1}, {"from_mb": 2, "to_mb": 1, "ms_per_mb": 0}, 3):
        path.write_text(json.dumps(FORMAT | {"layers": {}, "streaming": streaming}))
        with pytest.raises(UserError, match="latency.json .*streaming"):
            load_latency_table(str(path))


def test_tables_of_the_first_format_are_to_be_measured_again(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": "prune-gym-latency-1", "layers": {"conv": LAYER}}))
    with pytest.raises(UserError, match="prune-gym-latency-1"):
        load_latency_table(str(path))


def test_a_table_made_elsewhere_may_have_more_axes(tmp_path):
    path = tmp_path / "phone.json"
    layer = {"inputs": [3], "outputs": [4, 8], "density": [0.5, 1.0], "weight_bits": [8, 32]}
    layer |= {"milliseconds": [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]]}
    path.write_text(json.dumps(FORMAT | {"device": "a phone", "layers": {"conv": layer}}))
    latency = load_latency_table(str(path))
    assert latency.about["device"] == "a phone"
    assert latency.layers["conv"].milliseconds.shape == (1, 2, 2, 2)


@pytest.mark.parametrize("size", [3, 8, 16, 24, 64, 160, 512, 1280])
def test_grids_reach_from_the_fewest_channels_to_all(size):
    points = grid(size)
    assert points[0] == min(size, -(-size // 64) * 8) and points[-1] == size
    assert points == sorted(set(points))


def test_a_grid_counts_the_channels_that_each_one_stands_for():
    """Of 32 groups of four: one to four channels of each are 32 to 128."""
    assert grid(4, each=32) == [1, 2, 3, 4]
    assert grid(128, each=1) == [16, 32, 48, 64, 96, 128]
    table = trace(make("grouped"), (3, 8, 8))
    assert {int(widths[1]) for widths in lattice(table)} == {2, 3}
    assert {int(widths[1]) for widths in random_strategies(table, 90, 0)} == {2, 3}


def test_the_lattice_shows_every_layer_all_pairs():
    table = models_table("vgg16")
    designed = np.array(lattice(table))
    inputs, outputs = table.inputs(designed), table.outputs(designed)
    for index in table.weighted[1:-1]:
        i, o = (int(f(table.full[None])[0, index]) for f in (table.inputs, table.outputs))
        seen = set(zip(inputs[:, index], outputs[:, index], strict=True))
        assert seen == set(itertools.product(grid(i), grid(o)))


def test_random_strategies_are_seeded_and_within_bounds():
    table = resnet_table()
    one, again, other = (np.array(random_strategies(table, 20, seed)) for seed in (3, 3, 4))
    assert (one == again).all() and (one != other).any()
    assert (one >= np.minimum(table.full, 8)).all() and (one <= table.full).all()
    assert not (one % 8).any()


def simulated_runs(table, strategies, block, per_node=0.004, noise=0.0, seed=0):
    """Return runs of a machine that works in blocks of channels, seen by a slowing profiler."""
    rng = np.random.default_rng(seed)
    runs = []
    for widths in strategies:
        names, times = [], []
        for _, layer, full_i, _, i, o in timed(table, (table.full, widths)):
            inputs = i if full_i < 8 else -(-i // block) * block
            outputs = o if layer.kind == "linear" else -(-o // block) * block
            names.append(layer.name)
            times.append(0.002 + 1e-6 * layer.out_size[0] ** 2 * inputs * outputs / 16)
        nodes = (np.array(times) + per_node) * (1 + noise * rng.normal(size=len(times)))
        timed_run = Timed(sum(times), 0.0, tuple(names), nodes, np.zeros(len(times)))
        runs.append(Run(widths, timed_run, np.full(len(table.weighted), 32)))
    return runs


@pytest.mark.parametrize("block", [1, 16])
def test_fit_finds_the_profilers_cost_and_the_runtimes_blocks(block):
    table = resnet_table()
    designed = [*lattice(table), *random_strategies(table, 30, 1)]
    latency, spreads = fit(table, simulated_runs(table, designed, block, noise=0.02))
    fresh = simulated_runs(table, random_strategies(table, 20, 5), block)
    assert np.abs(run_errors(table, latency, fresh)).max() < 0.03
    conv = latency.layers["conv 3x3 stride 1 on 16x16, 32 to 32"]
    assert conv.round_up == (16 if block == 16 else 1)
    key = "conv 3x3 stride 1 on 16x16, 32 to 32"
    assert spreads[key].shape == conv.milliseconds.shape[:2]


@pytest.fixture
def quick(monkeypatch):
    """Measure as little as possible: figures of tests are not used."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for name, value in {"PASSES": 2, "VISIT_SECONDS": 0.0, "WARM_UP_SECONDS": 0.0}.items():
        monkeypatch.setattr(f"prune_gym.profiling.timing.{name}", value)
    for module in ("timing", "profile_network"):  # on a busy machine, too, no run is left out
        monkeypatch.setattr(f"prune_gym.profiling.{module}.DISTURBED_RATIO", np.inf)
    runs = {"LATTICE_RUNS": 3, "RANDOM_RUNS": 4, "MIXED_RUNS": 3}
    for name, value in runs.items():
        monkeypatch.setattr(f"prune_gym.profiling.profile_network.{name}", value)
    monkeypatch.setattr("prune_gym.profiling.measured_latency.REPEATS", 1)
    monkeypatch.setattr("prune_gym.profiling.measured_latency.SECONDS", 0.0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def profile_tiny(out, runtime="onnxruntime", **change):
    options = {"name": "tiny", "device": "a test", "setting": SETTING} | change
    profile(Tiny().eval(), runtime=runtime, out=out, **options)


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """Return a runtime that is installed."""
    if request.param != "torch":
        pytest.importorskip(request.param)
    return request.param


def test_profile_writes_a_table_that_serves(runtime, quick, tmp_path):
    table, out = tiny_table(), tmp_path / "latency.json"
    profile_tiny(out, runtime)
    loaded = load_latency_table(str(out))
    latency = Latency(table, loaded)
    assert one(latency, (12, 16, 16)) > 0 and one(latency, (2, 2, 2)) >= 0
    content = json.loads(out.read_text())
    assert content["device"] == "a test" and content["threads"] == 1 and content["batch"] == 1
    assert content["runtime"] == runtime and content["version"] and content["processor"]
    assert content["networks"]["tiny"]["input_shape"] == [3, 8, 8]
    conv = content["layers"]["conv 3x3 stride 1 on 4x4, 12 to 16"]
    shape = (len(conv["inputs"]), len(conv["outputs"]))
    assert np.shape(conv["milliseconds"]) == np.shape(conv["interquartile_range"]) == shape
    assert conv["inputs"][-1] >= 12 and conv["outputs"][-1] >= 16
    result = check(Tiny(), loaded, (3, 8, 8), count=3)
    assert result.predicted.shape == result.measured.shape == (3,)
    assert (result.measured > 0).all() and "rank correlation" in str(result)


def test_profile_refuses_a_machine_that_is_too_busy(quick, tmp_path, monkeypatch):
    monkeypatch.setattr("prune_gym.profiling.profile_network.DISTURBED_RATIO", 0.0)
    with pytest.raises(UserError, match="7 of 7"):
        profile_tiny(tmp_path / "latency.json")
    assert not (tmp_path / "latency.json").exists()


@pytest.mark.ci
def test_profile_measures_int8_layers_and_conversions(runtime, quick, tmp_path):
    if not RUNTIMES[runtime].has_int8:
        pytest.skip(f"{runtime} has no int8")
    out = tmp_path / "latency.json"
    profile_tiny(out, runtime, int8=True)
    loaded, table = load_latency_table(str(out)), tiny_table()
    content = json.loads(out.read_text())
    assert all("int8" in layer for layer in content["layers"].values())
    assert set(content["conversions"]) == {"to_int8", "to_float"}
    latency = Latency(table, loaded)
    assert latency.depends_on_bits
    bits = np.full((1, len(table.weighted)), 8)
    assert latency(table.configuration(table.full[None], weight_bits=bits))[0] > 0
    result = check(Tiny(), loaded, (3, 8, 8), count=3, mixed=True)
    assert (result.measured > 0).all() and (result.predicted > 0).all()


def test_int8_needs_a_runtime_and_a_table_that_have_it(tmp_path):
    with pytest.raises(UserError, match="torch .*int8"):
        profile_tiny(tmp_path / "x.json", "torch", int8=True)
    with pytest.raises(UserError, match="bits"):
        check(resnet(), load_latency_table("reference-cpu"), (3, 32, 32), mixed=True)


def resnet():
    return models.build("resnet20", 10).eval()


def test_conversions_are_found_again():
    table, rng = resnet_table(), np.random.default_rng(1)
    layers = {}
    for key, _, i, o, *_ in timed(table, (table.full, table.full)):
        layers[key] = layer_times([i], [o], 0.1, int8=layer_times([i], [o], 0.02))
    conversions = (0.004, 1.0, 0.006, 2.0)
    bits = rng.choice([8, 32], size=(40, len(table.weighted)))
    widths = np.stack(random_strategies(table, 40, 0))
    configuration = table.configuration(widths, weight_bits=bits)
    made = LatencyTable({}, layers, conversions=conversions)
    measured = Latency(table, made)(configuration)
    found = fit_conversions(table, LatencyTable({}, layers), configuration, measured)
    np.testing.assert_allclose(found, conversions, rtol=1e-6)


def test_a_file_holds_several_networks_of_one_device_and_setting(quick, tmp_path):
    out = tmp_path / "latency.json"
    profile_tiny(out, setting=Setting(1, (3, 12, 12), 1))
    profile_tiny(out, name="smaller images")
    content = json.loads(out.read_text())
    assert list(content["networks"]) == ["tiny", "smaller images"]
    for shape in ((3, 12, 12), (3, 8, 8)):
        Latency(trace(Tiny().eval(), shape), load_latency_table(str(out)))
    before = out.read_bytes()
    for change in ({"device": "another"}, {"setting": SETTING._replace(batch=2)}):
        with pytest.raises(UserError, match="has (device|batch) "):
            profile_tiny(out, **change)
    with pytest.raises(UserError, match="'onnxruntime'.*'torch'"):
        profile_tiny(out, "torch")
    assert out.read_bytes() == before


def test_profile_refuses_files_that_are_no_tables(tmp_path):
    out = tmp_path / "notes.json"
    out.write_text("{}")
    with pytest.raises(UserError, match="notes.json"):
        profile_tiny(out, "torch")
    assert out.read_text() == "{}"


@pytest.mark.parametrize("runtime", ["openvino", "executorch"])
def test_a_runtime_that_is_not_installed_names_its_extra(runtime, tmp_path):
    if importlib.util.find_spec(runtime):
        pytest.skip(f"{runtime} is installed")
    with pytest.raises(MissingExtraError, match=rf"pip install 'prune-gym\[{runtime}\]'"):
        profile_tiny(tmp_path / "x.json", runtime)


def test_unknown_runtimes_name_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="unknown runtime 'onnx'; did you mean 'onnxruntime'"):
        profile_tiny(tmp_path / "x.json", "onnx")


def test_the_profile_command_asks_for_a_name_of_the_device(capsys):
    assert main(["profile", "--network", "vgg16"]) == 2
    assert "--device is missing" in capsys.readouterr().err


def test_the_profile_command_measures_a_network_of_ones_own(quick, tmp_path, capsys):
    out = tmp_path / "latency.json"
    command = ["profile", "--network", "nets:Tiny", "--runtime", "torch", "--threads", "1"]
    command += ["--device", "a test", "--out", str(out)]
    assert main(command) == 2
    assert "--shape is missing: give the image shape of nets:Tiny" in capsys.readouterr().err
    built_in = ["profile", "--network", "vgg16", "--shape", "3x64x64", *command[3:]]
    assert main(built_in) == 2
    assert "vgg16 takes 3x32x32" in capsys.readouterr().err
    assert main(["profile", "--check", "--latency", "reference-cpu", "--threads", "1"]) == 2
    assert "--threads: the table was measured with 2, got 1" in capsys.readouterr().err
    assert main([*command, "--shape", "3x8x8", "--network", "resnet21"]) == 2
    assert "unknown network 'resnet21'" in capsys.readouterr().err
    assert not out.exists()  # nothing is measured before all names are known
    assert main([*command, "--shape", "3x8x8"]) == 0
    Latency(tiny_table(), load_latency_table(str(out)))
    assert main([*command, "--shape", "3x8x8", "--check"]) == 0
    assert "nets:Tiny: median error" in capsys.readouterr().out


def test_a_shape_that_is_none(capsys):
    for shape in ("1x2x3x4x5", "3x8x0", "axbxc"):
        with pytest.raises(SystemExit, match="2"):
            main(["profile", "--network", "nets:Tiny", "--shape", shape])
        shown = " ".join(capsys.readouterr().err.split())
        assert "expected CHANNELSxHEIGHTxWIDTH, such as 3x32x32" in shown
        assert f"got '{shape}'" in shown


def test_the_check_of_a_runtime_that_is_not_here(tmp_path, capsys):
    path = tmp_path / "phone.json"
    about = {"device": "a phone", "runtime": "tflite", "batch": 1, "threads": 1}
    keys = signatures(resnet_table()).values()
    layer = {"inputs": [1], "outputs": [1], "milliseconds": [[1.0]]}
    path.write_text(json.dumps(FORMAT | about | {"layers": dict.fromkeys(keys, layer)}))
    assert main(["profile", "--check", "--latency", str(path), "--network", "resnet20"]) == 2
    assert re.search("unknown runtime 'tflite'", " ".join(capsys.readouterr().err.split()))


def test_a_table_that_does_not_say_its_runtime_cannot_be_checked(tmp_path, capsys):
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(FORMAT | {"device": "a phone", "layers": {}}))
    assert main(["profile", "--check", "--latency", str(path), "--network", "resnet20"]) == 2
    assert "does not say its runtime, threads, batch" in " ".join(capsys.readouterr().err.split())


def test_a_check_of_calls_that_differ_says_so():
    times = np.array([1.0, 2.0])
    assert "differed by 40%" in Check(times, times, 10.0, 10.0, spread=0.4).warning
    assert not Check(times, times, 10.0, 10.0, spread=0.1).warning


def test_a_check_counts_the_networks_that_are_near():
    predicted = np.array([1.0, 1.04, 1.08, 1.3])
    result = Check(predicted * [1, 2, 3, 4], np.array([1.0, 2.0, 3.0, 4.0]), 1.0, 1.0)
    assert result.within(0.05) == 0.5 and result.within(0.1) == 0.75
    assert "50% of the networks within 5 %, 75% within 10 %" in str(result)


def test_what_a_check_says():
    result = Check(np.array([1.1, 2.2, 4.4]), np.array([1.0, 2.0, 4.0]), 11.0, 10.0)
    np.testing.assert_allclose(result.errors, 0.1)
    np.testing.assert_allclose(result.relative_errors, 0.0, atol=1e-12)
    assert result.rank_correlation == pytest.approx(1.0)
    assert str(result).startswith("median error 10.0%, of the share of the original 0.0%")
    assert not result.warning


@pytest.mark.parametrize(("original", "word"), [(14.0, "40% slower"), (7.0, "30% faster")])
def test_a_check_on_a_busy_machine_says_so(original, word):
    times = np.array([1.0, 2.0])
    assert word in Check(times, times * original / 10, 10.0, original).warning


def test_measured_latency_times_each_strategy_once(runtime, quick):
    network = models.build("resnet20", 10).eval()
    table = resnet_table()
    cost = MeasuredLatency(network, table, (3, 32, 32), runtime=runtime, threads=1)
    assert not cost.deterministic and cost.platform_dependent and cost.metric == "latency_ms"
    widths = np.stack([table.full, np.minimum(table.full, 8), table.full])
    blocks = np.ones((3, len(table.blocks)), dtype=bool)
    blocks[2, [0, 1, 3]] = False
    configuration = table.configuration(widths, blocks=blocks)
    times = cost(configuration)
    assert times.shape == (3,) and (times > 0).all()
    assert cost(configuration).tolist() == times.tolist()
    assert cost(configuration[1])[0] == times[1]
