"""The accounting of EMOMC's released code, beside numbers by hand and those of the paper."""

import numpy as np
import pytest
from candidates import network_and_table
from torch import nn

from prune_gym.costs import ENERGIES, build_costs
from prune_gym.costs.energy import DATAFLOWS
from prune_gym.costs.energy_emomc import EmomcEnergy
from prune_gym.costs.size import EMOMC_CODINGS, Size
from prune_gym.errors import UserError
from prune_gym.graph.trace import trace

TABLE_II = {"X:Y": 1.7, "CI:CO": 1.7, "FX:FY": 2.3, "X:FX": 2.6}  # mJ, VGG16 on CIFAR-10


def uniform(table, density, bits):
    layers = len(table.weighted)
    columns = np.full((1, layers), density), np.full((1, layers), bits)
    return table.configuration(density=columns[0], weight_bits=columns[1])


def test_one_strategy_gives_the_papers_energies_within_four_per_cent():
    """Of the interval that a rounded figure stands for; of the figures themselves on average."""
    table = network_and_table("vgg16", 1)[1]
    strategy = uniform(table, 0.42, 5)
    found = {name: EmomcEnergy(table, name)(strategy)[0] for name in DATAFLOWS}
    errors = [np.log(found[name] / paper) for name, paper in TABLE_II.items()]
    assert np.sqrt(np.mean(np.square(errors))) < 0.04
    for name, paper in TABLE_II.items():
        assert (paper - 0.05) * 0.96 < found[name] < (paper + 0.05) * 1.04


@pytest.mark.parametrize(
    ("dataflow", "density"), [("X:Y", 0.40), ("CI:CO", 0.42), ("FX:FY", 0.44), ("X:FX", 0.43)]
)
def test_each_loop_order_has_a_strategy_with_the_papers_energy(dataflow, density):
    """The released code searches under one loop order, so each figure is of another strategy."""
    table = network_and_table("vgg16", 1)[1]
    found = EmomcEnergy(table, dataflow)(uniform(table, density, 5))[0]
    assert found == pytest.approx(TABLE_II[dataflow], rel=0.013)


@pytest.mark.parametrize(
    ("density", "bits", "expected"),
    [
        (0.42, 5, {"X:Y": 1.804, "CI:CO": 1.700, "FX:FY": 2.209, "X:FX": 2.552}),
        (0.2, 8, {"X:Y": 1.093, "CI:CO": 1.895, "FX:FY": 1.445, "X:FX": 1.767}),
    ],
)
def test_energies_are_those_of_the_released_code(density, bits, expected):
    """Figures of Evaluation.py, run on the layers of its VGG16."""
    table = network_and_table("vgg16", 1)[1]
    for name, energy in expected.items():
        found = EmomcEnergy(table, name)(uniform(table, density, bits))[0]
        assert found == pytest.approx(energy, abs=0.001)


def one_layer(layer, size=6):
    return trace(nn.Sequential(layer).eval(), (layer.in_channels, size, size))


ACCESSES = {
    # dataflow -> (inputs, weights, sums written, sums read) of 2,400 multiply-adds at density p:
    # 4 to 5 channels, kernel 3 x 2, output of 4 x 5 pixels
    "X:Y": lambda p: (2_400 * p, 120, 100, 0),
    "FX:FY": lambda p: (2_400 * p, 120, 400 * (1 - (1 - p) ** 6), 400 * (1 - (1 - p) ** 6)),
    "X:FX": lambda p: (
        1_200 * (1 - (1 - p) ** 2),
        480,
        1_200 * (1 - (1 - p) ** 2),
        1_200 * (1 - (1 - p) ** 2),
    ),
    "CI:CO": lambda p: (
        480 * (1 - (1 - p) ** 5),
        2_400,
        600 * (1 - (1 - p) ** 4),
        600 * (1 - (1 - p) ** 4),
    ),
}


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(("density", "bits"), [(1.0, 8), (0.25, 3)])
def test_accesses_by_hand(dataflow, density, bits):
    table = one_layer(nn.Conv2d(4, 5, (3, 2)))
    inputs, weights, written, read = ACCESSES[dataflow](density)
    picojoules = 1.02 * (bits + 1) * 2_400 * density + 7.28 * weights * (bits + 1) / 16
    picojoules += 7.28 * (inputs + read) + 4.47 * written
    found = EmomcEnergy(table, dataflow)(uniform(table, density, bits))[0]
    assert found == pytest.approx(1e-9 * picojoules, rel=1e-12)


@pytest.mark.parametrize(("channels", "all_needed"), [(24, False), (25, True)])
def test_more_than_24_channels_need_every_input_and_sum(channels, all_needed):
    table = one_layer(nn.Conv2d(channels, channels, 1, bias=False), size=1)
    strategy = uniform(table, 0.1, 4)
    kept = table.nonzeros(strategy)[0, 0]
    needed = 1.0 if all_needed else 1 - (1 - kept / channels**2) ** channels
    picojoules = 1.02 * 5 * kept + 7.28 * channels**2 * 5 / 16
    picojoules += (7.28 + 7.28 + 4.47) * channels * needed
    found = EmomcEnergy(table, "CI:CO")(strategy)[0]
    assert found == pytest.approx(1e-9 * picojoules, rel=1e-12)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_linear_layers_keep_their_sums_in_place(dataflow):
    table = trace(nn.Sequential(nn.Flatten(), nn.Linear(48, 10)).eval(), (3, 4, 4))
    picojoules = 1.02 * 9 * 240 + 7.28 * 480 * 9 / 16 + 7.28 * 240 + 4.47 * 10
    found = EmomcEnergy(table, dataflow)(uniform(table, 0.5, 8))[0]
    assert found == pytest.approx(1e-9 * picojoules, rel=1e-12)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("groups", [2, 4])
def test_the_groups_of_a_convolution_are_as_many_convolutions(groups, dataflow):
    together = one_layer(nn.Conv2d(4, 8, 3, groups=groups))
    alone = one_layer(nn.Conv2d(4 // groups, 8 // groups, 3))
    both = (EmomcEnergy(t, dataflow)(uniform(t, 1.0, 8))[0] for t in (together, alone))
    assert next(both) == pytest.approx(groups * next(both), rel=1e-12)


def test_build_costs_offers_both_accountings():
    table = network_and_table("plain")[1]
    strategy = uniform(table, 0.5, 4)
    for name, kind in ENERGIES.items():
        cost = build_costs(table, None, dataflow="X:FX", energy=name)["energy"]
        assert cost(strategy)[0] == kind(table, "X:FX")(strategy)[0]
        assert cost.name == "energy" and cost.metric == "energy_mj"
    with pytest.raises(UserError, match="unknown energy 'emocm'; did you mean 'emomc'"):
        build_costs(table, None, energy="emocm")


def test_a_skipped_block_and_fewer_channels_take_less_energy():
    table = network_and_table("residual")[1]
    layers = len(table.weighted)
    parts = {"density": np.full((1, layers), 0.5), "weight_bits": np.full((1, layers), 4)}
    skip = np.zeros((1, len(table.blocks)), bool)
    for dataflow in DATAFLOWS:
        cost = EmomcEnergy(table, dataflow)
        full = cost(table.configuration(**parts))[0]
        assert cost(table.configuration(**parts, blocks=skip))[0] < full
        assert cost(table.configuration(table.full[None] // 2, **parts))[0] < full


@pytest.mark.parametrize(("coding", "bits"), [("emomc-csr", 8), ("emomc-coo", 5 + 7)])
def test_sizes_are_those_of_the_released_code(coding, bits):
    """120 weights, of which 30 stay: 5 + 3 bits, or round(5 + log2(120)) bits each."""
    table = one_layer(nn.Conv2d(4, 5, (3, 2)))
    assert coding in EMOMC_CODINGS
    assert Size(table, coding)(uniform(table, 0.25, 5))[0] == 30 * bits / 8


def test_csr_is_35_bits_where_a_weight_has_32():
    """Table III: 37.9 MB against 34.7 without pruning of single weights."""
    table = network_and_table("vgg16", 1)[1]
    original = table.configuration()
    weights = table.weights(original).sum()
    assert Size(table, "emomc-csr")(original)[0] == 35 / 8 * weights
    assert Size(table, "emomc-coo")(original)[0] / (4 * weights) == pytest.approx(1.65, abs=0.01)
