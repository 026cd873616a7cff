"""What of a network can be cut, and the reasons for the rest, by function and command."""

import pytest
import torch
from nets import Odd, make
from torch import nn

from prune_gym.cli import main
from prune_gym.graph.explain import explain, reasons
from prune_gym.graph.trace import trace
from prune_gym.graph.unwrap import unwrapped


def upsampled():
    return Odd(lambda net, x: net.up(x), up=nn.ConvTranspose2d(4, 4, 2, 2)).eval()


def test_shares_groups_and_reasons():
    found = explain(trace(upsampled(), (3, 8, 8)))
    assert [(group.name, group.size) for group in found.groups] == [("second", 4)]
    assert ("first", 4, "up", "ConvTranspose2d") in {
        (pin.layer, pin.channels, pin.by, pin.why) for pin in found.pins
    }
    # Of 16 + 68 + 20 + 20 parameters second loses 3 rows and out 3 columns.
    assert found.parameters == pytest.approx((3 * 5 + 3 * 4) / 124)
    whole = 64 * 12 + 64 * 64 + 256 * 16 + 16
    assert found.multiply_adds == pytest.approx((256 * 12 + 12) / whole)
    assert found.uncounted == (("up", 64 * 64),)


def test_reasons_are_one_line_with_the_most_channels_first():
    line = reasons(trace(upsampled(), (3, 8, 8)))
    assert line.startswith("4 channels by 'up' (ConvTranspose2d); 4 channels by 'output'")


def test_the_command_explains_a_named_network(capsys):
    assert main(["explain", "resnet20"]) == 0
    shown = capsys.readouterr().out
    assert "resnet20 on 3x32x32: 99." in shown and "layer3.2.conv1" in shown
    assert "by output: it is the network's output" in shown


def test_the_command_asks_for_the_shape_of_an_own_network(capsys):
    assert main(["explain", "own_module:build"]) == 2
    assert "--shape" in capsys.readouterr().err


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_taken_off(wrap):
    net = make("plain")
    assert unwrapped(wrap(net)) is net and unwrapped(wrap(nn.DataParallel(net))) is net
