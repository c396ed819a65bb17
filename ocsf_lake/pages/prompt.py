"""One query of a browser's: a few rows within some seconds, of the lake's files and of nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import duckdb

from ocsf_lake import meant
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
        note: What to know of it.
        error: Why there is none.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""
    error: str = ""


class _EndedError(Exception):
    """A query was ended; the reason is for who asked."""


def answered(
    settings: Settings, sql: str, seconds: float = SECONDS, closing: threading.Event | None = None
) -> Answer:
    """What a query answers; it changes nothing, and opens no file but the lake's.

    Args:
        settings: The lake.
        sql: The query.
        seconds: It is ended after these.
        closing: It is ended when this is set.
    """
    if not sql.strip():
        return Answer()
    if len(sql) > CHARACTERS:
        return Answer(error=f"a query has {CHARACTERS:,} characters at most")
    end = time.monotonic() + seconds

    def waiting() -> None:
        if closing is not None and closing.is_set():
            raise _EndedError("ended, as the server ends")
        if time.monotonic() > end:
            raise _EndedError(f"ended after {seconds:g} seconds; ask for fewer days, or use `ocsf-lake query`")

    try:
        with meant.hinting(sql), query.connected(settings, sql, preserve_insertion_order=False) as connection:
            return _first_rows(connection, sql, waiting)
    except duckdb.Error as error:
        return Answer(error="\n".join(meant.lines(error)))
    except (OcsfMappersError, _EndedError) as error:
        return Answer(error=str(error))


def _first_rows(connection: duckdb.DuckDBPyConnection, sql: str, waiting: Callable[[], None]) -> Answer:
    schema, batches = query.stream(connection, sql, batch_rows=ROWS + 1, waiting=waiting)
    shown: list[Sequence[str]] = []
    for batch in batches:
        shown += [[text(value)[:CHARACTERS] for value in row] for row in rows(batch.slice(0, ROWS + 1 - len(shown)))]
        if len(shown) > ROWS:
            return Answer(list(schema.names), shown[:ROWS], f"The first {ROWS:,} rows; there are more.")
    return Answer(list(schema.names), shown, f"{plural(len(shown), 'row')}.")
