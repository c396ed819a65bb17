"""One query of a browser's: a few rows within some seconds, of the lake's files and of nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb

from ocsf_lake.config import Settings
from ocsf_lake.query import query
from ocsf_lake.text import plural, rows, text
from ocsf_mappers.errors import OcsfMappersError

ROWS, SECONDS = 200, 30
"""What an answer may have, and take; the setting `query_memory_bytes` bounds its memory."""
CHARACTERS = 20_000
"""Of a query, and of each value that is shown, so many at most."""


@dataclass
class Answer:
    """What became of a query.

    Args:
        columns: Names of its columns.
        rows: Its first rows, as text.
        told: What to know of it.
        error: Why there is none.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[Sequence[str]] = field(default_factory=list)
    told: str = ""
    error: str = ""


def answered(settings: Settings, sql: str, seconds: float = SECONDS) -> Answer:
    """What a query answers; it changes nothing, and opens no file but the lake's.

    Args:
        settings: The lake.
        sql: The query.
        seconds: It is ended after these.
    """
    if not sql.strip():
        return Answer()
    if len(sql) > CHARACTERS:
        return Answer(error=f"a query has {CHARACTERS:,} characters at most")
    late = threading.Event()
    try:
        with query.connected(settings, sql, preserve_insertion_order=False) as connection:

            def end() -> None:
                late.set()
                connection.interrupt()

            timer = threading.Timer(seconds, end)
            timer.daemon = True
            timer.start()
            try:
                return _first_rows(connection, sql)
            finally:
                timer.cancel()
                timer.join()
    except (OcsfMappersError, duckdb.Error) as error:
        if late.is_set():
            return Answer(error=f"ended after {seconds:g} seconds; ask for fewer days, or use `ocsf-lake query`")
        return Answer(error=str(error))


def _first_rows(connection: duckdb.DuckDBPyConnection, sql: str) -> Answer:
    schema, batches = query.stream(connection, sql, batch_rows=ROWS + 1)
    shown: list[Sequence[str]] = []
    for batch in batches:
        shown += [[text(value)[:CHARACTERS] for value in row] for row in rows(batch.slice(0, ROWS + 1 - len(shown)))]
        if len(shown) > ROWS:
            return Answer(list(schema.names), shown[:ROWS], f"The first {ROWS:,} rows; there are more.")
    return Answer(list(schema.names), shown, f"{plural(len(shown), 'row')}.")
