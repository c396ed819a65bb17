"""The lake as SQL: every table by name, over exactly the files that the catalog knows.

Region, account and event day are text, and a condition on them opens only the files of their partitions. A query sees
the lake's files and no others, and cannot change them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import duckdb
import orjson
import pyarrow as pa
import sqlglot
from sqlglot import exp

from ocsf_lake.catalogs import definitions, security_lake
from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake, opened
from ocsf_lake.ledger import overview
from ocsf_lake.ledger.files import Chosen, LakeFile
from ocsf_lake.query import failures, find, lines, lint, networks, pruning, shown, verified
from ocsf_lake.query.known_files import KnownFiles
from ocsf_mappers import duck, sqltext
from ocsf_mappers.errors import ConfigError, OcsfMappersError, ReadError

T = TypeVar("T")
ONE_STATEMENT = "a query is one statement that reads: SELECT, DESCRIBE, SHOW, EXPLAIN"
NO_TABLES: Mapping[str, pa.Table] = {}
_COMPUTES = (
    "group", "distinct", "joins", "laterals", "qualify", "windows", "order", "with_", "with", "sample", "pivots"
)  # fmt: skip
_COMPUTING = (exp.AggFunc, exp.Window, exp.Subquery, exp.Unnest, exp.Anonymous)
"""Parts of a query that are more than a list of rows; what sqlglot does not know may be an aggregate."""
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+)?", re.IGNORECASE)


def run(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The rows of one query.

    Raises:
        ConfigError: It is not exactly one statement that only reads.
        ReadError: A file of the lake is gone or damaged.
    """
    if not _reads(connection, sql):
        raise ConfigError(ONE_STATEMENT)
    with failures.translate_errors(lambda: failures.allowed(connection)):
        try:
            return connection.sql(sql).to_arrow_table()
        finally:
            verified.check(connection)  # also after an error: that a file is damaged says more than what it led to


BATCH_ROWS = 2_048
"""Rows of a batch of a streamed answer, where nothing else is asked for."""
_WAITING_BYTES = 1 << 20
"""DuckDB computes up to so many bytes of an answer before they are taken, and one more piece."""
WAITING_SECONDS = 0.1
"""How often `stream` calls who waits for it."""


def stream(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None,
    batch_rows: int = BATCH_ROWS, waiting: Callable[[], None] | None = None,
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:  # fmt: skip
    """The rows of one query, batch after batch; only an ORDER BY or an aggregate holds more than some of them.

    Args:
        connection: A lake, see `connect`; `preserve_insertion_order` false, or most rows are held all the same.
        sql: One statement that reads, with parameters as `$name`.
        parameters: Their values.
        batch_rows: Rows of a batch, at most.
        waiting: Called several times a second while DuckDB computes; an error that it raises ends the query.

    Returns:
        The columns, and the batches. A file is held against its checksum before a row of it is given.

    Raises:
        ConfigError: It is not exactly one statement that only reads.
        ReadError: A file of the lake is gone or damaged; also while batches are read.
    """
    if not _reads(connection, sql):
        raise ConfigError(ONE_STATEMENT)
    # Without parameters None, not {}: an empty set of them makes DuckDB prepare a SHOW, which it cannot.
    bound = dict(parameters) if parameters else None
    computing = _Computing(connection, waiting)
    with failures.translate_errors(lambda: failures.allowed(connection)):
        try:
            reader = computing.wait(lambda: connection.sql(sql, params=bound).to_arrow_reader(batch_rows))
        finally:
            verified.check(connection)

    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            with failures.translate_errors(lambda: failures.allowed(connection)):
                try:
                    batch = computing.wait(lambda: next(reader, None))
                except (pa.ArrowException, OSError) as error:  # so Arrow passes on DuckDB's errors
                    if isinstance(error, BrokenPipeError):  # of who waits, not of the query
                        raise
                    raise duckdb.Error(str(error)) from error
                finally:
                    verified.check(connection)
            if batch is None:
                return
            yield batch

    return reader.schema, batches()


class _Computing:
    """Lets DuckDB compute so that ^C ends it: by itself it looks at no signal before it has an answer.

    Args:
        connection: What computes.
        waiting: Called meanwhile.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, waiting: Callable[[], None] | None) -> None:
        self._connection = connection
        self._waiting = waiting
        # Signals come to the main thread alone.
        in_main = threading.current_thread() is threading.main_thread()
        self._pool = ThreadPoolExecutor(1) if in_main or waiting else None

    def wait(self, compute: Callable[[], T]) -> T:
        """What a computation gives."""
        if self._pool is None:
            return compute()
        answer = self._pool.submit(compute)
        try:
            while not wait([answer], WAITING_SECONDS if self._waiting else None).done:
                if self._waiting:
                    self._waiting()
        except BaseException:
            self._connection.interrupt()
            wait([answer])  # closing a connection that computes would end the process
            raise
        return answer.result()


@duck.interruptible()
def statement(sql: str, parameters: Collection[str] = ()) -> str:
    """A query without a semicolon at its end, so that it can stand in brackets.

    Args:
        sql: The query.
        parameters: Names of the parameters that have a value.

    Raises:
        ConfigError: It is not exactly one statement that only reads, or other parameters have values than it names.
        duckdb.Error: It is no SQL.
    """
    with closing(duck.connect()) as connection:
        if not _reads(connection, sql):
            raise ConfigError(ONE_STATEMENT)
        placeholders = connection.extract_statements(sql)[0].named_parameters
    if placeholders != (names := set(parameters)):
        missing, needless = (", ".join(sorted(these)) for these in (placeholders - names, names - placeholders))
        parts = [*([f"no value for {missing}"] if missing else []), *([f"no ${needless} in it"] if needless else [])]
        raise ConfigError(f"the query's parameters: {'; '.join(parts)}")
    return _without_semicolon(sql)


def _without_semicolon(sql: str) -> str:
    text = sql.encode()
    ends = (place for place, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.operator)
    end = next((place for place in ends if text[place : place + 1] == b";"), len(text))
    return text[:end].decode()


@duck.interruptible()
def as_text(
    connection: duckdb.DuckDBPyConnection, sql: str, form: str, before: str = "", after: str = "", *,
    on_terminal: bool = False,
) -> tuple[list[str], str | None]:  # fmt: skip
    """A query for the rows of another as text, one column of it.

    Args:
        connection: A lake, see `connect`.
        sql: One statement that reads.
        form: `json`, `jsonl` or `csv`.
        before: What stands before each object of JSON.
        after: What stands behind it.
        on_terminal: See `lines.csv_query`.

    Returns:
        The names of the columns; and the query, None where Python has to make the text.

    Raises:
        ConfigError: It is not exactly one statement that only reads.
        ReadError: A file of the lake is gone or damaged.
    """
    if not _reads(connection, sql):
        raise ConfigError(ONE_STATEMENT)
    if _EXPLAIN.match(sql):
        return ["explain_key", "explain_value"], None
    with failures.translate_errors(lambda: failures.allowed(connection)), duck.interruptible():
        rows = connection.sql(sql)
    try:
        bare = _without_semicolon(sql)
        if form == "csv":
            text = lines.csv_query(bare, rows.columns, rows.types, on_terminal=on_terminal)
        else:
            text = lines.json_query(bare, rows.columns, rows.types, before, after)
        connection.sql(text)  # some statements, such as PIVOT, cannot stand in another
    except (lines.UnsupportedError, duckdb.Error):
        return rows.columns, None
    return rows.columns, text


def lists(sql: str) -> bool:
    """Whether a query only lists rows of one table, of whole partitions: making them takes longer than finding them.

    One thread keeps up with such a query, in the order of the files and with the least memory.
    """
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except (sqlglot.errors.SqlglotError, RecursionError):
        return False
    if not isinstance(tree, exp.Select) or any(map(tree.args.get, _COMPUTES)) or tree.find(*_COMPUTING):
        return False
    where = tree.args.get("where")
    return where is None or all(lint.prunes_by(column) for column in where.find_all(exp.Column))


def is_empty(answer: pa.Table) -> bool:
    """Whether an answer says that nothing was there: no rows, or one of zeros and nulls, as aggregates give it."""
    if answer.num_rows > 1:
        return False
    values = [value for row in answer.to_pylist() for value in row.values()]
    return all(not value or value == "0" for value in values)  # Athena gives its numbers as text


def why_empty(settings: Settings, sql: str, other_tables: Collection[str] = ()) -> list[str]:
    """What an empty answer does not say: that no partition has what the query asks for."""
    parts = pruning.parts([sql], shown.part_of, other_tables=other_tables)
    if not parts:
        return []
    with opened(settings, reading=True) as lake:
        return list(pruning.nothing_left(parts, lake.files.partitions, lake.files.gone))


def lacking(
    settings: Settings, *statements: str, other_tables: Collection[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> list[str]:  # fmt: skip
    """What an answer does not say: that events which a query asks for were lost, and the lake does without them."""
    parts = pruning.parts(statements, shown.part_of, parameters, other_tables)
    if not parts:
        return []
    try:
        with opened(settings, reading=True) as lake:
            every = dict.fromkeys(shown.filled_tables(lake)) if find.VIEW in parts else {}
            return list(pruning.lost(parts | every, lake.files.lost))
    except OcsfMappersError as error:  # the answer is there by now
        return [f"whether the answer lacks rows that were written off is not known: {error}"]


COST_READS = (
    "SELECT count(*), coalesce(sum(bytes), 0)::BIGINT FROM ledger_files WHERE list_contains($names, table_name)"
)
"""What `cost` asks beside the query; a connection for it has to know, see `connect`."""


@dataclass(frozen=True)
class Cost:
    """What a query read.

    Args:
        rows: Rows it returned.
        files: Files it opened.
        of_files: Files that its tables have.
        row_groups: Row groups it read.
        of_row_groups: Row groups of the files it opened.
        bytes: Bytes it read, of files on a disk; DuckDB does not count those of S3.
        of_bytes: Size of its tables' files.
    """

    rows: int
    files: int
    of_files: int
    row_groups: int
    of_row_groups: int
    bytes: int
    of_bytes: int


def cost(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None,
    waiting: Callable[[], None] | None = None,
) -> Cost:  # fmt: skip
    """Runs a query and says what that took.

    Args:
        connection: A lake, see `connect`.
        sql: One statement that reads.
        parameters: Values of its parameters, by name.
        waiting: See `stream`.

    Raises:
        ConfigError: It is not exactly one statement that only reads.
        ReadError: A file of the lake is gone or damaged.
    """
    if not _reads(connection, sql):
        raise ConfigError(ONE_STATEMENT)
    # The same statement once for its profile and once for its rows: DuckDB gives one or the other.
    ((_, text),) = fetched(connection, f"EXPLAIN (ANALYZE, FORMAT json) {sql}", parameters, waiting)
    profile = orjson.loads(text)
    _, batches = stream(connection, sql, parameters, waiting=waiting)
    rows = sum(batch.num_rows for batch in batches)
    # Without operators where the statistics in the files' footers were all that it took.
    scans = [item for item in _operators(profile.get("operator", [])) if "Total Files Read" in item["extra_info"]]
    table_names = {shown.part_of(table.name) for table in sqlglot.parse_one(sql, read="duckdb").find_all(exp.Table)}
    of = connection.execute(COST_READS, {"names": sorted(name for name in table_names if name)}).fetchall()[0]
    return Cost(
        rows=rows,
        files=sum(int(item["extra_info"]["Total Files Read"]) for item in scans),
        of_files=of[0],
        row_groups=sum(item.get("row_groups_scanned", 0) for item in scans),
        of_row_groups=sum(item.get("total_row_groups_to_scan", 0) for item in scans),
        bytes=profile.get("io", {}).get("total_bytes_read", 0),
        of_bytes=of[1],
    )


def _operators(operators: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in operators:
        yield item
        yield from _operators(item.get("children", []))


def _reads(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        return False
    if statements[0].type != duckdb.StatementType.EXPLAIN:
        return bool(statements[0].type == duckdb.StatementType.SELECT)
    # EXPLAIN ANALYZE runs what it explains.
    explain = _EXPLAIN.match(sql)
    return explain is not None and _reads(connection, sql[explain.end() :])


@contextmanager
def connected(
    settings: Settings, *statements: str, parameters: Mapping[str, Any] | None = None,
    extra_tables: Mapping[str, pa.Table] = NO_TABLES, files: shown.Chosen | None = None, **config: bool | int,
) -> Iterator[duckdb.DuckDBPyConnection]:  # fmt: skip
    """A connection, closed at the end; see `connect`."""
    connection = connect(
        settings, *statements, parameters=parameters, extra_tables=extra_tables, files=files, **config
    )
    with closing(connection):
        yield connection


@duck.interruptible()
def connect(
    settings: Settings, *statements: str, parameters: Mapping[str, Any] | None = None,
    extra_tables: Mapping[str, pa.Table] = NO_TABLES, files: shown.Chosen | None = None, **config: bool | int,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that shows the lake as it is now; later batches need a new one.

    Tables: those of the lake, with their views of the newest rows (`guardduty_latest`); `observables`, a view over all
    of them; `quarantine`; those of the ledger, such as `ledger_batches`; Security Lake's names (`vpc_flow_2_0`, and per
    region `amazon_security_lake_table_eu_west_1_vpc_flow_2_0`). A function: `in_network`, see `networks`.

    Args:
        settings: The lake.
        statements: What will be run. Where it is certain which tables they read, and which partitions of them, others
            are left out, as showing them takes time and requests.
        parameters: Values of the statements' named parameters.
        extra_tables: Tables of the caller, shown beside the lake's under names that those do not have, see
            `shown.part_of`.
        files: Which files the tables have; None for those of the lake.
        config: More of DuckDB's settings.

    Raises:
        ConfigError: The lake cannot be opened.
        ReadError: A file of the lake is gone.
    """
    parts = pruning.parts(statements, shown.part_of, parameters, extra_tables)
    if files is None and parts is not None and (first := pruning.first_rows(statements)) is not None:
        files = partial(_of_first_rows, first)
    with opened(settings, reading=True) as lake:
        if parts is None:
            _check_sources(lake, statements)
        connection = duck.connect(memory_limit=f"{settings.query_memory_bytes}B", **config)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            if config.get("threads") == 1:  # which needs little in advance
                connection.execute(f"SET streaming_buffer_size = '{_WAITING_BYTES}B'")
            duck.count_progress(connection)
            if not statements or any(networks.NAME in sql.lower() for sql in statements):
                networks.create(connection)
            for name, rows in extra_tables.items():
                connection.register(name, rows)
            known_files = None if lake.store.is_local else KnownFiles(lake.store.fs)
            if known_files is not None:
                connection.register_filesystem(known_files)
            names = None if parts is None else set(pruning.names(statements))
            columns = None if parts is None else pruning.columns(statements)
            shown_parts = shown.all_parts(statements) if parts is None else parts
            if parts is not None and find.VIEW in parts:
                shown_parts = parts | dict.fromkeys(shown.filled_tables(lake))
            show = shown.Shown(connection, lake, known_files, shown_parts, names, columns, files)
            show.regional = not statements or any(security_lake.PREFIX in sql.lower() for sql in statements)
            verifying = known_files is None and settings.verify_reads
            if verifying:
                verified.watch(connection)
            for part in sorted(show.parts, key=lambda part: (part == find.VIEW, part)):
                try:
                    try:
                        show.part(part)
                    except duckdb.Error:
                        if verifying:  # a file that is not what was written says more than what it led to
                            verified.expect(connection, show.written)
                            verified.check(connection)
                        raise
                except ReadError:
                    # A statement that lists tables, say, can be answered without one that is damaged.
                    words = shown.parts()[part]
                    if parts is not None or any(word in sql.lower() for sql in statements for word in words):
                        raise
            if verifying:
                verified.expect(connection, show.written)
            _restrict(connection, show.paths)
        except BaseException:
            connection.close()
            raise
        return connection


def _of_first_rows(
    first: pruning.FirstRows, lake: Lake, parts: Mapping[str, Chosen | None]
) -> dict[str, list[LakeFile]]:
    if first.latest is None:
        return lake.files.newest(parts, first.rows)
    return lake.files.of_first_rows(parts, first.rows, latest=first.latest)


def _restrict(connection: duckdb.DuckDBPyConnection, paths: list[str]) -> None:
    """Nothing but these files can be opened from here on, and no setting changed."""
    connection.execute(f"SET allowed_paths = {sqltext.texts(paths)}")
    for setting in ("python_enable_replacements", "enable_external_access"):
        connection.execute(f"SET {setting} = false")
    connection.execute("SET lock_configuration = true")


def _check_sources(lake: Lake, statements: Sequence[str]) -> None:
    """Says of a table that the lake has and no source why it is not there.

    Raises:
        ConfigError: A statement reads such a table.
    """
    try:
        names = set(pruning.names(statements))
    except (sqlglot.errors.SqlglotError, RecursionError):
        return  # then it is no SQL, which is reported elsewhere
    for name in sorted(overview.without_source(lake.ledger.engine) & names):
        raise ConfigError(f"table {name}: {definitions.NO_SOURCE}")


def collect(
    connection: duckdb.DuckDBPyConnection, statements: Sequence[str], waiting: Callable[[], None] | None = None
) -> None:
    """Runs statements of ours that collect rows in temporary tables, see `find.queries`.

    Raises:
        ReadError: A file of the lake is gone or damaged.
        QueryError: They need more memory than they may have.
    """
    for sql in statements:
        fetched(connection, sql, waiting=waiting)


def fetched(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None,
    waiting: Callable[[], None] | None = None,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """The few rows of a statement of ours; ^C ends it, see `stream`.

    Raises:
        ReadError: A file of the lake is gone or damaged.
        QueryError: It needs more memory than it may have.
    """
    computing = _Computing(connection, waiting)
    with failures.translate_errors(lambda: failures.allowed(connection)):
        try:
            return computing.wait(lambda: connection.execute(sql, dict(parameters) if parameters else None).fetchall())
        finally:
            verified.check(connection)


def columns_of(settings: Settings, names: Sequence[str]) -> dict[str, pa.Schema]:
    """The columns of tables that are none of events, such as `quarantine`."""
    statements = [f"FROM {sqltext.name(name)} LIMIT 0" for name in names]
    with connected(settings, *statements) as connection:
        return {
            name: connection.sql(sql).to_arrow_table().schema for name, sql in zip(names, statements, strict=True)
        }


def searched(settings: Settings) -> list[str]:
    """The tables that `find` looks through: those of events that have rows, and quarantine.

    Raises:
        ConfigError: The lake cannot be opened.
    """
    with opened(settings, reading=True) as lake:
        return [*shown.filled_tables(lake), QUARANTINE]
