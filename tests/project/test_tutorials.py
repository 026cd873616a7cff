"""The tutorials are notebooks that run from top to bottom."""

import os

import pytest
from places import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.ci
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}).execute()


def test_no_tutorial_shows_a_warning_or_a_path_of_a_machine():
    assert len(TUTORIALS) == 3
    for path in TUTORIALS:
        text = path.read_text()
        assert '"name": "stderr"' not in text and "site-packages" not in text, path.name
