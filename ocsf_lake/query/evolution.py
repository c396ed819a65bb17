"""Tables whose files were written at different times, by versions that knew fewer columns, as one relation.

DuckDB takes the columns of a table from its first file. Files with other columns are read apart, and what they lack is
null. (Its own `union_by_name` ends the process in 2.0 where a member of a structure is asked for that some files lack.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa

from ocsf_mappers import sqltext

Types = dict[str, str]
"""Name of a column -> DuckDB's type."""


def select(
    connection: duckdb.DuckDBPyConnection,
    today: pa.Table,
    groups: Sequence[Sequence[str]],
    read: Callable[[Sequence[str]], str],
) -> str:
    """A SELECT over all files that has today's columns.

    Args:
        connection: Where it will run.
        today: The columns that the table has now, without rows.
        groups: Paths of files; those of one group have the same columns, of which the first file tells.
        read: Gives the SELECT over some files, with the columns that they have.
    """
    wanted = _types(connection, today)
    same: list[str] = []
    others: list[str] = []
    for paths in groups:
        if (found := _described(connection, read(paths[:1]))) == wanted:
            same += paths
        else:
            others.append(f"SELECT {_columns(wanted, found)} FROM ({read(paths)})")
    return " UNION ALL ".join([*([read(same)] if same else []), *others])


def _columns(wanted: Types, found: Types) -> str:
    """Today's columns out of those that files have; where all are alike nothing is cast, so that less is read."""
    return ", ".join(
        sqltext.name(name) if found.get(name) == kind else f"{_value(name, found)}::{kind} AS {sqltext.name(name)}"
        for name, kind in wanted.items()
    )


def _value(name: str, found: Types) -> str:
    return sqltext.name(name) if name in found else "NULL"


def _types(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> Types:
    connection.register("columns of today", table)
    try:
        return _described(connection, 'FROM "columns of today"')
    finally:
        connection.unregister("columns of today")


def _described(connection: duckdb.DuckDBPyConnection, sql: str) -> Types:
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {sql}").fetchall()}
