"""Small SQL databases: SQLite in the lake, PostgreSQL by URL, both through SQLAlchemy Core.

Each database has a version. A table that is missing is made when the database is opened; a change of a table that is
there already is a step, and steps that a database has not seen are taken, in order, in one transaction. (Alembic would
want a folder of scripts and a configuration for what are a few statements in two databases, and be imported each time.)
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from ocsf_lake.ledger import compiled, sqlite_reading
from ocsf_lake.storage import permissions
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError, WriteError

BUSY_SECONDS = 60
"""How long a writer waits for another process's transaction."""

SYNCHRONOUS = "FULL"
"""What SQLite does at each commit: the disk has it before the commit returns."""

CLIENT_SECONDS = 15
"""A connection to PostgreSQL on which nothing is answered for so long is given up."""

POSTGRES_TIMES = {
    "connect_timeout": CLIENT_SECONDS,
    "tcp_user_timeout": CLIENT_SECONDS * 1000,
    "keepalives_idle": CLIENT_SECONDS // 3,
    "keepalives_interval": CLIENT_SECONDS // 3,
    "keepalives_count": 2,
}

POSTGRES_DRIVER = "postgresql+psycopg"
"""The driver of this project, whatever a URL says: postgresql:// alone would mean psycopg2."""

POSTGRES_SCHEMA = "ocsf_{name}"
"""In PostgreSQL ledger and Iceberg's catalog share a database; the ledger has a schema of its own."""

VERSION = "schema_version"
READS = "reads"
"""Option of a connection that changes nothing, of queries that may take long: in SQLite it then keeps no writer back,
and waits for none."""
_IN = 500
_NO_PLACE = ("53100", "53200")
"""SQLSTATEs of PostgreSQL for a full disk and for too little memory."""
_REFUSED = ("28", "3D")
"""Classes of SQLSTATE that asking again does not mend: who asks is unknown, or there is no such database."""
_REFUSED_WORDS = ("authentication", "does not exist", "Name or service not known", "no password supplied")
"""The same, where the driver gives no SQLSTATE: before there is a session."""
_MAY_NOT = "42501"
"""SQLSTATE of a privilege that is missing."""

URLS = "say sqlite:////folder/ledger.db or postgresql://user:password@host/database"
MEND = {
    "ledger": "; put a copy of it back, or rebuild it from the lake's files: ocsf-lake rebuild-ledger",
}
"""What to do about a database that is damaged."""

Connection = sa.Connection
"""A transaction, for rooms that hand it on and leave SQL to the ledger."""

URL = sa.URL
"""Of a database, with its parts."""

Step = Callable[[sa.Connection], None]
"""Changes the tables of one version to those of the next one."""


class MissingError(ConfigError):
    """There is no such database, and who only reads makes none."""


class DamagedError(ConfigError):
    """The database's file is none, or is broken."""


def connect(
    url: str | sa.URL, metadata: sa.MetaData, name: str, steps: Sequence[Step] = (), umask: int = permissions.UMASK,
    *, reading: bool = False,
) -> sa.Engine:
    """An engine for a database whose tables are those of today.

    Args:
        url: SQLAlchemy URL.
        metadata: The tables.
        name: What the database is, a word: `ledger`.
        steps: How the tables became what they are; the first one changes version 1 to version 2.
        umask: Permissions that a new file of SQLite and its folder do not get.
        reading: Nothing is made or changed, so that permission to read is enough. Tables of an older version in SQLite
            are shown as those of today, in a copy in memory.

    Raises:
        ConfigError: The database cannot be opened, is damaged, or was changed by a newer version of this program.
        MissingError: It is only to be read, and there is none.
        RetriableError: The server does not answer.
    """
    target = parsed(url)
    postgres = target.get_backend_name() == "postgresql"
    try:
        if postgres:
            engine = _postgres(target, name, reading)
        else:
            path = _file(target, name)
            engine = sqlite_reading.engine(path, name) if reading else _sqlite(path, name, umask)
        sort_out_errors(engine, f"the {name} {shown(target)}", MEND.get(name, ""))
        try:
            if reading:
                return _readable(engine, metadata, name, steps)
            _update(engine, metadata, name, steps)
        except BaseException:
            engine.dispose()
            raise
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise ConfigError(f"cannot open the {name} {shown(target)}: {_one_line(error)}") from error
    return engine


def parsed(url: str | sa.URL) -> sa.URL:
    """A database's URL, of one of the two kinds that are known here, with the driver of this project.

    Raises:
        ConfigError: It is none; what it holds is not shown, as it may be a password.
    """
    try:
        target = sa.make_url(url)
        kind = target.drivername.partition("+")[0]
    except (sa.exc.ArgumentError, ValueError):
        # Its text may hold a part of the password, as the cause of our error would be.
        raise ConfigError(
            f"ledger_url is not a database URL; {URLS}; in a password, characters such as @ : / are written in per "
            "cent, as %40"
        ) from None
    if kind == "postgres":
        kind = "postgresql"
    if kind not in ("sqlite", "postgresql"):
        raise ConfigError(f"ledger_url names a database of the kind {kind!r}, and a ledger is in one of two; {URLS}")
    if kind == "sqlite" and (not target.database or target.database == ":memory:"):
        raise ConfigError(f"ledger_url names no file; {URLS}")
    return target.set(drivername=kind)


def sqlite_url(path: Path) -> sa.URL:
    """The URL of a file of SQLite. Not as text: a folder's name may hold what means something in a URL."""
    return sa.URL.create("sqlite", database=str(path))


def shown(target: sa.URL) -> str:
    """A database's URL as it may be read by anybody: without password, and without options, which may hold one."""
    return repr(target.set(query={}).render_as_string(hide_password=True))


def _one_line(error: BaseException) -> str:
    """The message of an error, without SQLAlchemy's own additions and in one line."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()).removesuffix(".")


def is_postgres(url: str) -> bool:
    """Whether a URL is that of a PostgreSQL database.

    Raises:
        ConfigError: It is no URL of a database.
    """
    return parsed(url).get_backend_name() == "postgresql"


def postgres_url(url: str) -> str:
    """The URL of a PostgreSQL database for code that makes its own engine: with our driver and our times."""
    target = parsed(url).set(drivername=POSTGRES_DRIVER)
    times = {name: str(value) for name, value in POSTGRES_TIMES.items() if name not in target.query}
    return target.update_query_dict(times).render_as_string(hide_password=False)


def _file(target: sa.URL, name: str) -> Path:
    path = Path(str(target.database)).absolute()
    if path.is_dir():
        raise ConfigError(f"the {name} {shown(target)} is a folder; name a file, or move the folder away")
    return path


def _sqlite(path: Path, name: str, umask: int) -> sa.Engine:
    try:
        permissions.make_folder(path.parent, umask)
        if not path.exists():
            permissions.touch(path, umask)  # the files that SQLite makes beside it get its permissions
    except OSError as error:
        raise ConfigError(f"the file of the {name} cannot be made: {error.strerror}", file=path) from error
    # One connection is kept: opening and closing the only one makes and removes the files of WAL mode each time.
    engine = sa.create_engine(
        sqlite_url(path), poolclass=sa.QueuePool, pool_size=1, max_overflow=-1,
        execution_options=compiled.OPTIONS,
    )  # fmt: skip
    _use_wal(engine)
    _notice_another_file(engine, path)
    _leave_at_fork(engine)
    return engine


def _postgres(target: sa.URL, name: str, reading: bool) -> sa.Engine:
    engine = sa.create_engine(
        target.set(drivername=POSTGRES_DRIVER),
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=64,
        connect_args={"application_name": f"ocsf-lake {name}", **POSTGRES_TIMES},
    )
    schema = POSTGRES_SCHEMA.format(name=name)

    @sa.event.listens_for(engine, "connect", insert=True)
    def opened(connection: Any, _: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        connection.execute(f"SET search_path TO {schema}")
        if reading:
            connection.execute("SET default_transaction_read_only TO on")
        connection.autocommit = before

    return engine


def _use_wal(engine: sa.Engine) -> None:
    """Readers do not wait for the writer, writers wait for each other; a transaction is one from its first query on."""

    @sa.event.listens_for(engine, "connect")
    def opened(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's own at the first change
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get(READS)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _notice_another_file(engine: sa.Engine, path: Path) -> None:
    """A connection that was kept is used again only for the file that it was opened for.

    A file that was put back or made anew meanwhile is another one, and what is written to the former one is lost.
    """

    @sa.event.listens_for(engine, "connect")
    def opened(_: Any, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(path)

    @sa.event.listens_for(engine, "checkout")
    def reused(_: Any, record: sa.pool.ConnectionPoolEntry, __: Any) -> None:
        if record.info["file"] != _identity(path):
            raise sa.exc.DisconnectionError(f"{path} is another file now")  # which makes the pool open that one


_left: list[sa.Pool] = []
"""Connections of the process that this one was forked from. SQLite forbids a child to use them, or to close them."""


def _leave_at_fork(engine: sa.Engine) -> None:
    """A forked process opens a connection of its own: https://www.sqlite.org/howtocorrupt.html, section 2.6."""
    reference = weakref.ref(engine)

    def leave() -> None:
        if (left := reference()) is not None:
            _left.append(left.pool)
            left.dispose(close=False)

    os.register_at_fork(after_in_child=leave)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


# -- errors -----------------------------------------------------------------------------------------------------------
def sort_out_errors(engine: sa.Engine, what: str = "the database", mend: str = "") -> None:
    """Makes an engine raise this project's errors for what its database refuses, or does not answer.

    Args:
        engine: The engine.
        what: The database, as messages name it.
        mend: What to do when it is damaged.
    """
    sa.event.listen(engine, "handle_error", lambda context: _sorted_out(context, what, mend))


def _sorted_out(context: sa.ExceptionContext, what: str, mend: str) -> OcsfMappersError | KeyboardInterrupt | None:
    """The error as this project sorts errors: by what the caller does about it. None where it is a defect."""
    if isinstance(context.original_exception.__context__, KeyboardInterrupt):
        return KeyboardInterrupt()  # ^C while SQLAlchemy asked whether a connection lives; what it did then failed
    if context.is_pre_ping:
        return None  # SQLAlchemy opens another connection
    error = context.original_exception
    message = _one_line(error)
    if isinstance(error, sqlite3.DatabaseError):
        return _sorted_out_sqlite(getattr(error, "sqlite_errorcode", 0) & 0xFF, what, message, mend)
    if type(error).__module__.partition(".")[0] != "psycopg":
        return None
    state = getattr(error, "sqlstate", None) or ""
    if state == _MAY_NOT:
        return ConfigError(f"{what} refuses us: {message}; reading needs USAGE on its schema and SELECT on its tables")
    if not _is_operational(error):
        return None
    if state in _NO_PLACE:
        return WriteError(f"{what} cannot be written: {message}")
    if state.startswith(_REFUSED) or (not state and any(word in message for word in _REFUSED_WORDS)):
        return ConfigError(f"{what} refuses us: {message}; ledger_url is where its name, user and password are set")
    return RetriableError(f"{what} does not answer: {message}")


def _sorted_out_sqlite(code: int, what: str, message: str, mend: str) -> OcsfMappersError | None:
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RetriableError(f"{what} is busy: {message}")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return WriteError(f"{what} cannot be written: {message}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DamagedError(f"{what} is damaged ({message}){mend}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return ConfigError(f"{what} cannot be opened: {message}; this user must be able to write it and its folder")
    return None


def _is_operational(error: BaseException) -> bool:
    return any(kind.__name__ in ("OperationalError", "InterfaceError") for kind in type(error).__mro__)


# -- reading ----------------------------------------------------------------------------------------------------------
def _readable(engine: sa.Engine, metadata: sa.MetaData, name: str, steps: Sequence[Step]) -> sa.Engine:
    """The engine, if all tables are those of today; in SQLite a copy in memory whose tables are."""
    newest = len(steps) + 1
    with engine.connect() as connection:
        table_names = set(sa.inspect(connection).get_table_names())
        version = _version(connection, metadata, newest) if table_names else 0
    if not table_names and engine.dialect.name == "postgresql":
        raise MissingError(f"there is no {name} in the database {shown(engine.url)}, or this user may not see it")
    if version > newest:
        raise ConfigError(_too_new(name, version, newest))
    # Tables with `since` may be missing until somebody writes; who reads them asks.
    needed = {table.name for table in metadata.tables.values() if "since" not in table.info}
    if version == newest and needed <= table_names:
        return engine
    missing = [table for table in metadata.sorted_tables if table.name not in table_names]
    if version == newest and _shown_empty(engine, missing):
        return engine
    if engine.dialect.name == "postgresql":
        raise ConfigError(
            f"the {name} {shown(engine.url)} has the tables of an older ocsf-lake; the next ingest with this version "
            "brings them up to date, and then they can be read"
        )
    copied = sqlite_reading.in_memory(engine)
    engine.dispose()
    _update(copied, metadata, name, steps)
    return copied


def _shown_empty(engine: sa.Engine, missing: Sequence[sa.Table]) -> bool:
    """Shows tables that a ledger lacks as empty ones, to this program's sessions alone; whether that can be done.

    They are temporary tables, which everybody may make, in PostgreSQL unless that was revoked.
    """
    copies = sa.MetaData()
    made = [CreateTable(_temporary(table, copies)).compile(dialect=engine.dialect) for table in missing]

    def make(connection: Any, _: Any) -> None:
        for statement in made:
            connection.execute(str(statement))

    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", sqlite_reading.writing(make))
    else:
        sa.event.listen(engine, "connect", _committing(make), insert=True)
    engine.dispose()
    try:
        with engine.connect():
            return True
    except (sa.exc.SQLAlchemyError, OcsfMappersError):
        return False


def _committing(do: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def committing(connection: Any, record: Any) -> None:
        before, connection.autocommit = connection.autocommit, True
        do(connection, record)
        connection.autocommit = before

    return committing


def _temporary(table: sa.Table, copies: sa.MetaData) -> sa.Table:
    columns = (sa.Column(column.name, column.type, primary_key=column.primary_key) for column in table.columns)
    return sa.Table(table.name, copies, *columns, prefixes=["TEMPORARY"])


# -- versions ---------------------------------------------------------------------------------------------------------
def _update(engine: sa.Engine, metadata: sa.MetaData, name: str, steps: Sequence[Step]) -> None:
    newest = len(steps) + 1
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            lock(connection, f"tables of {name}")
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {POSTGRES_SCHEMA.format(name=name)}")
        version = _version(connection, metadata, newest)
        if version > newest:
            raise ConfigError(_too_new(name, version, newest))
        for step in steps[version - 1 :]:
            step(connection)
        table_names = set(sa.inspect(connection).get_table_names())  # SQLAlchemy itself would ask for each one
        missing = [table for table in metadata.sorted_tables if table.name not in table_names]
        for table in missing:
            for statement in _creation(table, engine.url.drivername):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {VERSION} (version INTEGER NOT NULL)")
        if connection.exec_driver_sql(f"UPDATE {VERSION} SET version = {newest}").rowcount == 0:
            connection.exec_driver_sql(f"INSERT INTO {VERSION} VALUES ({newest})")


@cache
def _creation(table: sa.Table, driver: str) -> list[str]:
    """What makes a table and what belongs to it. To compile that was a sixth of a small ingest into a new lake."""
    statements: list[str] = []
    url = sa.URL.create(driver)
    dialect = url.get_dialect()()
    engine = sa.create_mock_engine(url, lambda made, *_: statements.append(str(made.compile(dialect=dialect))))
    table.metadata.create_all(engine, [table], checkfirst=False)
    return statements


def _too_new(name: str, version: int, newest: int) -> str:
    return f"the {name} has the tables of a newer ocsf-lake (version {version}, this one knows {newest}); use that one"


def _version(connection: sa.Connection, metadata: sa.MetaData, newest: int) -> int:
    table_names = set(sa.inspect(connection).get_table_names())
    if VERSION in table_names:
        stored = connection.exec_driver_sql(f"SELECT max(version) FROM {VERSION}").scalar()
        return int(stored or newest)
    # Databases of the first version have no such table.
    return 1 if table_names & set(metadata.tables) else newest


# -- statements -------------------------------------------------------------------------------------------------------
def lock(connection: sa.Connection, what: str, *, shared: bool = False) -> None:
    """Keeps others from what this transaction does, until it ends; a transaction of SQLite does that by itself.

    Args:
        connection: The transaction.
        what: What it does, by a name.
        shared: Keep back only those who want it for themselves alone.
    """
    if connection.dialect.name == "postgresql":
        take = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
        connection.execute(sa.text(f"SELECT {take}(hashtextextended(:what, 0))"), {"what": what})


@contextmanager
def locked(url: str, what: str) -> Iterator[None]:
    """The same for work on other connections; databases but PostgreSQL have no such lock.

    Raises:
        ConfigError: The database refuses us.
        RetriableError: It does not answer.
    """
    if not is_postgres(url):
        yield
        return
    engine = sa.create_engine(postgres_url(url), poolclass=sa.NullPool)
    sort_out_errors(engine)
    with engine.begin() as connection:
        lock(connection, what)
        yield


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction all of whose queries see the same; in SQLite each does."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def has(connection: sa.Connection, table: sa.Table) -> bool:
    """Whether a table is there: one with `since` is not until somebody has written with a version that knows it."""
    return "since" not in table.info or table.name in sa.inspect(connection).get_table_names()


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that takes a clause for rows that are there already."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # loaded by now; whoever has SQLite need not load it

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def upsert(connection: sa.Connection, table: sa.Table, key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows; those that are there already, by their key, get the new values."""
    if rows:
        changed = {name: f'excluded."{name}"' for name in rows[0] if name not in key}
        connection.execute(_inserting(table, tuple(rows[0]), key, tuple(changed.items())), rows)


def add(
    connection: sa.Connection, table: sa.Table, key: tuple[str, ...], rows: Sequence[dict[str, Any]],
    counted: Iterable[str],
) -> None:  # fmt: skip
    """Writes rows; numbers of those that are there already, by their key, grow by the new ones, the rest stays."""
    if rows:
        changed = {name: f'"{table.name}"."{name}" + excluded."{name}"' for name in counted}
        connection.execute(_inserting(table, tuple(rows[0]), key, tuple(changed.items())), rows)


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Writes those of some rows that are not there already."""
    if rows:
        connection.execute(_inserting(table, tuple(rows[0])), rows)


@lru_cache(maxsize=256)
def _inserting(
    table: sa.Table, columns: tuple[str, ...], key: tuple[str, ...] = (), changed: tuple[tuple[str, str], ...] = ()
) -> sa.TextClause:
    """An INSERT that changes rows with the same key, if one is given, and otherwise leaves what is there as it is.

    It is the same for both databases. What SQLAlchemy's own dialects give for it is compiled anew whenever it is run.
    """
    defaults = {
        column.name: column.default.arg
        for column in table.columns
        if column.name not in columns and isinstance(column.default, sa.ColumnDefault)
    }
    values = [sa.bindparam(name, type_=table.c[name].type) for name in columns]
    values += [sa.bindparam(name, value, table.c[name].type) for name, value in defaults.items()]
    changes = ", ".join(f'"{name}" = {value}' for name, value in changed)
    at_conflict = f"({_quoted(key)}) DO UPDATE SET {changes}" if key else "DO NOTHING"
    sql = (
        f'INSERT INTO "{table.name}" ({_quoted([*columns, *defaults])}) '
        f"VALUES ({', '.join(f':{value.key}' for value in values)}) "
        f"ON CONFLICT {at_conflict}"
    )
    return sa.text(sql).bindparams(*values)


def _quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def select_in(
    connection: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Sequence[Any]
) -> Iterator[sa.Row[Any]]:
    """The rows of a query whose column, of text, is among many values."""
    if connection.dialect.name == "postgresql":
        # One array: a list of 500 parameters is planned anew each time, and scans the table after a large load.
        array = sa.literal(list(values), sa.ARRAY(sa.Text))
        yield from connection.execute(query.where(column == sa.any_(array)))
        return
    for start in range(0, len(values), _IN):
        yield from connection.execute(query.where(column.in_(values[start : start + _IN])))


def analyze(connection: sa.Connection, *tables: sa.Table) -> None:
    """Tells PostgreSQL's planner how large tables have become, before its own round does."""
    if connection.dialect.name == "postgresql":
        for table in tables:
            connection.exec_driver_sql(f"ANALYZE {table.name}")
