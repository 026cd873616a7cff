import numpy as np
import pytest
import torch
from latency_of_tiny import tiny_table
from nets import Tiny, make

from prune_gym.costs.latency import TIMED
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace
from prune_gym.profiling.executorch_program import quantized
from prune_gym.profiling.session import Setting
from prune_gym.profiling.timing import deployed

pytest.importorskip("executorch")
from prune_gym.profiling.executorch_session import ExecuTorchSession  # noqa: E402

SETTING = Setting(batch=1, input_shape=(3, 8, 8), threads=1)
WEIGHTED = [tiny_table().layers[index].name for index in tiny_table().weighted]


def tiny():
    return deployed(Tiny().eval(), tiny_table(), tiny_table().configuration())


def images():
    return torch.from_numpy(SETTING.images())


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "grouped", "preactivation"])
def test_a_float_network_computes_what_pytorch_does_and_times_every_layer(name):
    original = make(name)
    table = trace(original, SETTING.input_shape)
    network = deployed(original, table, table.configuration())
    session = ExecuTorchSession(network, table, SETTING)
    (outputs,) = session.run()
    with torch.no_grad():
        torch.testing.assert_close(outputs, network(images()), atol=1e-4, rtol=0)
    for _ in range(3):
        session.run_profiled()
    layers, times = session.node_times()
    assert list(dict.fromkeys(layers)) == [x.name for x in table.layers if x.kind in TIMED]
    assert times.shape == (3, len(layers)) and (times >= 0).all()


def int8_layers(graph):
    """Return the places of the layers with weights that read them from 8 bits, and their number."""
    weighted = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
    layers = [node for node in graph.graph.nodes if node.target in weighted]
    return {at for at, node in enumerate(layers) if "dequantize" in str(node.args[1].target)}, len(
        layers
    )


@pytest.mark.parametrize("places", [{0}, {1, 2}, {0, 1, 2, 3}])
def test_the_named_layers_are_int8_and_the_others_float(places):
    network = tiny()
    made = quantized(network, (images(),), tiny_table(), [WEIGHTED[at] for at in places])
    assert int8_layers(made) == (places, len(WEIGHTED))
    with torch.no_grad():
        exact = network(images())
        assert 0 < (made(images()) - exact).abs().max() < 0.05 * exact.abs().max()


def test_int8_programs_compute_nearly_what_float_ones_do():
    network = tiny()
    with torch.no_grad():
        exact = network(images())
    session = ExecuTorchSession(network, tiny_table(), SETTING, WEIGHTED)
    (outputs,) = session.run()
    assert 0 < (outputs - exact).abs().max() < 0.05 * exact.abs().max()
    session.run_profiled()
    layers, times = session.node_times()
    assert set(layers) == {x.name for x in tiny_table().layers if x.kind in TIMED}
    assert np.isfinite(times).all()


def test_a_process_measures_with_one_number_of_threads():
    ExecuTorchSession(tiny(), tiny_table(), SETTING)
    with pytest.raises(UserError, match="measures with 1 threads"):
        ExecuTorchSession(tiny(), tiny_table(), SETTING._replace(threads=2))
