"""What a network is measured on, and the order of its channels."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from nets import make
from transformers import CUTTABLE, transformer

from prune_gym.compression.calibration import calibrate, every, greedy_order
from prune_gym.costs.flops import Flops
from prune_gym.graph.trace import trace

IMAGES = torch.randn(512, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def greedy_by_definition(pairs):
    """Choose the channel of the largest gain, with the Schur complement from scratch each time."""
    size = len(pairs[0][1])
    kept, errors = [], []
    ridged = [(m, g + 1e-6 * g.diagonal().mean() * np.eye(size)) for m, g in pairs]
    for _ in range(size):
        gain = np.zeros(size)
        for m, g in ridged:
            schur = g - g[:, kept] @ np.linalg.solve(g[kept][:, kept], g[kept])
            energy = np.einsum("ij,ik,kj->j", schur, m, schur)
            gain += energy / np.where(np.isin(range(size), kept), np.inf, schur.diagonal())
            errors.append(np.trace(m @ schur))
        kept.append(int(gain.argmax()))
    errors = np.array(errors).reshape(size, -1).sum(1)
    return kept, errors / errors[0]


@pytest.mark.parametrize("consumers", [1, 3])
def test_the_order_is_greedy_also_where_it_is_longer_than_one_block_of_steps(consumers):
    rng = np.random.default_rng(consumers)
    size, pairs = 75, []
    for _ in range(consumers):
        inputs = rng.normal(size=(size, 200)) * rng.gamma(0.5, size=(size, 1))
        weights = rng.normal(size=(size, 30))
        pairs.append((weights @ weights.T, inputs @ inputs.T))
    order, errors = greedy_order([tuple(map(torch.from_numpy, pair)) for pair in pairs])
    expected, curve = greedy_by_definition(pairs)
    assert order.tolist() == expected
    np.testing.assert_allclose(errors, [*curve, 0], atol=1e-6)
    assert (np.diff(errors) <= 0).all()


def test_channels_that_nothing_reads_come_last():
    weights, moments = np.eye(40), np.eye(40)
    weights[:5] = 0
    order, errors = greedy_order([(torch.from_numpy(weights), torch.from_numpy(moments))])
    assert sorted(order[-5:]) == [0, 1, 2, 3, 4] and (errors[35:] == 0).all()


@pytest.mark.parametrize(("affordable", "step"), [(512, 1), (256, 2), (200, 3), (1, 4)])
def test_a_large_network_is_measured_on_some_of_the_images(affordable, step, monkeypatch):
    table = trace(make("plain"), (3, 8, 8))
    each = Flops(table)(table.configuration())[0]
    monkeypatch.setattr("prune_gym.compression.calibration.MULTIPLY_ADDS", affordable * each)
    assert every(table, 512) == step  # at least 128 images
    assert every(table, 100) == 1


@pytest.mark.parametrize(
    "net", [make("plain"), transformer(CUTTABLE["BERT"])], ids=["maps", "tokens"]
)
def test_the_moments_of_some_places_are_those_of_all(net, monkeypatch):
    table = trace(net, (3, 8, 8))
    whole = calibrate(net, table, IMAGES)
    for name, value in (("MULTIPLY_ADDS", 1), ("PIXELS_PER_MAP", 4)):  # its maps are small
        monkeypatch.setattr(f"prune_gym.compression.calibration.{name}", value)
    some = calibrate(net, table, IMAGES)
    counts = set()
    for name, moment in whole.moments.items():
        counts.add(round(moment.trace() / some.moments[name].trace()))
        shares = [each / each.diagonal().mean() for each in (moment, some.moments[name])]
        assert np.linalg.norm(shares[1] - shares[0]) < 0.15 * np.linalg.norm(shares[0])
    assert max(counts) > 1


@pytest.mark.ci
def test_tracing_does_not_import_pytorchs_compiler():
    """It takes seconds."""
    code = (
        "import sys, torch\n"
        "from prune_gym.graph.trace import trace\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 3))\n"
        "trace(net.eval(), (3, 8, 8))\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
