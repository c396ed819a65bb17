"""Quoting for DuckDB SQL: every name and value that enters a query passes through here."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa


def text(value: str) -> str:
    """A string literal. A NUL cannot stand in SQL text, so it is spliced in with chr(0)."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "(" + quoted.replace("\0", "'||chr(0)||'") + ")" if "\0" in value else quoted


def name(value: str) -> str:
    """An identifier."""
    return '"' + value.replace('"', '""') + '"'


def texts(values: Iterable[str]) -> str:
    """A list literal of strings."""
    return "[" + ", ".join(text(value) for value in values) + "]::VARCHAR[]"


def pointer(*keys: str) -> str:
    """A string literal with the JSON pointer to a member (RFC 6901)."""
    return text("".join("/" + key.replace("~", "~0").replace("/", "~1") for key in keys))


def duckdb_type(arrow_type: pa.DataType) -> str:
    """The DuckDB type of an Arrow type; a map is written as its list of entries, which Arrow reads back as a map."""
    if pa.types.is_struct(arrow_type):
        return "STRUCT(" + ", ".join(f"{name(field.name)} {duckdb_type(field.type)}" for field in arrow_type) + ")"
    if pa.types.is_map(arrow_type):
        return 'STRUCT("key" VARCHAR, "value" VARCHAR)[]'
    if pa.types.is_list(arrow_type):
        return duckdb_type(arrow_type.value_type) + "[]"
    if pa.types.is_decimal(arrow_type):
        return f"DECIMAL({arrow_type.precision}, {arrow_type.scale})"
    if pa.types.is_timestamp(arrow_type):
        return "TIMESTAMPTZ"
    return {
        pa.string(): "VARCHAR",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.bool_(): "BOOLEAN",
        pa.float64(): "DOUBLE",
    }[arrow_type]
