import functools
import itertools

import gymnasium as gym
import numpy as np
import pytest
from candidates import vgg16_costs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from latency_of_tiny import tiny_latency
from nets import Tiny

from prune_gym.costs import build_costs
from prune_gym.errors import UserError
from prune_gym.graph.configuration import Configuration
from prune_gym.graph.trace import trace
from prune_gym.search_space import Decision
from prune_gym.search_space.budgets import Budgets
from prune_gym.search_space.kinds.channels import widths as widths_to_choose
from prune_gym.search_space.space import SearchSpace

ACTIONS = st.floats(-1, 1, width=32)


def channel_space(table, round_to, min_keep=0.125):
    """Return the space that decides the channels of every group."""
    decisions = []
    for index, group in enumerate(table.groups):
        options = widths_to_choose(group.size, min_keep, round_to)
        lost = 1 - options / group.size
        decisions.append(
            Decision("channels", group.name, group.size, options, options, (index,), 0, lost)
        )
    return SearchSpace(table, tuple(decisions))


def walk(budgets, space, actions):
    """Return the values that a sequence of actions gets."""
    values = space.upper.copy()
    for index, (decision, action) in enumerate(zip(space.decisions, actions, strict=True)):
        (allowed,) = budgets.allowed(values[None], np.array([index]))
        assert allowed.any()
        values[index] = decision.decode(action, allowed[: len(decision.options)])
    return values


def assert_met(limits, costs, configuration, full):
    for name, limit in limits.items():
        # Exactly, after rounding: no tolerance but that of a floating-point product.
        assert costs[name](configuration)[0] <= limit * costs[name](full)[0] * (1 + 1e-15)


def of(space, values):
    return space.configure(np.atleast_2d(values))


@functools.cache
def vgg16_task(round_to):
    table, costs = vgg16_costs()
    return costs, channel_space(table, round_to)


@given(
    limits=st.dictionaries(
        st.sampled_from(["flops", "params", "latency", "memory"]), st.floats(0.1, 1.0), min_size=1
    ),
    actions=st.lists(ACTIONS, min_size=13, max_size=13),
    round_to=st.sampled_from([1, 8, 24]),
)
@settings(max_examples=60, deadline=None)
def test_no_actions_exceed_reachable_budgets_on_vgg16(limits, actions, round_to):
    costs, space = vgg16_task(round_to)
    try:
        budgets = Budgets(limits, costs, space)
    except ValueError:
        assume(False)
    assert_met(limits, costs, of(space, walk(budgets, space, actions)), of(space, space.upper))


@functools.cache
def bumpy_task(seed):
    """Costs of the small net with latencies that go up and down with width."""
    rng = np.random.default_rng(seed)
    table, latency, _ = tiny_latency(lambda layer, i, o: rng.uniform(0.1, 1.0, (len(i), len(o))))
    costs = {**build_costs(table, None), "latency": latency}
    space = channel_space(table, 4)
    rows = np.array(list(itertools.product(*(decision.options for decision in space.decisions))))
    return costs, space, rows


@given(
    seed=st.integers(0, 30),
    limits=st.dictionaries(
        st.sampled_from(["flops", "latency", "memory"]), st.floats(0.3, 1.0), min_size=1
    ),
    actions=st.lists(ACTIONS, min_size=3, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_a_latency_that_is_not_monotone(seed, limits, actions):
    costs, space, _ = bumpy_task(seed)
    try:
        budgets = Budgets(limits, costs, space)
    except ValueError:
        assume(False)
    assert_met(limits, costs, of(space, walk(budgets, space, actions)), of(space, space.upper))


@given(seed=st.integers(0, 30), limit=st.floats(0.05, 1.0))
@settings(max_examples=100, deadline=None)
def test_what_is_refused_is_out_of_reach(seed, limit):
    """Against brute force; with costs that grow with width nothing reachable is refused."""
    costs, space, rows = bumpy_task(seed)
    full = rows[-1:]
    for name in ("flops", "memory"):
        reachable = (costs[name](of(space, rows)) <= limit * costs[name](of(space, full))[0]).any()
        try:
            Budgets({name: limit}, costs, space)
            assert reachable
        except ValueError:
            assert not reachable


@pytest.mark.parametrize("seed", range(20))
def test_latency_budgets_that_are_met_by_some_strategy_are_accepted(seed):
    costs, space, rows = bumpy_task(seed)
    latency = costs["latency"]
    least = latency(of(space, rows)).min() / latency(of(space, rows[-1:]))[0]
    Budgets({"latency": min(1.0, least * 1.0001)}, costs, space)
    with pytest.raises(UserError, match=f"latency={np.ceil(1e4 * least) / 1e4:g}"):
        Budgets({"latency": least * 0.999}, costs, space)


def test_the_fullest_allowed_strategy_uses_the_budget():
    costs, space = vgg16_task(8)
    budgets = Budgets({"flops": 0.5}, costs, space)
    values = walk(budgets, space, [1.0] * 13)
    share = costs["flops"](of(space, values))[0] / costs["flops"](of(space, space.upper))[0]
    assert 0.48 < share <= 0.5


def test_without_budgets_every_width_is_allowed():
    costs, space = vgg16_task(8)
    assert walk(Budgets({}, costs, space), space, [1.0] * 13).tolist() == space.upper.tolist()


def test_unreachable_budgets_are_refused_with_the_least():
    costs, space = vgg16_task(8)
    least, full = of(space, space.lower), of(space, space.upper)
    share = np.ceil(1e4 * costs["flops"](least)[0] / costs["flops"](full)[0]) / 1e4
    with pytest.raises(UserError, match="flops=0.001.*flops=") as error:
        Budgets({"flops": 0.001}, costs, space)
    assert f"flops={share:g}" in str(error.value)
    Budgets({"flops": float(share)}, costs, space)  # what the message offers is accepted


def test_budgets_that_exclude_each_other_are_refused():
    """Each can be met by itself, both at once cannot."""
    table = trace(Tiny().eval(), (3, 8, 8))
    space = channel_space(table, 4, min_keep=0.5)

    class Falling:
        name = "latency"
        deterministic = True

        def __call__(self, configuration: Configuration):
            return 100.0 - configuration.widths.sum(axis=1)

    costs = {**build_costs(table, None), "latency": Falling()}
    Budgets({"latency": 1.0}, costs, space)
    Budgets({"flops": 0.5}, costs, space)
    with pytest.raises(UserError, match="flops=.*latency="):
        Budgets({"flops": 0.5, "latency": 1.0}, costs, space)


@pytest.mark.parametrize("limit", [0.0, -0.5, 1.5, float("nan")])
def test_budgets_out_of_range(limit):
    with pytest.raises(UserError, match="budget.*flops.*[:=]"):
        gym.make("ChannelPrune-VGG16-v0", budgets={"flops": limit})


def test_an_unknown_budget_names_the_nearest():
    with pytest.raises(ValueError, match="unknown budget 'flop'; did you mean 'flops'"):
        gym.make("ChannelPrune-VGG16-v0", budgets={"flop": 0.5})


def test_the_environment_keeps_several_budgets():
    limits = {"flops": 0.1, "latency": 0.3, "memory": 0.2}
    env = gym.make("ChannelPrune-VGG16-v0", budgets=limits)
    core = env.unwrapped
    for action in (1.0, 0.0):
        env.reset()
        terminated = False
        while not terminated:
            *_, terminated, _, info = env.step(np.array([action], dtype=np.float32))
        full = core.problem.evaluator.table.configuration()
        assert_met(limits, core.problem.costs, core.problem.configure(info["strategy"]), full)
        for cost in ("flops", "latency", "memory"):
            metric = core.problem.costs[cost].metric
            assert info[metric] <= limits[cost] * core.problem.costs[cost](full)[0]


def test_masks_follow_the_budgets():
    env = gym.make("ChannelPrune-VGG16-Discrete-v0", budgets={"flops": 0.02, "params": 0.03})
    free = gym.make("ChannelPrune-VGG16-Discrete-v0")
    core = env.unwrapped
    env.reset()
    free.reset()
    limited = 0
    for decision in core.problem.decisions:
        mask = core.action_masks()
        assert mask.dtype == bool and mask.shape == (8,) and mask.any()
        assert free.unwrapped.action_masks().all()
        limited += not mask.all()
        action = int(np.flatnonzero(mask)[-1])
        *_, terminated, _, info = env.step(action)
        free.step(0)
        asked = decision.decode(2 * action / 7 - 1, np.ones(len(decision.options), bool))
    assert terminated and limited
    assert info["strategy"]["decisions"][-1]["value"] == asked
