"""The rows of a query, written as they come: on stdout or into a file, as a table, JSON, JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ocsf_lake import text
from ocsf_lake.cli import output, terminal

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


class Form(StrEnum):
    """Forms of output."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


_SUFFIXES = {".json": Form.JSON, ".jsonl": Form.JSONL, ".ndjson": Form.JSONL, ".csv": Form.CSV}
PARQUET = ".parquet"
_COUNTED_ROWS = 10_000
"""Rows of an answer in a table are counted up to this number; so much is computed beyond what is shown."""
_NOTHING = ("", "0", "0.0", "false", "[]", "{}")
"""Cells of CSV that say that nothing was there."""


def form_of(path: Path, form: Form | None) -> Form | None:
    """The form in which a file is written, None for Parquet.

    Raises:
        ConfigError: Its name and the form that was asked for do not go together, or neither says it.
    """
    from ocsf_mappers.errors import ConfigError

    suffix = path.suffix.lower()
    by_name = _SUFFIXES.get(suffix)
    suffixes = " ".join([PARQUET, *_SUFFIXES])
    if suffix == PARQUET or by_name is not None:
        if form not in (None, by_name):
            raise ConfigError(f"--output {path.name} contradicts --format {form}: leave one of them out")
        return by_name
    if form in (None, Form.TABLE):
        raise ConfigError(f"--output {path.name}: the name must end in one of {suffixes}")
    return form


class Answer:
    """The answer to one query.

    Args:
        connection: The lake.
        sql: The query.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, sql: str) -> None:
        self._connection = connection
        self._sql = sql
        self._waiting = terminal.Waiting(connection.query_progress)
        self._rows = 0
        self._values: Sequence[object] = ()

    @property
    def rows(self) -> int:
        """How many rows were written."""
        return self._rows

    @property
    def is_empty(self) -> bool:
        """Whether it says that nothing was there: no rows, or one of zeros and nulls, as aggregates give it."""
        return self._rows == 0 or (self._rows == 1 and all(not value for value in self._values))

    def show(self, form: Form) -> None:
        """Writes it to stdout."""
        from ocsf_lake.query import query

        if form is not Form.TABLE:
            sys.stdout.flush()
            self._write(sys.stdout.buffer, form, on_terminal=sys.stdout.isatty())
            sys.stdout.buffer.flush()
            return
        schema, batches = query.stream(self._connection, self._sql, waiting=self._waiting)
        head: list[Sequence[object]] = []
        for batch in self._counted(batches):
            if len(head) < output.TABLE_ROWS:
                head += text.rows(batch.slice(0, output.TABLE_ROWS - len(head)))
            elif self._rows > _COUNTED_ROWS:
                break
        self._values = head[0] if head else ()
        output.print_head(schema.names, head)
        if self._rows > output.TABLE_ROWS:
            every = f"{self._rows:,}" if self._rows <= _COUNTED_ROWS else f"more than {_COUNTED_ROWS:,}"
            terminal.say(
                f"{output.TABLE_ROWS:,} of {every} rows shown; --format csv or --format json gives all of them"
            )

    def save(self, path: Path, form: Form | None) -> None:
        """Writes it to a file, Parquet where there is no form; one that is there is replaced when all is written.

        Raises:
            ConfigError: There is no such folder, or it cannot be written.
        """
        from ocsf_lake.query import files, query
        from ocsf_mappers.errors import ConfigError

        try:
            if form is None:
                schema, batches = query.stream(self._connection, self._sql, waiting=self._waiting)
                files.write_parquet(path, schema, self._keeping_values(self._counted(batches)))
            else:
                with files.replaced(path) as part, part.open("wb") as stream:
                    self._write(stream, form, on_terminal=False)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}") from error

    def _counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                self._waiting.clear()
                self._rows += len(batch)
                yield batch
        finally:
            self._waiting.clear()

    def _keeping_values(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if self._rows == 1:
                self._values = next(text.rows(batch))
            yield batch

    # -- as text ------------------------------------------------------------------------------------------------------
    def _write(self, stream: BinaryIO, form: Form, *, on_terminal: bool) -> None:
        names, pieces = self._pieces(form, on_terminal)
        if form is Form.CSV:
            stream.write("".join(text.csv_lines(names, [], "" if on_terminal else "\t\n")).encode())
            for piece in pieces:
                stream.write(_spelled_out(piece))
        elif form is Form.JSONL:
            for piece in pieces:
                stream.write(output.escaped_json(piece))
        else:
            first = next(pieces, None)
            if first is not None:
                stream.write(b"[")
                for piece in chain([first[len(_BETWEEN) :]], pieces):
                    stream.write(output.escaped_json(piece))
            stream.write(b"]\n" if first is not None else b"[]\n")

    def _pieces(self, form: Form, on_terminal: bool) -> tuple[list[str], Iterator[bytes]]:
        """The names of the columns, and the text of some rows each."""
        from ocsf_lake.query import lines, query

        between = _BETWEEN if form is Form.JSON else ""
        after = "\n" if form is Form.JSONL else ""
        names, sql = query.as_text(self._connection, self._sql, form, between, after, on_terminal=on_terminal)
        if sql is not None:
            _, batches = query.stream(self._connection, sql, batch_rows=lines.BATCH_ROWS, waiting=self._waiting)
            pieces = lines.chunks(self._counted(batches))
        else:
            schema, batches = query.stream(self._connection, self._sql, waiting=self._waiting)
            pieces = _by_python(schema.names, self._counted(batches), form, between, after)
        return names, self._keeping_text(pieces, form)

    def _keeping_text(self, pieces: Iterator[bytes], form: Form) -> Iterator[bytes]:
        for piece in pieces:
            if self._rows == 1:
                self._values = _values(piece, form)
            yield piece


_BETWEEN = ",\n "


def _by_python(
    names: Sequence[str], batches: Iterator[pa.RecordBatch], form: Form, before: str, after: str
) -> Iterator[bytes]:
    """The text of rows with types whose text DuckDB makes otherwise."""
    unique = text.unique(names)
    for batch in batches:
        rows = text.rows(batch)
        if form is Form.CSV:
            _, *texts = text.csv_lines(names, rows)
        else:
            texts = [f"{before}{text.json_text(dict(zip(unique, row, strict=True)))}{after}" for row in rows]
        yield "".join(texts).encode()


def _values(piece: bytes, form: Form) -> list[Any]:
    if form is Form.CSV:
        try:
            cells = next(csv.reader([piece.decode()]), [])
        except csv.Error:  # a cell is longer than the module takes
            return [piece]
        return [cell for cell in cells if cell not in _NOTHING]
    import orjson

    return list(orjson.loads(piece.removeprefix(_BETWEEN.encode())).values())


def _spelled_out(piece: bytes) -> bytes:
    """CSV without what steers a terminal; the ends of lines and tabs in it were looked at when it was made."""
    return text.escaped(piece.decode(), "\t\n").encode()
