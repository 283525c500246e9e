"""Do the notebooks of the documentation run, from a kernel that knows nothing but the package?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import forwardgrad as fg

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    """Otherwise nothing below is tested."""
    assert [path.stem for path in NOTEBOOKS] == ["first_hour", "own_graph"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    """It is the first thing that a newcomer opens; what it displays must be more than text."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    if not fg.render.available():
        pytest.skip("no layout engine")
    notebook: Any = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "the repository keeps no outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    displayed = [kind for cell in code for output in cell.outputs for kind in output.get("data", {})]
    assert {"image/svg+xml", "text/html", "text/latex"} <= set(displayed)
    assert not any(
        output.output_type == "stream" and output.name == "stderr" for cell in code for output in cell.outputs
    )
