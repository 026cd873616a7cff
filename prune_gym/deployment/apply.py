"""Make the pruned network of a strategy and write it."""

from dataclasses import dataclass
from pathlib import Path

from prune_gym.envs.replay import environment_of, save_of
from prune_gym.search_space.strategy import load_strategy


@dataclass(frozen=True)
class Applied:
    """A pruned network that was written, beside the original.

    Attributes:
        file: the network.
        env_id: the environment that its strategy was found in.
        metric_name: what accuracy is called: "mAP@0.5" where a detector's is that.
        before: the original's costs in natural units, and its accuracy on the test split.
        after: the same of the pruned network.
    """

    file: Path
    env_id: str
    metric_name: str
    before: dict[str, float]
    after: dict[str, float]


def apply(
    strategy_file: Path, out: Path, network: str | None = None, data: str | None = None
) -> Applied:
    """Write the pruned network of a strategy to ``out``; return what it gained and lost.

    ``network`` and ``data`` are those of `environment_named`.

    Raises:
        MissingFileError: no such strategy.
        UserError: not a strategy, or it belongs to another network.
    """
    strategy = load_strategy(strategy_file)
    env = environment_of(strategy, network, data)
    evaluator, configuration, pruned = (
        env.problem.evaluator,
        env.problem.configure(strategy),
        env.problem.apply(strategy),
    )
    save_of(strategy, env, pruned, out)
    test, full = evaluator.data.test, env.problem.original_configuration
    before, after = (
        {cost.metric: float(cost(each)[0]) for cost in env.problem.costs.values()}
        for each in (full, configuration)
    )
    before["accuracy"] = evaluator.original_score(test)
    after["accuracy"] = evaluator.score(pruned, test)
    return Applied(out, strategy.env_id, evaluator.data.metric_name, before, after)
