"""The tables of benchmarks in the documentation are those of the shipped CSV files."""

import re
import runpy

from places import ROOT

SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "benchmark_tables.py"))
PAGES, RESULTS = [page.read_text() for page in SCRIPT["PAGES"]], SCRIPT["RESULTS"]


def test_the_pages_are_what_the_command_writes():
    assert [SCRIPT["with_tables"](page, RESULTS) for page in PAGES] == PAGES


def test_every_benchmark_that_is_shipped_has_its_table():
    shipped = sorted(file.parent.name for file in RESULTS.glob("*/results.csv"))
    assert shipped == sorted(re.findall(r"<!-- table: (\S+) -->", "".join(PAGES)))


def test_a_number_that_is_not_in_the_results_is_replaced():
    page = PAGES[0]
    wrong = page.replace("| ehvi-envelope-ddpg | 5 | 0.", "| ehvi-envelope-ddpg | 5 | 9.")
    assert wrong != page
    assert SCRIPT["with_tables"](wrong, RESULTS) == page
