"""Tables of the caller's own beside the lake's, to join with: from files, DataFrames, Arrow and dictionaries."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
from pyarrow import parquet

from ocsf_lake.query import shown
from ocsf_mappers import duck
from ocsf_mappers.errors import ConfigError, ReadError
from ocsf_mappers.ocsf import events as checks

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def with_tables(tables: Mapping[str, pa.Table], given: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Tables, and more of them.

    Args:
        tables: Those that there are.
        given: By name: something tabular, or a path; each is taken into memory now.

    Raises:
        ConfigError: The lake has a table of that name, or what is given is no table.
        ReadError: A file cannot be read.
    """
    all_tables = dict(tables)
    names = {name.lower() for name in all_tables}
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is not a valid table name: letters, digits and _")
        if name.lower() in names or shown.part_of(name) is not None:
            raise ConfigError(f"there is a table {name!r} already")
        names.add(name.lower())
        all_tables[name] = _arrow(name, value)
    return all_tables


def _arrow(name: str, value: Any) -> pa.Table:
    """Something tabular as Arrow."""
    try:
        if isinstance(value, str | os.PathLike):
            return _of_file(Path(value))
        if hasattr(value, "__arrow_c_stream__") or isinstance(value, Mapping):
            return pa.table(value)
        if isinstance(value, Sequence) and all(isinstance(row, Mapping) for row in value):
            return _of_dicts(value)
    except (pa.ArrowException, TypeError) as error:
        raise ConfigError(f"{name!r} is no table: {error}") from error
    raise ConfigError(f"{name!r} is a {type(value).__name__}, and no table: give a DataFrame, Arrow or a path")


def _of_dicts(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """All members of all of them; pyarrow's own way takes those of the first row alone."""
    return pa.Table.from_struct_array(pa.array(rows)) if rows else pa.table({})


def _of_file(path: Path) -> pa.Table:
    kinds: dict[str, Callable[[Path], pa.Table]] = {
        ".parquet": parquet.read_table, ".csv": _of_csv, ".tsv": _of_csv,
        ".json": _of_json, ".jsonl": _of_json, ".ndjson": _of_json,
    }  # fmt: skip
    read = kinds.get(path.suffix.lower())
    if read is None:
        raise ConfigError(f"{path.name}: the name must end in one of {' '.join(kinds)}")
    try:
        return read(path)
    except (OSError, duckdb.Error, pa.ArrowException, orjson.JSONDecodeError) as error:
        raise ReadError(f"the file cannot be read: {error}", file=path) from error


def _of_csv(path: Path) -> pa.Table:
    with duck.connect() as connection:
        query = "FROM read_csv($path, header = true, all_varchar = true)"
        return connection.sql(query, params={"path": [glob.escape(str(path))]}).to_arrow_table()


def _of_json(path: Path) -> pa.Table:
    return _of_dicts([orjson.loads(line) for line in checks.read_lines(path.read_bytes())])
