import os
import subprocess
import sys

import numpy as np
import pytest
from latency_of_tiny import tiny_table
from nets import Tiny
from places import HELPERS, ROOT

from prune_gym.profiling.onnx_int8 import quantize_model
from prune_gym.profiling.onnx_nodes import to_onnx
from prune_gym.profiling.timing import deployed

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def layers_of(model):
    """Return for each layer of an ONNX model whether its weight is read from int8."""
    graph = onnx.load_from_string(model).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    return [made_by.get(node.input[1]) == "DequantizeLinear" for node in layers]


@pytest.mark.parametrize("floats", [set(), {0}, {1}, {0, 2}])
def test_layers_named_as_float_stay_float(floats):
    table = tiny_table()
    model = to_onnx(deployed(Tiny().eval(), table, table.configuration()), (3, 8, 8), 1)
    names = [table.layers[index].name for index in table.weighted]
    images = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    made = quantize_model(model, [(images,)], table, [names[at] for at in floats])
    assert layers_of(made) == [at not in floats for at in range(len(names))]


def test_models_are_quantized_where_sessions_share_threads(subprocess_env):
    """A process shares its threads once and for all, so this one is not asked to."""
    lines = """
from latency_of_tiny import tiny_table
from nets import Tiny
from prune_gym.profiling.onnx_session import OnnxRuntimeSession, share_threads
from prune_gym.profiling.session import Setting
from prune_gym.profiling.timing import deployed
share_threads(2)
table = tiny_table()
names = [table.layers[index].name for index in table.weighted]
network = deployed(Tiny().eval(), table, table.configuration())
(answer,) = OnnxRuntimeSession(network, table, Setting(1, (3, 8, 8), 2), names[:1]).run()
print(answer.shape)
"""
    variables = subprocess_env | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}"}
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, ")
