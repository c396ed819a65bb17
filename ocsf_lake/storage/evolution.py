"""Tables whose files were written at different times, by versions that knew other columns, as one relation.

DuckDB takes the columns of a table from its first file. Files with other columns are read apart, and what they lack is
null; what they alone have, of a mapper that filled more, comes after today's columns. (Its own `union_by_name` ends the
process in 2.0 where a member of a structure is asked for that some files lack.)
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
    """A SELECT over all files that has today's columns, and those that only files have.

    Args:
        connection: Where it will run.
        today: The columns that the table has now, without rows.
        groups: Paths of files; those of one group have the same columns, which are read from the first file.
        read: Gives the SELECT over some files, with the columns that they have.
    """
    types = _types(connection, today)
    described = [_described(connection, read(paths[:1])) for paths in groups]
    every: pa.Schema = today.schema
    for paths, file_types in zip(groups, described, strict=True):
        if file_types != types:
            every = _with(every, connection.sql(f"FROM ({read(paths[:1])}) LIMIT 0").to_arrow_table().schema)
    if every != today.schema:
        types = _types(connection, pa.Table.from_batches([], every))
    same: list[str] = []
    others: list[str] = []
    for paths, file_types in zip(groups, described, strict=True):
        if list(file_types.items()) == list(types.items()):  # UNION ALL goes by the order
            same += paths
        else:
            others.append(f"SELECT {_columns(types, file_types)} FROM ({read(paths)})")
    return " UNION ALL ".join([*([read(same)] if same else []), *others])


def _with(columns: pa.Schema, others: pa.Schema) -> pa.Schema:
    """Columns, followed by those of others that are not among them; so are the members of structures."""
    return pa.schema(list(_both(pa.struct(list(columns)), pa.struct(list(others)))))


def _both(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if pa.types.is_list(first) and pa.types.is_list(second):
        return pa.list_(_both(first.value_type, second.value_type))
    if not (pa.types.is_struct(first) and pa.types.is_struct(second)):
        return first
    merged = {field.name: field.type for field in first}
    for field in second:
        merged[field.name] = _both(merged.get(field.name, field.type), field.type)
    return pa.struct(list(merged.items()))


def _columns(types: Types, file_types: Types) -> str:
    """Today's columns out of those that files have; where all are alike nothing is cast, so that less is read."""
    return ", ".join(
        sqltext.name(name)
        if file_types.get(name) == kind
        else f"{_value(name, file_types)}::{kind} AS {sqltext.name(name)}"
        for name, kind in types.items()
    )


def _value(name: str, file_types: Types) -> str:
    return sqltext.name(name) if name in file_types else "NULL"


def _types(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> Types:
    connection.register("columns of today", table)
    try:
        return _described(connection, 'FROM "columns of today"')
    finally:
        connection.unregister("columns of today")


def _described(connection: duckdb.DuckDBPyConnection, sql: str) -> Types:
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE {sql}").fetchall()}
