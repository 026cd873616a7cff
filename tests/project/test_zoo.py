"""The script that tries public networks, on networks that need no other package."""

import json
import subprocess
import sys

import pytest
from places import ROOT


def zoo(*arguments):
    command = [sys.executable, ROOT / "benchmarks" / "zoo.py", *arguments, "--no-rival"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.ci
def test_rows_are_kept_and_not_made_again(tmp_path):
    rows = tmp_path / "rows.jsonl"
    names = ("sequence:text_transformer", "sequence:signal_lstm", "sequence:none")
    status, printed = zoo(*names, "--rows", str(rows))
    found = {row["name"]: row for row in map(json.loads, rows.read_text().splitlines())}
    assert [found[name]["verdict"] for name in names] == ["accepted", "accepted", "not built"]
    assert found[names[0]]["parameters"] > 0.9 > found[names[1]]["parameters"] > 0.4
    assert "| sequence | 3 | 2 | 0 | 0 | 0 | 0 |" in printed and status == 0
    kept = rows.read_text().replace('"accepted"', '"wrong"')
    rows.write_text(kept)
    status, printed = zoo(names[0], "--rows", str(rows))
    assert f"| `{names[0]}` | wrong | 9" in printed and status == 1
    assert rows.read_text() == kept
