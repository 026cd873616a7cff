import json

import numpy as np
import pytest
from latency_of_tiny import layer_times, models_table, resnet_table, timed

from prune_gym.costs.latency import Latency, weight_megabytes
from prune_gym.costs.latency_table import LatencyTable, Streaming, load_latency_table
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError

TO_INT8, MILLION_TO_INT8, TO_FLOAT, MILLION_TO_FLOAT = CONVERSIONS = (0.01, 1.0, 0.02, 3.0)
FLOAT_MS, INT8_MS = 1.0, 0.25


def table_of(table, conversions=CONVERSIONS, **parts):
    """Return a table in which a layer takes 1 ms in float and a quarter in int8."""
    layers = {}
    for key, _, i, o, *_ in timed(table, (table.full, table.full)):
        int8 = layer_times([i], [o], INT8_MS)
        layers[key] = layer_times([i], [o], FLOAT_MS, int8=int8)
    return LatencyTable({"device": "test"}, layers, conversions=conversions, **parts)


def cost(table, bits, **parts):
    count = len(bits)
    widths = np.repeat(table.full[None], count, axis=0)
    configuration = table.configuration(widths, weight_bits=np.array(bits), **parts)
    return Latency(table, table_of(table))(configuration)


def bits_of(table, int8=()):
    names = [table.layers[index].name for index in table.weighted]
    return [8 if name in int8 else 32 for name in names]


def test_all_layers_of_8_bits_or_fewer_run_in_int8():
    table = models_table("vgg16")
    layers = len([*timed(table, (table.full, table.full))])
    rows = [[32] * len(table.weighted), [8] * len(table.weighted), [3] * len(table.weighted)]
    np.testing.assert_allclose(cost(table, rows), [layers, layers / 4, layers / 4])


def test_a_layer_between_float_layers_takes_two_conversions():
    """The second convolution of VGG16 reads 64 maps of 32x32; the pool after it is int8 too."""
    table = models_table("vgg16")
    float_only, one = cost(table, [bits_of(table), bits_of(table, {"features.3"})])
    read, written = 64 * 32 * 32 / 1e6, 64 * 16 * 16 / 1e6
    converted = TO_INT8 + MILLION_TO_INT8 * read + TO_FLOAT + MILLION_TO_FLOAT * written
    assert one == pytest.approx(float_only - 2 * (FLOAT_MS - INT8_MS) + converted)


def test_an_addition_converts_the_tensor_that_is_not_as_the_latest():
    """Both the branch and the next convolution are float; only the shortcut comes from int8."""
    table = resnet_table()
    float_only, one = cost(table, [bits_of(table), bits_of(table, {"conv1"})])
    numbers = 16 * 32 * 32 / 1e6
    # Read by layer1.0.conv1 and by the addition.
    converted = 2 * (TO_FLOAT + MILLION_TO_FLOAT * numbers)
    assert one == pytest.approx(float_only - (FLOAT_MS - INT8_MS) + converted)


def test_skipped_blocks_convert_nothing():
    table = resnet_table()
    names = {"layer1.0.conv1", "layer1.0.conv2"}
    blocks = np.ones((1, len(table.blocks)), dtype=bool)
    blocks[0, 0] = False
    skipped, without = (
        cost(table, [bits_of(table, int8)], blocks=blocks)[0] for int8 in (names, ())
    )
    assert skipped == without


def test_strategies_cost_the_same_alone_and_among_others():
    table, rng = resnet_table(), np.random.default_rng(0)
    bits = rng.choice([2, 8, 32], size=(20, len(table.weighted)))
    bits[0] = 32
    together = cost(table, bits)
    assert together.tolist() == [cost(table, bits[row : row + 1])[0] for row in range(20)]


def test_int8_weights_are_a_quarter_of_what_streams_from_memory():
    table = models_table("vgg16")
    eight = table.configuration(table.full[None], weight_bits=np.full((1, len(table.weighted)), 8))
    all_int8 = np.ones((1, len(table.weighted)), dtype=bool)
    megabytes = weight_megabytes(table, eight, all_int8)[0]
    assert megabytes == weight_megabytes(table, eight)[0] / 4
    streaming = Streaming(1.0, 2.0, 0.5)
    with_it, without = (
        Latency(table, table_of(table, **parts))(eight)[0]
        for parts in ({"streaming": streaming}, {})
    )
    assert with_it - without == pytest.approx(0.5 * megabytes)


def test_a_file_with_int8_times(tmp_path):
    path = tmp_path / "int8.json"
    layer = {"inputs": [3], "outputs": [4, 8], "milliseconds": [[1, 2]]}
    layer["int8"] = {"inputs": [3], "outputs": [8], "milliseconds": [[0.5]], "round_up": 4}
    content = {"format": "prune-gym-latency-2", "layers": {"conv": layer}}
    content["conversions"] = {"to_int8": [0.1, 0.2], "to_float": [0.3, 0.4]}
    path.write_text(json.dumps(content))
    latency = load_latency_table(str(path))
    assert latency.conversions == (0.1, 0.2, 0.3, 0.4)
    assert latency.layers["conv"].int8.milliseconds.ravel().tolist() == [0.5]
    for conversions in ({"to_int4": [1, 2]}, {"to_int8": [1]}, {"to_int8": [-1, 2]}, 3):
        path.write_text(json.dumps(content | {"conversions": conversions}))
        with pytest.raises(UserError, match="int8.json .*conversions"):
            load_latency_table(str(path))


def test_with_the_shipped_table_of_int8_latency_is_an_objective_and_a_budget_of_bits():
    env = compression_env(
        network="resnet20",
        decide=("weight_bits",),
        bits=(8, 32),
        latency="intel-xeon-int8",
        objectives=("accuracy", "latency"),
        budgets={"latency": 0.7},
    )
    problem = env.problem
    eight, floats = problem.space.lower[None], problem.space.upper[None]
    assert 0.3 < problem.savings(eight)[0, 1] < 0.6  # of the time in float32
    assert problem.savings(floats)[0, 1] == 0
    assert problem.feasible(np.stack([eight[0], floats[0]])).tolist() == [True, False]


def test_a_table_that_ignores_bits_is_named_where_latency_of_bits_is_asked_for(caplog):
    arguments = {"network": "resnet20", "decide": ("weight_bits",), "latency": "reference-cpu"}
    env = compression_env(**arguments, objectives=("accuracy", "latency"))
    assert "reference-cpu does not depend on bits" in caplog.text and "--int8" in caplog.text
    lowest = env.problem.space.lower[None]
    assert env.problem.savings(lowest)[0, 1] == 0
    caplog.clear()
    compression_env(**arguments, objectives=("accuracy", "size"))
    assert not caplog.text
