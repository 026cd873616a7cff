import dataclasses

import numpy as np
import pytest
from candidates import BITS, network_and_table, strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prune_gym.costs.energy import (
    ADDER_PJ,
    DATAFLOWS,
    READ_PJ,
    WRITE_PJ,
    Energy,
    _arithmetic,
    sharing,
)
from prune_gym.graph.trace import trace


def adders(weight_bits, activation_bits, fan_in=1):
    bits = np.array([weight_bits]), np.array([activation_bits])
    return _arithmetic(*bits, np.array([float(fan_in)]))[0][0]


@pytest.mark.parametrize(
    ("weight_bits", "activation_bits", "multiply", "add"),
    [(32, 32, 506, 23), (8, 16, 72, 23), (8, 8, 56, 16), (1, 1, 0, 2), (2, 8, 14, 10)],
)
def test_adders_are_those_of_the_paper(weight_bits, activation_bits, multiply, add):
    """506 for two float32, 72 for a float16 and 8 bits (EMOMC, page 12)."""
    assert adders(weight_bits, activation_bits) == multiply + add
    assert adders(activation_bits, weight_bits) == multiply + add


@given(st.sampled_from(BITS), st.sampled_from(BITS), st.integers(1, 2**16))
def test_arithmetic_grows_with_the_bits(weight_bits, activation_bits, fan_in):
    wider = [bits for bits in BITS if bits >= weight_bits]
    costs = [adders(bits, activation_bits, fan_in) for bits in wider]
    assert costs == sorted(costs)


def one_layer(layer, size=6):
    """Return the table of a network in which ``layer`` is cut at neither end."""
    return trace(nn.Sequential(layer).eval(), (layer.in_channels, size, size))


ACCESSES = {
    # dataflow -> (inputs read, weights read, sums begun and written, sums visited again), by hand,
    # for a convolution of 4 to 5 channels, kernel 3 x 2, output of 4 x 5 pixels
    "X:Y": (2_400, 120, 100, 0),
    "FX:FY": (2_400, 120, 100, 300),
    "X:FX": (1_200, 480, 100, 1_100),
    "CI:CO": (480, 2_400, 100, 500),
}


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_accesses_by_hand(dataflow):
    """2,400 = 4 * 5 * 3 * 2 * 20 multiply-adds of two float32."""
    table = one_layer(nn.Conv2d(4, 5, (3, 2)))
    inputs, weights, begun, visits = ACCESSES[dataflow]
    picojoules = ADDER_PJ * (506 + 23) * 2_400 + READ_PJ * 32 * (inputs + weights)
    picojoules += WRITE_PJ * 32 * begun + (READ_PJ + WRITE_PJ) * 32 * visits
    found = Energy(table, dataflow)(table.configuration())
    assert found[0] == pytest.approx(1e-9 * picojoules, rel=1e-12)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(8, 12, 4), (4, 8, 4), (4, 4, 4)])
def test_the_groups_of_a_convolution_are_as_many_convolutions(inputs, outputs, groups, dataflow):
    together = one_layer(nn.Conv2d(inputs, outputs, 3, groups=groups))
    alone = one_layer(nn.Conv2d(inputs // groups, outputs // groups, 3))
    all_of_it, one = (Energy(t, dataflow)(t.configuration())[0] for t in (together, alone))
    assert all_of_it == pytest.approx(groups * one, rel=1e-12)


PRODUCTS = {
    # dataflow -> (first matrix read, second read, sums begun and visited again), by hand, for a
    # product of 5 x 3 and 3 x 7
    "X:Y": (105, 21, 35, 0),
    "FX:FY": (105, 21, 35, 70),
    "X:FX": (105, 21, 35, 70),
    "CI:CO": (15, 105, 35, 0),
}


class Products(nn.Module):
    """Two heads, each a product of 5 x 3 and 3 x 7."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(4, 6)
        self.head = nn.Linear(14, 2)

    def forward(self, x):
        left, right = self.left(x[:, 0, :5]), self.right(x[:, 0])
        left, right = (each.unflatten(-1, (-1, 3)).transpose(1, 2) for each in (left, right))
        return self.head((left @ right.mT).transpose(1, 2).flatten(2)).mean(1)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_products_of_attention_by_hand(dataflow):
    """105 = 5 * 3 * 7 multiply-adds of two float32 for each head."""
    table = trace(Products().eval(), (1, 7, 4))
    (heads,) = (i for i, group in enumerate(table.groups) if group.size == 2)
    first, second, begun, visits = PRODUCTS[dataflow]
    each = ADDER_PJ * (506 + 23) * 105 + READ_PJ * 32 * (first + second)
    each += WRITE_PJ * 32 * begun + (READ_PJ + WRITE_PJ) * 32 * visits
    plain = dataclasses.replace(table, layers=without_products(table))
    for count in (1, 2):
        widths = table.full.copy()
        widths[heads] = count
        energies = [Energy(t, dataflow)(t.configuration(widths[None]))[0] for t in (table, plain)]
        assert energies[0] - energies[1] == pytest.approx(1e-9 * count * each, rel=1e-9)


def without_products(table):
    return tuple(dataclasses.replace(layer, products=()) for layer in table.layers)


def loop_nest(dataflow, density, rng):
    """Count accesses of a small convolution, loop by loop, with random zeros in its weights."""
    X, Y, FX, FY, CI, CO = 4, 3, 3, 2, 3, 4
    kept = rng.random((CO, CI, FY, FX)) < density
    spatial = dataflow.split(":")
    sizes = {"X": X, "Y": Y, "FX": FX, "FY": FY, "CI": CI, "CO": CO}
    reads = {"input": set(), "sum": set()}
    for at in np.ndindex(*sizes.values()):
        loop = dict(zip(sizes, at, strict=True))
        if not kept[loop["CO"], loop["CI"], loop["FY"], loop["FX"]]:
            continue
        temporal = tuple(v for k, v in loop.items() if k not in spatial)
        place = (loop["X"] + loop["FX"], loop["Y"] + loop["FY"], loop["CI"])
        output = (loop["X"], loop["Y"], loop["CO"])
        if dataflow in ("X:FX", "CI:CO"):
            reads["input"].add((temporal, place))
        else:
            reads["input"].add(at)
        reads["sum"].add(output if dataflow == "X:Y" else (temporal, output))
    return {key: len(found) for key, found in reads.items()}


@pytest.mark.parametrize("dataflow", ["X:Y", "FX:FY", "CI:CO"])
def test_accesses_with_zeros_are_those_of_the_loop_nest_on_average(dataflow):
    """X:FX is left out: at the map's edge its diagonals are shorter than the kernel."""
    rng = np.random.default_rng(0)
    sizes = {"X": 4, "Y": 3, "FX": 3, "FY": 2, "CI": 3, "CO": 4}
    by_input, _, by_sum = sharing(dataflow, sizes)
    multiply_adds = np.prod(list(sizes.values()))
    for density in (0.2, 0.6, 1.0):
        counts = [loop_nest(dataflow, density, rng) for _ in range(60)]
        for key, sharers in (("input", by_input), ("sum", by_sum)):
            expected = multiply_adds / sharers * (1 - (1 - density) ** sharers)
            found = np.mean([count[key] for count in counts])
            assert found == pytest.approx(expected, rel=0.1), (key, density)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", ["plain", "depthwise", "grouped", "padded shortcut"])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_less_of_anything_costs_no_more(name, dataflow, data):
    table = network_and_table(name)[1]
    cost, layers = Energy(table, dataflow), len(table.weighted)
    more = data.draw(strategies(table))
    shares = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=layers, max_size=layers)))
    less = [dataclasses.replace(more, density=more.density * shares)]
    for part in ("weight_bits", "activation_bits"):
        bits = getattr(more, part)
        fewer = np.where(bits > 8, 8, np.maximum(bits - 1, 1))
        less.append(dataclasses.replace(more, **{part: fewer}))
    less.append(dataclasses.replace(more, blocks=np.zeros_like(more.blocks)))
    if more.is_dense:
        widths = [data.draw(st.integers(1, int(width))) for width in more.widths[0]]
        less.append(dataclasses.replace(more, widths=np.array([widths])))
    for each in less:
        assert cost(each)[0] <= cost(more)[0] * (1 + 1e-12)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_movement_falls_with_bits_and_density_as_the_paper_says(dataflow):
    """Pruning 80 % and 16 to 8 bits saves 90 % of what weights move (page 12)."""
    table = one_layer(nn.Conv2d(4, 8, 3))
    one = np.ones((1, 1))
    cost = Energy(table, dataflow)

    def weights_moved(density, bits):
        """Subtract from a layer the same one whose weights have fewer bits to move."""
        column = np.full((1, 1), bits, dtype=np.int64)
        configuration = table.configuration(density=density * one, weight_bits=column)
        found, nonzeros = cost(configuration)[0], table.nonzeros(configuration)[0, 0]
        operations = adders(bits, 32, 36) * nonzeros * 16 * ADDER_PJ * 1e-9
        return found - operations

    sixteen, eight = (weights_moved(0.25, bits) for bits in (16, 8))
    all_sixteen, all_eight = (weights_moved(1.0, bits) for bits in (16, 8))
    assert (sixteen - eight) == pytest.approx(0.25 * (all_sixteen - all_eight), rel=1e-9)


def test_vgg16_is_near_the_paper():
    """Baselines derived from Table II (energy x improvement), within a tenth."""
    table = network_and_table("vgg16")[1]
    for dataflow, paper in {"X:Y": 23.1, "CI:CO": 21.0, "FX:FY": 23.8, "X:FX": 22.8}.items():
        assert Energy(table, dataflow)(table.configuration())[0] == pytest.approx(paper, rel=0.1)


def test_an_unknown_dataflow_is_named():
    with pytest.raises(ValueError, match="unknown dataflow 'x:y'; did you mean 'X:Y'"):
        Energy(network_and_table("plain")[1], "x:y")
