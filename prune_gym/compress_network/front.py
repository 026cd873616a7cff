"""The front of a search, as a list that is short to look at."""

from typing import Any

from prune_gym._utils.formatting import format_metric
from prune_gym._utils.html import html_table


class Front(list[dict[str, Any]]):
    """Records of the non-dominated strategies: their metrics, and the strategy as plain data."""

    def __repr__(self) -> str:
        """Return one line: how many there are, and which metrics they have."""
        return f"<Front of {len(self)} strategies: {', '.join(self._metrics())}>"

    def _repr_html_(self) -> str:
        """Return a table with a row per strategy, for notebooks."""
        metrics = self._metrics()
        rows = (
            [str(number), *(format_metric(record[name], name) for name in metrics)]
            for number, record in enumerate(self)
        )
        return html_table(f"{len(self)} strategies on the front", ["", *metrics], rows)

    def _metrics(self) -> list[str]:
        return [name for name in self[0] if name != "strategy"] if self else []
