"""A kind of decision that the package does not know, registered from outside."""

import json

import numpy as np
import pytest
import torch
from nets import make
from packed_format import encode
from playing import constant, play

from prune_gym.compression.fold_batch_norm import fold_batch_norm
from prune_gym.costs.size import CODINGS, Size
from prune_gym.envs.make import compression_env
from prune_gym.errors import UserError
from prune_gym.graph.skipped import running_modules
from prune_gym.search_space import KINDS, Decision, DecisionKind, register_kind

KERNEL = (3, 3)
MASKS = {  # share of a kernel's weights that stays -> which of them
    1 / 9: torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    1 / 3: torch.tensor([[0, 0, 0], [1, 1, 1], [0, 0, 0]]),
    1.0: torch.ones(KERNEL, dtype=torch.int64),
}


class KernelMask(DecisionKind):
    """One decision per 3x3 convolution: its centre, its middle row, or all of it."""

    name = "kernel-mask"
    field = "kernel-mask"

    def decisions(self, network, options):
        shares = np.array([*MASKS])
        return [
            Decision(
                self.name,
                network.table.layers[index].name,
                1.0,
                options=shares,
                grid=np.arange(len(shares)),
                columns=(column,),
                layer=index,
                sensitivity=1 - shares,
                parent_block=network.table.block_around([network.table.layers[index].name]),
            )
            for column, index in enumerate(network.table.weighted)
            if network.table.layers[index].kernel == KERNEL
        ]

    def configure(self, parts, columns, values):
        """Write the shares down, and lower the densities, which have the same columns."""
        super().configure(parts, columns, values)
        parts["density"][:, columns] = np.minimum(parts["density"][:, columns], values)

    def apply(self, candidate, table, values):
        modules = running_modules(candidate)
        for index, share in zip(table.weighted, values, strict=False):
            module = modules.get(table.layers[index].name)  # None: in a skipped block
            if module is not None and share < 1:
                module.weight.data *= MASKS[share]


class Misnamed(KernelMask):
    name = "misnamed"


@pytest.fixture(scope="module", autouse=True)
def registered():
    register_kind(KernelMask())
    yield
    del KINDS[KernelMask.name]


@pytest.fixture(scope="module", params=["least_squares", "none"])
def env(request, tiny_data, registered):
    """A network with residual blocks, 1x1 convolutions and a linear layer."""
    return compression_env(
        make("residual"),
        tiny_data,
        decide=("block", "channels", KernelMask.name),
        objectives=("accuracy", "flops", "params", "size"),
        repair=request.param,
        latency=None,
        round_to=1,
    )


def kernels(problem, strategy):
    """Return the share and the weight of every convolution of a candidate that was decided."""
    modules = dict(problem.apply(strategy).named_modules())
    decided = [d for d in strategy["decisions"] if d["kind"] == KernelMask.name]
    return [(each["value"], modules[each["name"]].weight.detach()) for each in decided]


def test_its_decisions_are_made_beside_the_others(env):
    decisions = env.problem.decisions
    masks = [d for d in decisions if d.kind == KernelMask.name]
    assert [d.name for d in masks] == ["stem.0", "inner.0", "back.0", "down.0"]
    assert [d.parent_block for d in masks] == [-1, 0, 0, -1]
    assert {d.kind for d in decisions} == {"block", "channels", KernelMask.name}


@pytest.mark.parametrize("seed", range(4))
def test_an_episode_is_validated_and_its_weights_are_counted(env, seed):
    observations, rewards, infos = play(env, seed=seed)
    assert all(observation in env.observation_space for observation in observations)
    problem, info = env.problem, infos[-1]
    strategy = json.loads(json.dumps(info["strategy"]))
    assert problem.validate(strategy).reproduced
    values = problem.values_of(strategy)
    assert [*problem.space.to_strategy(values)] == strategy["decisions"]
    np.testing.assert_allclose(
        rewards.sum(axis=0), problem.evaluate(values[None])[0], rtol=0, atol=1e-6
    )
    for share, weight in kernels(problem, strategy):
        outside = MASKS[share] == 0
        assert not weight[..., outside].any() and weight[..., ~outside].all()
    candidate = problem.apply(strategy)
    assert info["params"] == sum(int((p != 0).sum()) for p in parameters_of(candidate))


def parameters_of(network):
    """Return the parameters; those of vectors count whether they are zero or not."""
    return [p if p.ndim > 1 else torch.ones_like(p) for p in network.parameters()]


@pytest.mark.parametrize("coding", CODINGS)
def test_its_size_is_that_of_the_real_code(env, coding):
    problem, strategy = env.problem, play(env, seed=1)[2][-1]["strategy"]
    table, configuration = problem.evaluator.table, problem.configure(strategy)
    folded = fold_batch_norm(problem.apply(strategy).requires_grad_(False), table)
    payload = encode(folded, table, configuration, coding)
    assert len(payload) == Size(table, coding)(configuration)[0]


def test_the_ends_of_the_action_keep_all_and_the_centre(env):
    info = play(env, constant(1.0))[2][-1]
    for name, value in env.problem.original.items():
        assert info[name] == pytest.approx(value)

    def masks_only(step):
        decides = env.problem.decisions[step].kind == KernelMask.name
        return np.array([-1.0 if decides else 1.0], dtype=np.float32)

    info = play(env, masks_only)[2][-1]
    assert all(share == 1 / 9 for share, _ in kernels(env.problem, info["strategy"]))
    convolved = sum(weight.numel() for _, weight in kernels(env.problem, info["strategy"]))
    assert env.problem.original["params"] - info["params"] == convolved * 8 / 9


def test_budgets_hold_for_it_too(env):
    problem = env.problem
    tight = compression_env(
        problem.evaluator.network,
        problem.evaluator.data,
        decide=(KernelMask.name,),
        budgets={"params": 0.5},
        latency=None,
    )
    for seed in range(3):
        info = play(tight, seed=seed)[2][-1]
        assert info["params"] <= 0.5 * tight.problem.original["params"]


def test_equal_strategies_are_evaluated_once(env):
    """What no decision sets has a value of its own too: the keys of equal strategies are equal."""
    values = env.problem.space.lower[None].copy()
    keys = {env.problem.space.configure(values).key() for _ in range(20)}
    assert len(keys) == 1


def test_workers_know_it(env):
    problem = env.problem
    values = np.stack([problem.values_of(play(env, seed=s)[2][-1]["strategy"]) for s in (7, 8)])
    alone = problem.evaluate(values, jobs=1)
    problem.evaluator.cache.clear()
    assert problem.evaluate(values, jobs=2).tolist() == alone.tolist()


def test_another_kind_of_the_same_name_is_refused():
    with pytest.raises(UserError, match="'kernel-mask'"):
        register_kind(KernelMask())


def test_a_field_that_nobody_knows_is_refused():
    with pytest.raises(UserError, match="'kernel-mask'.*'misnamed'"):
        register_kind(Misnamed())
    assert "misnamed" not in KINDS


def test_without_registration_the_name_is_unknown(tiny_task):
    with pytest.raises(UserError, match="unknown kind of decision 'kernel-masc'; did you mean"):
        compression_env(**tiny_task, decide=("kernel-masc",))
