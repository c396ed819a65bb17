"""The stages that an ingest's time is divided into are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet
import pytest

from bench import stages

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "ocsf_lake").rglob("*.py"), *(ROOT / "ocsf_mappers").rglob("*.py")]


@pytest.mark.parametrize(
    ("file", "function", "expected"),
    [
        ("/x/ocsf_lake/storage/parquet.py", "encode", "Parquet"),
        ("/x/ocsf_lake/storage/parquet.py", "split", "cutting into partitions"),
        ("/x/ocsf_mappers/readers/column.py", "encoded", "reading columns, finding equal values"),
        ("/x/ocsf_mappers/readers/column.py", "combined", "bringing values and rows together"),
        ("/x/ocsf_mappers/engine/statements.py", "_planned", "compiling, planning queries"),
        ("/x/ocsf_mappers/engine/statements.py", "run", "DuckDB, on different values"),
        ("/usr/lib/python3/contextlib.py", "__exit__", None),
    ],
)
def test_a_function_counts_for_its_stage(file: str, function: str, expected: str | None) -> None:
    assert stages.stage(file, function) == expected


def test_each_place_is_there() -> None:
    """A function that was renamed would count for another stage without a word."""
    files = {str(path): path.read_text(encoding="utf-8") for path in SOURCES}
    files |= {pyarrow.parquet.__file__: "", "<frozen importlib._bootstrap>": ""}
    for place in (place for places in stages.STAGES.values() for place in places):
        file, _, function = place.partition(":")
        found = [text for name, text in files.items() if file in name]
        assert found, place
        assert not function or any(re.search(rf"^ *def {function}\(", text, re.MULTILINE) for text in found), place
