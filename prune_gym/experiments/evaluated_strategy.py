"""A strategy that a search evaluated: what a line of the journal holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_gym._utils.formatting import format_metric
from prune_gym.errors import UserError
from prune_gym.search_space.strategy import Strategy, finite_number, strategy_from_dict


@dataclass(frozen=True, repr=False)
class EvaluatedStrategy:
    """The strategy of a finished episode, and its metrics.

    Attributes:
        strategy: the decisions.
        metrics: natural values by metric: accuracy (search split), flops, params, ...
    """

    strategy: Strategy
    metrics: Mapping[str, float]

    def __repr__(self) -> str:
        """Return one line: the metrics."""
        metrics = ", ".join(
            f"{name} {format_metric(value, name)}" for name, value in self.metrics.items()
        )
        return f"<EvaluatedStrategy: {metrics}>"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, as it stands in the journal and in the last step's info."""
        return {**self.metrics, "strategy": self.strategy.as_dict()}


def evaluated_from_dict(record: Any, source: str) -> EvaluatedStrategy:
    """Check a record of the journal, or the info of an episode's last step, and return it typed.

    Raises:
        UserError: it is no such record; ``source`` is named in the message.
    """
    if not isinstance(record, Mapping) or "strategy" not in record:
        raise UserError(f"{source}: expected metrics and a strategy, got {record!r:.80}")
    strategy = strategy_from_dict(record["strategy"], source)
    metrics = {name: value for name, value in record.items() if name != "strategy"}
    for name in ("accuracy", *metrics):
        try:
            finite_number(metrics.get(name))
        except UserError as error:
            raise UserError(f"{source}: expected a number as {name}: {error}") from error
    return EvaluatedStrategy(strategy, metrics)
