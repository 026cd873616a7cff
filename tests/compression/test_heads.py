"""Heads of attention: which are kept, and what repair makes of the rest."""

import numpy as np
import pytest
import torch
from transformers import CUTTABLE, DIM, HEAD_DIM, HEADS, transformer

from prune_gym.compression.calibration import calibrate
from prune_gym.compression.original import Original
from prune_gym.compression.repair import cut_and_repair
from prune_gym.graph.trace import trace

# Groups: the width of tokens, the heads, the width between the two layers of the MLP.
_, HEADS_AT, HIDDEN_AT = range(3)
IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def calibrated(name):
    net = transformer(CUTTABLE[name])
    table = trace(net, (3, 8, 8))
    return net, table, calibrate(net, table, IMAGES)


def test_a_head_that_nothing_reads_goes_first_and_costs_nothing():
    net = transformer(CUTTABLE["timm"])
    net.attn.proj.weight[:, HEAD_DIM : 2 * HEAD_DIM] = 0
    table = trace(net, (3, 8, 8))
    found = calibrate(net, table, IMAGES)
    assert found.orders[HEADS_AT][-1] == 1 and sorted(found.orders[HEADS_AT]) == [*range(HEADS)]
    assert found.errors[HEADS_AT][0] == 1 and found.errors[HEADS_AT][HEADS - 1] < 1e-4
    assert (np.diff(found.errors[0]) <= 0).all()


def test_the_error_curve_is_what_the_best_mix_of_heads_leaves():
    """Against least squares on the inputs of the layer after attention."""
    net, table, found = calibrated("by hand")
    seen = []
    handle = net.attn.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(IMAGES)
    handle.remove()
    rows = seen[0].flatten(0, 1).double()
    weight = net.attn.proj.weight.double()
    for heads in range(1, HEADS):
        kept = np.sort(found.orders[HEADS_AT][:heads])
        at = (kept[:, None] * HEAD_DIM + np.arange(HEAD_DIM)).ravel()
        mix = torch.linalg.lstsq(rows[:, at], rows).solution
        left = (rows - rows[:, at] @ mix) @ weight.T
        expected = float(left.square().sum() / (rows @ weight.T).square().sum())
        assert found.errors[HEADS_AT][heads] == pytest.approx(expected, rel=0.02, abs=1e-5)


@pytest.mark.parametrize("name", ["timm", "BERT", "nn.MultiheadAttention"])
def test_repair_comes_nearer_to_the_original(name):
    net, table, calibration = calibrated(name)
    kept = [
        np.arange(DIM),
        np.sort(calibration.orders[HEADS_AT][:2]),
        np.sort(calibration.orders[HIDDEN_AT][:12]),
    ]
    error = {}
    for repair in ("none", "merge", "least_squares"):
        small = cut_and_repair(Original(net, table, calibration, IMAGES), kept, repair)
        with torch.inference_mode():
            error[repair] = float((small(OTHERS) - net(OTHERS)).square().mean())
    assert error["least_squares"] < error["merge"] < error["none"]


@pytest.mark.parametrize("name", ["timm", "nn.MultiheadAttention"])
def test_a_skipped_block_is_made_up_for(name):
    net, table, calibration = calibrated(name)
    kept = [np.arange(DIM), np.arange(HEADS), np.sort(calibration.orders[HIDDEN_AT][:12])]
    error = {}
    for repair in ("merge", "least_squares"):
        small = cut_and_repair(
            Original(net, table, calibration, IMAGES), kept, repair, skipped=table.blocks[:1]
        )
        with torch.inference_mode():
            error[repair] = float((small(OTHERS) - net(OTHERS)).square().mean())
    assert error["least_squares"] < error["merge"]
