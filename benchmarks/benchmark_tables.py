"""Write the tables of benchmarks in docs/ again from the CSV files in benchmarks/results/.

    python benchmarks/benchmark_tables.py

A table stands between ``<!-- table: FOLDER -->`` and ``<!-- end of table -->``. It is that of
``benchmarks/results/FOLDER``, with the command that made the rows.
"""

import re
from pathlib import Path

from prune_gym._utils.json_file import read_json
from prune_gym.experiments.benchmark.collect import ABOUT
from prune_gym.experiments.benchmark.summary import read_summaries
from prune_gym.experiments.benchmark.table import agents_table, made_with

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "docs" / "benchmark.md", ROOT / "docs" / "envelope-ddpg.md")
TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.S)


def with_tables(page: str, results: Path) -> str:
    """Return a Markdown page with its tables made from the results.

    Args:
        page: its text.
        results: the folder whose folders hold ``results.csv`` and ``about.json``.
    """

    def table(found: re.Match[str]) -> str:
        start, name, end = found.groups()
        summaries, about = read_summaries(results / name), read_json(results / name / ABOUT)
        (agents,) = summaries.values()
        return f"{start}\n{agents_table(agents)}\n\n{made_with(summaries, about)}\n\n{end}"

    return TABLE.sub(table, page)


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        page.write_text(with_tables(page.read_text(), RESULTS))
        print(f"Wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
