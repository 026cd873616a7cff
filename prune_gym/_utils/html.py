"""Tables for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in HTML. All cells are text: what they hold is escaped."""

    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    head = f"<caption>{escape(title)}</caption><thead>{row(header, 'th')}</thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>"
