"""The rows of a query, read when they are asked for, in the form that they are asked for."""

from __future__ import annotations

import html
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from ocsf_lake import meant, text
from ocsf_lake.config import Settings
from ocsf_lake.query import files, lint
from ocsf_lake.query import query as lake_query
from ocsf_mappers.errors import ConfigError, QueryError

SHOWN_ROWS = 20
"""Rows that a notebook shows."""
SHOWN_CHARACTERS = 300
"""Of a value that a notebook shows."""


class QueryWarning(UserWarning):
    """An answer without rows, or with others than were meant, because of how a condition is written."""


class Columns(Mapping[str, str]):
    """Names of columns, in their order, and their types in DuckDB's words."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self._types = types

    def __getitem__(self, name: str) -> str:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{text.escaped(name):{width}}  {kind}" for name, kind in self.items())

    def _repr_html_(self) -> str:
        return html_table(["column", "type"], self.items())


@dataclass(frozen=True, repr=False)
class Explanation:
    """What a query read, and what is doubtful about it.

    Args:
        cost: Files, row groups and bytes.
        findings: Conditions that no row meets, or that read every file; `instead` is the condition as it should be.
    """

    cost: lake_query.Cost
    findings: Sequence[lint.Hint]

    def __repr__(self) -> str:
        cost = self.cost
        lines = [
            f"{cost.rows:,} rows from {cost.files:,} of {cost.of_files:,} files, {cost.row_groups:,} of "
            f"{cost.of_row_groups:,} row groups in them, {text.size(cost.bytes)} of {text.size(cost.of_bytes)}"
        ]
        for finding in self.findings:
            lines += [f"{finding.rule}: {finding.says}", *([f"  {finding.instead}"] if finding.instead else [])]
        return "\n".join(map(text.escaped, lines))


class Rows:
    """A query that has not run yet.

    Each method runs it, over the lake as it is at that moment; nothing is kept between them. Without an ORDER BY the
    order of rows is not the same each time. polars, pyarrow, pandas and DuckDB take the object itself, as an Arrow
    stream: `polars.DataFrame(rows)`.

    Methods raise `QueryError` for a query that cannot run, `ReadError` where a file of the lake is gone or damaged: an
    answer that would lack its rows is never given. While rows are streamed, the error comes when they reach the file.
    Once all rows were read, they warn (`QueryWarning`) of a condition that no row meets, such as `action = 'REJECT'`,
    where that is why there are none or too many, and of rows that were written off as lost.

    Made by `Lake.sql`.
    """

    def __init__(
        self, settings: Settings, sql: str, parameters: Mapping[str, object], own: Mapping[str, pa.Table]
    ) -> None:
        self._settings = settings
        self._parameters = parameters
        self._tables = own
        with _query_errors(sql):
            self._sql = lake_query.statement(sql, parameters)

    # -- whole --------------------------------------------------------------------------------------------------------
    def to_arrow(self) -> pa.Table:
        """All rows as a `pyarrow.Table`."""
        schema, batches = self._stream()
        return pa.Table.from_batches(list(batches), schema)

    def to_pandas(self) -> Any:
        """All rows as a `pandas.DataFrame`; maps and structs as dictionaries, times in UTC."""
        table = self.to_arrow()
        with _needs("pandas"):
            try:
                return table.to_pandas(maps_as_pydicts="strict")
            except KeyError:  # a map that has a key twice
                return table.to_pandas()

    def to_polars(self) -> Any:
        """All rows as a `polars.DataFrame`; maps as lists of key and value, which is what polars has."""
        table = self.to_arrow()
        with _needs("polars"):
            import polars

            return polars.from_arrow(table)

    def df(self) -> Any:
        """`to_pandas`, by the name that DuckDB gives it."""
        return self.to_pandas()

    def pl(self) -> Any:
        """`to_polars`, by the name that DuckDB gives it."""
        return self.to_polars()

    def to_dicts(self) -> list[dict[str, Any]]:
        """All rows as dictionaries of Python's own types."""
        return [row for batch in self.to_batches() for row in _dicts(batch)]

    # -- streamed -----------------------------------------------------------------------------------------------------
    def to_batches(self, rows: int = lake_query.BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Rows as `pyarrow.RecordBatch`es; memory does not grow with their number.

        An ORDER BY, an aggregate or a join holds what it needs, and goes to disk when that is too much.

        Args:
            rows: Rows of a batch, at most.
        """
        _, batches = self._stream(rows)
        return batches

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as an Arrow stream, for libraries that take one."""
        return pa.RecordBatchReader.from_batches(*self._stream()).__arrow_c_stream__(requested_schema)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Writes the rows to a local Parquet file (zstd), streamed; one that is there is replaced when all is written.

        Args:
            path: The file.

        Raises:
            QueryError: A column has a type that Parquet does not have.
        """
        files.write_parquet(path, *self._stream())

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the rows to a local CSV file, streamed; one that is there is replaced when all is written.

        As `ocsf-lake query --format csv` prints them: nested values as JSON, null empty, an apostrophe before what a
        spreadsheet would take for a formula, control characters spelled out.

        Args:
            path: The file.
        """
        schema, batches = self._stream()
        rows = (row for batch in batches for row in text.rows(batch))
        with files.replaced(path) as file, file.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(text.csv_lines(schema.names, rows))

    # -- about them ---------------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        """How many rows there are; counting is a query of its own."""
        _, batches = self._stream(sql=f"SELECT count(*) FROM ({self._sql}\n)")
        return int(next(batches)[0][0].as_py())

    @property
    def columns(self) -> Columns:
        """Names and types of the columns."""
        _, batches = self._stream(sql=f"DESCRIBE {self._sql}")
        table = pa.Table.from_batches(batches)
        return Columns(dict(zip(*(table[name].to_pylist() for name in ("column_name", "column_type")), strict=True)))

    def explain(self) -> Explanation:
        """Runs the query, and says which part of the lake it read and which conditions are doubtful."""
        statements = self._sql, lake_query.COST_READS
        connected = lake_query.connected(
            self._settings, *statements, parameters=self._parameters, extra_tables=self._extra_tables()
        )
        with _query_errors(self._sql), connected as connection:
            cost = lake_query.cost(connection, self._sql, self._parameters)
        return Explanation(cost, self._findings())

    def _findings(self) -> Sequence[lint.Hint]:
        try:
            return tuple(lint.lint(self._bound(), "duckdb").findings)
        except (ConfigError, RecursionError):  # it ran, so it is a query; only lint cannot read it
            return ()

    def _with_warnings(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches; after the last one a warning, if they are none or wrong because of a condition, or lack rows."""
        number = 0
        for batch in batches:
            number += len(batch)
            yield batch
        messages = lake_query.lacking(
            self._settings, self._sql, other_tables=self._tables, parameters=self._parameters
        )
        for finding in self._findings() if not number or lint.concerns(self._sql) else ():
            if finding.explains(is_empty=not number):
                instead = f"; what is meant may be: {finding.instead}" if finding.instead else ""
                messages.append(f"{finding.says}{instead}")
        for one in messages:
            warnings.warn(text.escaped(one), QueryWarning, stacklevel=_depth())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {text.escaped(' '.join(self._sql.split()))}>"

    def _repr_html_(self) -> str:
        """The first rows, for a notebook; nothing more is read than they take."""
        schema, batches = self._stream(sql=f"FROM ({self._sql}\n) LIMIT {SHOWN_ROWS + 1}")
        rows = [row for batch in batches for row in text.rows(batch)]
        note = f"<p>the first {SHOWN_ROWS} rows</p>" if len(rows) > SHOWN_ROWS else ""
        return html_table(schema.names, islice(rows, SHOWN_ROWS)) + note

    # -- running it ---------------------------------------------------------------------------------------------------
    def _stream(
        self, rows: int = lake_query.BATCH_ROWS, sql: str | None = None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Opens the lake for this query alone: what is not read of it is not opened, and what is new is seen."""
        with ExitStack() as stack, _query_errors(self._sql):
            connected = lake_query.connected(
                self._settings, self._sql, parameters=self._parameters, extra_tables=self._extra_tables(),
                preserve_insertion_order=False,
            )  # fmt: skip
            connection = stack.enter_context(connected)
            schema, batches = lake_query.stream(connection, sql or self._sql, self._parameters, rows)
            closing = _closing(stack.pop_all(), batches, self._sql)
            return schema, self._with_warnings(closing) if sql is None else closing
        raise AssertionError  # neither of the two swallows an error; mypy does not know

    def _extra_tables(self) -> Mapping[str, Any]:
        """Tables of the caller, and those that are made when they are read."""
        if "coverage" not in self._sql.lower() and "show" not in self._sql.lower():
            return self._tables
        from ocsf_lake.upkeep.coverage_table import with_coverage

        return with_coverage(self._settings, self._tables, self._sql)

    def _bound(self) -> str:
        """The query with its values in place, for lint to read; what runs has them as parameters."""
        if not self._parameters:
            return self._sql
        try:
            tree = sqlglot.parse_one(self._sql, read="duckdb")
            for placeholder in list(tree.find_all(exp.Placeholder)):
                placeholder.replace(exp.convert(self._parameters[placeholder.name]))
            return tree.sql("duckdb")
        except (sqlglot.errors.SqlglotError, RecursionError, KeyError, ValueError):
            return self._sql


def _dicts(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    return (dict(zip(batch.schema.names, row, strict=True)) for row in text.rows(batch))


def _depth() -> int:
    """How far above its caller the first frame is that is not of this package: where a warning is shown."""
    depth, frame, here = 1, sys._getframe(1), f"{Path(__file__).parents[1]}{os.sep}"
    while frame.f_back is not None and frame.f_code.co_filename.startswith(here):
        depth, frame = depth + 1, frame.f_back
    return depth


def _closing(stack: ExitStack, batches: Iterator[pa.RecordBatch], sql: str) -> Iterator[pa.RecordBatch]:
    with stack, _query_errors(sql):
        yield from batches


@contextmanager
def _query_errors(sql: str) -> Iterator[None]:
    """Translates DuckDB's errors about a query into ours."""
    try:
        with meant.hinting(sql):
            yield
    except duckdb.Error as error:
        raise QueryError("\n".join(meant.lines(error))) from error


@contextmanager
def _needs(package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"this needs {package}: pip install {package}") from error


def html_table(columns: Sequence[str], rows: Iterator[Sequence[object]] | Any) -> str:
    """A table for a notebook; every value is text, whatever a log put into it."""
    head = "".join(f"<th>{_shown(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_shown(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: object) -> str:
    if isinstance(value, text.Lines):
        return "<br>".join(map(_shown, value))
    full = text.text(value)
    cut = full if len(full) <= SHOWN_CHARACTERS else f"{full[: SHOWN_CHARACTERS - 1]}…"
    return html.escape(text.escaped(cut))
