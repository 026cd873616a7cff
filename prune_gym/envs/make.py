"""Environments from plain data: what ``gym.make(id, ...)`` calls, and ids by name."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
from torch import nn

from envs_registry import env_ids
from prune_gym._utils.device import find_device
from prune_gym._utils.plugins import import_for
from prune_gym.compression.calibration import IMAGES
from prune_gym.costs import Cost, build_costs
from prune_gym.costs.latency import NO_INT8, Latency, load_latency_table
from prune_gym.datasets import AnyData
from prune_gym.envs.arguments import check_types
from prune_gym.envs.compression_env import CompressionEnv
from prune_gym.envs.source import REFERENCE_LATENCY
from prune_gym.errors import UserError, unknown
from prune_gym.evaluation.network_library import with_library
from prune_gym.evaluation.problem import CompressionProblem
from prune_gym.evaluation.task import find_evaluator
from prune_gym.graph.inputs import shape_of
from prune_gym.models import NETWORKS
from prune_gym.profiling.measured_latency import MeasuredLatency
from prune_gym.search_space import Decision, SearchSpace, SpaceOptions, make_decisions
from prune_gym.search_space.kinds.options import MIN_KEEP
from prune_gym.search_space.kinds.weight_bits import WeightBits

MEASURED = "measured"
FEW = 2  # options of a decision
logger = logging.getLogger(__name__)


def compression_problem(
    network: str | os.PathLike[str] | nn.Module = "vgg16",
    data: str | AnyData = "digits",
    *,
    objectives: Sequence[str] | None = None,
    budgets: Mapping[str, float] | None = None,
    latency: str | None = REFERENCE_LATENCY,
    energy: str = "adders",
    dataflow: str = "X:Y",
    coding: str = "csr",
    repair: str = "least_squares",
    library: str | None = None,
    decide: Sequence[str] = ("channels",),
    min_keep: float | Mapping[str, float] = MIN_KEEP,
    round_to: int = 8,
    min_density: float = 0.1,
    granularity: int = 4,
    bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
    exclude: Sequence[str] = (),
    include: Sequence[str] | None = None,
    batch_size: int = 1,
    device: str = "auto",
    calibration_images: int = IMAGES,
) -> CompressionProblem:
    """Make a problem from plain data, or from the user's own network and data.

    Args:
        network: a name out of ``prune_gym.models.NETWORKS``, a file that ``prune-gym apply``
            wrote, ``package.module:function``, or your own trained module.
        data: a name that ``prune_gym.datasets.load`` knows, or your own ``Data`` or ``ScoredData``;
            a named network needs a named data set, as its weights do.
        objectives: which rewards, in this order; None: accuracy, flops, latency (where there
            is a table) and memory.
        budgets: cost -> largest allowed fraction of the original's; never exceeded.
        latency: latency table, the name of a shipped one or a path; "measured" times every
            finished candidate on this machine; None does without latency.
        energy: how energy is counted: "adders", by one-bit adders and moved bits, or "emomc", as
            EMOMC's released code does.
        dataflow: of the accelerator whose energy is counted: X:Y, FX:FY, X:FX or CI:CO.
        coding: how the weights are stored, for size: dense, coo, csr, emomc-coo or emomc-csr.
        repair: how candidates are repaired: none, batch_norm, merge, merge+batch_norm or
            least_squares.
        library: folder that ``prune-gym library`` made: candidates start from its networks,
            pruned and retrained beforehand, and are not repaired; for one density of all
            layers, and bits.
        decide: the kinds of decisions: channels, block, density, global_density, variational,
            weight_bits, activation_bits, or a name given to ``register_kind``.
        min_keep: least share of a group's channels to keep, in (0, 1]; or shares by pattern of
            layers, such as ``{"layer*": 0.5}``, see `SpaceOptions`.
        round_to: widths are multiples of this many channels. A warning is logged where that leaves
            most channel groups of your own network with one width or two.
        min_density: least share of a layer's weights to keep, in (0, 1].
        granularity: consecutive output channels whose weights are kept or pruned together
            (density); 1 prunes element-wise, and is taken for a network whose own zeros do not
            fill whole masks.
        bits: the bits to choose from, 1 to 8, or 32 for float.
        exclude: patterns of layers that stay as they are, such as ``["features.0", "layer1.*"]``.
            What is cut together with such a layer stays too.
        include: patterns of the layers that may change; None: all.
        batch_size: images that the network runs on at once, for memory and latency. A latency table
            must have been measured with it.
        device: where candidates are repaired and scored: "cpu", "cuda", "mps", or "auto", the first
            of cuda, mps and cpu that there is.
        calibration_images: training images that channels are ranked and candidates repaired with.

    Raises:
        UserError: an unknown name or a pattern that matches no layer, a value of another type or
            out of range; budgets that cannot be met; no such device.
        MissingFileError: data that are neither on disk nor to be downloaded.
    """
    check_types(
        objectives=objectives,
        budgets=budgets,
        latency=latency,
        energy=energy,
        dataflow=dataflow,
        coding=coding,
        repair=repair,
        library=library,
        decide=decide,
        min_keep=min_keep,
        round_to=round_to,
        min_density=min_density,
        granularity=granularity,
        bits=bits,
        exclude=exclude,
        include=include,
        batch_size=batch_size,
        calibration_images=calibration_images,
    )
    find_device(device)
    by_information = "variational" in decide
    parts = repair, granularity, by_information, device, calibration_images
    evaluator = find_evaluator(network, data, *parts)
    if library is not None:
        if exclude or include is not None:
            raise UserError(
                "library: its networks have one density of all layers; leave exclude "
                "and include out"
            )
        evaluator = with_library(evaluator, library, decide)
    table, given = evaluator.table, tuple(bits) if isinstance(bits, Iterable) else ()
    options = SpaceOptions(min_keep, round_to, min_density, given, exclude, include)
    decisions = make_decisions(decide, evaluator.statistics, options)
    if network not in NETWORKS:
        _tell_narrow(decisions, round_to)
    space = SearchSpace(table, decisions, evaluator.density)
    by_table = load_latency_table(latency) if latency not in (None, MEASURED) else None
    costs = build_costs(
        table, by_table, dataflow=dataflow, coding=coding, energy=energy, batch_size=batch_size
    )
    _tell_blind_latency(costs, decisions, {*(objectives or ()), *(budgets or ())}, latency)
    if latency == MEASURED:
        shape = shape_of(evaluator.data.search.images)
        measured = MeasuredLatency(evaluator.network, table, shape, batch=batch_size)
        costs[measured.name] = measured
    return CompressionProblem(evaluator, space, costs, objectives, budgets)


def _tell_narrow(decisions: Sequence[Decision], round_to: int) -> None:
    """Say so where most decisions about channels have one option or two."""
    options = [len(decision.options) for decision in decisions if decision.kind == "channels"]
    few = sum(count <= FEW for count in options)
    if round_to > 1 and 2 * few > len(options):
        logger.warning(
            "%d of %d channel groups have at most %d widths to choose from, because widths are "
            "multiples of %d: give a smaller round_to, such as %d",
            *(few, len(options), FEW, round_to, max(1, round_to // 4)),
        )


def _tell_blind_latency(
    costs: Mapping[str, Cost], decisions: Sequence[Decision], wanted: set[str], name: str | None
) -> None:
    """Say so where latency is asked for, bits are decided, and the table ignores them."""
    latency = costs.get("latency")
    decides_bits = any(decision.kind == WeightBits.name for decision in decisions)
    if "latency" not in wanted or not decides_bits or not isinstance(latency, Latency):
        return
    if not latency.depends_on_bits:
        logger.warning(NO_INT8.format(name))


def compression_env(
    network: str | os.PathLike[str] | nn.Module = "vgg16",
    data: str | AnyData = "digits",
    *,
    reward: str = "incremental",
    discrete: int | None = None,
    render_mode: str | None = None,
    **arguments: Any,
) -> CompressionEnv:
    """Make an environment from plain data; this is what ``gym.make(id, ...)`` calls.

    Args:
        network: as `compression_problem` takes it.
        data: as `compression_problem` takes it.
        reward: "incremental" or "terminal".
        discrete: number of discrete actions, instead of the continuous one.
        render_mode: None, "human", "ansi" or "rgb_array".
        **arguments: the other arguments of `compression_problem`.

    Raises:
        UserError: an unknown name, or a value out of range; budgets that cannot be met.
        MissingFileError: data that are neither on disk nor to be downloaded.
    """
    problem = compression_problem(network, data, **arguments)
    return CompressionEnv(problem, reward=reward, discrete=discrete, render_mode=render_mode)


def require_env(env_id: str) -> None:
    """Refuse an id that no agent searches; the module of ``module:ID`` is imported.

    Raises:
        UserError: the module cannot be imported, the id is not registered, or its reward is one
            number.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_for(module, env_id)
    if name not in (gym.registry if module else env_ids()):
        specs = gym.registry.values()
        ours = [s.id for s in specs if not str(s.entry_point).startswith("gymnasium.")]
        raise UserError(unknown("environment", name, ours if module else env_ids()))
    if gym.spec(name).additional_wrappers:
        raise UserError(f"{env_id} has a scalar reward; search its id without -Scalar")


def make_env(env_id: str, **kwargs: Any) -> gym.Env:
    """Return ``gym.make(env_id, **kwargs)``, which must be an environment of this package.

    Raises:
        UserError: it is another one.
    """
    env = gym.make(env_id, **kwargs)
    if not isinstance(env.unwrapped, CompressionEnv):
        made = type(env.unwrapped).__name__
        raise UserError(f"{env_id} is a {made}, not a prune_gym.CompressionEnv")
    return env
