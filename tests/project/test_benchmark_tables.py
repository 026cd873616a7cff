"""The tables of docs/benchmark.md are those of the shipped CSV files."""

import re
import runpy

from places import ROOT

SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "benchmark_tables.py"))
PAGE, RESULTS = SCRIPT["PAGE"].read_text(), SCRIPT["RESULTS"]


def test_the_page_is_what_the_command_writes():
    assert SCRIPT["with_tables"](PAGE, RESULTS) == PAGE


def test_every_benchmark_that_is_shipped_has_its_table():
    shipped = sorted(file.parent.name for file in RESULTS.glob("*/results.csv"))
    assert shipped == sorted(re.findall(r"<!-- table: (\S+) -->", PAGE))


def test_a_number_that_is_not_in_the_results_is_replaced():
    wrong = PAGE.replace("| ehvi-envelope-ddpg | 10 | 0.", "| ehvi-envelope-ddpg | 10 | 9.")
    assert wrong != PAGE
    assert SCRIPT["with_tables"](wrong, RESULTS) == PAGE
