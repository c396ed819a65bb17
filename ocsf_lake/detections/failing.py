"""Statements that fail: whether that is a rule's fault, of which the others should not suffer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from ocsf_lake.query import query
from ocsf_mappers.errors import QueryError

ERRORS = (duckdb.Error, QueryError)
"""What a statement raises, besides errors about the lake's files."""
Rows = Iterator[list[dict[str, Any]]]
_OF_VALUES = re.compile("(Conversion|Invalid Input|Out of Memory|Out of Range) Error: ")


class Failed(str):
    """Why a rule failed at some events, at which it was not asked therefore; others it may be asked of."""

    __slots__ = ()


def begun(connection: duckdb.DuckDBPyConnection, sql: str) -> Rows:
    """The rows of a statement once it has the first of them: what values make fail has failed by then.

    Raises:
        duckdb.Error: See `problem`.
        QueryError: It needs more memory than there is.
        ReadError: A file of the lake is gone or damaged.
    """
    _, batches = query.stream(connection, sql)
    first = next(batches, None)
    return (rows.to_pylist() for rows in itertools.chain([] if first is None else [first], batches))


def problem(connection: duckdb.DuckDBPyConnection, sql: str, error: Exception) -> str | None:
    """Why a statement failed, where others need not; None where they would fail as well.

    Args:
        connection: A lake.
        sql: The statement.
        error: What it raised, one of `ERRORS`.
    """
    try:
        connection.execute(f"EXPLAIN {sql}")
    except duckdb.Error as planning:
        return _first_line(planning)
    is_of_values = isinstance(error, QueryError) or _OF_VALUES.match(str(error))
    return Failed(_first_line(error)) if is_of_values else None


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
