"""The notebook in docs/: its cells run in order in one process, and show what the notebook says that they show.

No Jupyter is needed for that: a cell shows the value of its last expression, as a page where the value knows how to
make one, and what it printed. `--update-golden` writes what it shows now into the notebook.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support import PROJECT, SAMPLE_LOGS

NOTEBOOK = PROJECT / "docs" / "investigation.ipynb"
DIFFERING = re.compile(r"\d+(?:\.\d)? [kMG]?B|(?<=<td>)\d+\.\d(?=</td></tr>)")
"""Sizes and seconds, which differ between machines and versions of packages."""

Cell = dict[str, Any]


def shown(cell: Cell, names: dict[str, Any]) -> list[Cell]:
    """Runs a cell, and gives its outputs as Jupyter stores them."""
    tree = ast.parse("".join(cell["source"]), NOTEBOOK.name)
    last = tree.body.pop().value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, NOTEBOOK.name, "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last), NOTEBOOK.name, "eval"), names)
    outputs: list[Cell] = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines(printed.getvalue())})
    if value is not None:
        data = {"text/plain": lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data = {"text/html": lines(value._repr_html_()), **data}
        count = cell["execution_count"]
        outputs.append({"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
    return outputs


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@pytest.mark.slow
def test_the_notebook_shows_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, update_golden: bool
) -> None:
    (tmp_path / "sample_logs").symlink_to(SAMPLE_LOGS)
    shutil.copy(NOTEBOOK.with_name("watchlist.csv"), tmp_path)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 8
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code, 1):
        if update_golden:
            cell["execution_count"] = number
        found = shown(cell, names)
        if update_golden:
            cell["outputs"] = found
        assert cell["execution_count"] == number
        assert masked(found) == masked(cell["outputs"]), "".join(cell["source"])
    if update_golden:
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def masked(outputs: list[Cell]) -> str:
    return DIFFERING.sub("#", json.dumps(outputs, ensure_ascii=False))
