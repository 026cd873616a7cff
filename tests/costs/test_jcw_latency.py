import json

import numpy as np
import pytest
from latency_of_tiny import Latency, trace
from scipy.interpolate import interpn

from prune_gym import models
from prune_gym.cli import main
from prune_gym.costs.latency_table import load_latency_table

# All convolutions of ResNet-18 in the order and form of JCW's conv_info.log.
STAGES = [(64, 56, 64, 1), (64, 56, 128, 2), (128, 28, 256, 2), (256, 14, 512, 2)]


def convolutions():
    lines = [(3, 224, 64, 7, 2)]
    for inputs, size, outputs, stride in STAGES:
        small = size // stride
        lines += [(inputs, size, outputs, 3, stride), (outputs, small, outputs, 3, 1)]
        lines += [(inputs, size, outputs, 1, 2)] * (stride == 2)
        lines += [(outputs, small, outputs, 3, 1)] * 2
    return lines


@pytest.fixture
def published(tmp_path):
    """Return the two files; equal convolutions take equal times, the first takes none."""
    lines = convolutions()
    rng = np.random.default_rng(0)
    grid = {line: np.cumsum(rng.uniform(size=(9, 9, 11)), axis=2) for line in lines}
    grid[lines[0]] = np.zeros((9, 9, 11))
    times, log = tmp_path / "runtime.npy", tmp_path / "conv_info.log"
    np.save(times, np.stack([grid[line] for line in lines]))
    log.write_text("".join(" ".join(map(str, line)) + " False\n" for line in lines))
    return times, log


def test_the_latency_of_resnet18_is_that_of_their_interpolation(published, tmp_path, capsys):
    out = tmp_path / "jcw.json"
    assert (
        main(["latency", "convert", *map(str, published), "--device", "ARM", "--out", str(out)])
        == 0
    )
    assert "11 layers" in capsys.readouterr().out
    table = trace(models.build("resnet18", 10).eval(), (3, 224, 224))
    cost = Latency(table, load_latency_table(str(out)))
    rng = np.random.default_rng(1)
    widths = np.array([rng.integers(group.size // 2, group.size + 1) for group in table.groups])[
        None
    ]
    density = rng.uniform(0.3, 1, size=(1, len(table.weighted)))
    inputs, outputs = table.inputs(widths)[0], table.outputs(widths)[0]
    times, expected = np.load(published[0]), 0.0
    shares = np.linspace(0, 1, 11)
    lines = convolutions()
    for column, index in enumerate(table.weighted):
        layer = table.layers[index]
        full_i, full_o = (int(f(table.full[None])[0, index]) for f in (table.inputs, table.outputs))
        line = (full_i, layer.in_size[0], full_o, layer.kernel[0], layer.stride)
        if layer.kind != "conv" or line == lines[0]:
            continue
        grid = (np.linspace(0, full_o, 9), np.linspace(0, full_i, 9), shares)
        at = [outputs[index], inputs[index], density[0, column]]
        expected += interpn(grid, times[lines.index(line)], at)[0]
    got = cost(table.configuration(widths, density=density))[0]
    assert got == pytest.approx(expected, rel=1e-9)


def test_files_that_do_not_belong_together(published, tmp_path, capsys):
    times, log = published
    command = ["latency", "convert", str(times), str(log), "--device", "ARM"]
    command += ["--out", str(tmp_path / "out.json")]

    def refused():
        assert main(command) == 2
        return " ".join(capsys.readouterr().err.split())

    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    assert "times of 20 convolutions" in refused()
    log.write_text("64 56 64 three 1 False\n")
    assert "line 1: expected INPUTS SIZE" in refused()
    log.unlink()
    assert "no such file" in refused()
    np.save(times, np.ones((2, 3)))
    assert "expected times of the shape" in refused()
    times.write_text(json.dumps([]))
    assert "is not an array of NumPy" in refused()
    assert not (tmp_path / "out.json").exists()
