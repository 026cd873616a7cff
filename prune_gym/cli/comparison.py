"""Show networks side by side in a table."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from prune_gym._utils.formatting import format_change, format_metric, printable


def comparison(
    title: str,
    columns: Mapping[str, Mapping[str, float]],
    labels: Mapping[str, str] | None = None,
) -> Table:
    """Return a table of metrics, one column a network, and how the last differs from the first.

    Args:
        title: stands above it.
        columns: name of a network -> natural values by metric; accuracies are shown first, and
            what not all have is left out.
        labels: metric -> name for people, where it is another.
    """
    table, labels = Table("", *columns, "change", title=plain(title)), labels or {}
    first, *_, last = columns.values()
    for metric in sorted(last, key=lambda name: not name.endswith("accuracy")):
        if all(metric in values for values in columns.values()):
            cells = (format_metric(values[metric], metric) for values in columns.values())
            changed = format_change(first[metric], last[metric], metric)
            table.add_row(plain(labels.get(metric, metric)), *cells, changed)
    return table


def plain(text: str) -> Text:
    """Return text of any origin for a cell or a title: nothing in it is markup."""
    return Text(printable(text))
