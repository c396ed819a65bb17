"""Small SQL databases: SQLite in the lake, PostgreSQL by URL, both through SQLAlchemy Core.

Each database has a version. A table that is missing is made when the database is opened; a change of a table that is
there already is a step, and steps that a database has not seen are taken, in order, in one transaction. (Alembic would
want a folder of scripts and a configuration for what are a few statements in two databases, and be imported each time.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lake import private
from ocsf_mappers.errors import ConfigError, OcsfMappersError, RetriableError, WriteError

BUSY_SECONDS = 60
"""How long a writer waits for another process's transaction."""

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
"""In PostgreSQL ledger and catalog share a database; each has a schema of its own."""

VERSION = "schema_version"
_IN = 500
_NO_PLACE = ("53100", "53200")
"""SQLSTATEs of PostgreSQL for a full disk and for too little memory."""
_REFUSED = ("28", "3D")
"""Classes of SQLSTATE that asking again does not mend: who asks is unknown, or there is no such database."""

Step = Callable[[sa.Connection], None]
"""Changes the tables of one version to those of the next one."""


def connect(
    url: str, metadata: sa.MetaData, name: str, steps: Sequence[Step] = (), umask: int = private.UMASK
) -> sa.Engine:
    """An engine for a database whose tables are those of today.

    Args:
        url: SQLAlchemy URL.
        metadata: The tables.
        name: What the database is, a word: `ledger`, `catalog`.
        steps: How the tables became what they are; the first one changes version 1 to version 2.
        umask: Permissions that a new file of SQLite and its folder do not get.

    Raises:
        ConfigError: The database cannot be opened, or was changed by a newer version of this program.
        RetriableError: The server does not answer.
    """
    shown = url
    try:
        target = sa.make_url(url)
        shown = target.render_as_string(hide_password=True)
        engine = _postgres(target, name) if is_postgres(url) else _sqlite(target, umask)
        sort_out_errors(engine)
        _update(engine, metadata, name, steps)
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise ConfigError(f"cannot open the {name} {shown!r}: {error}") from error
    return engine


def is_postgres(url: str) -> bool:
    """Whether a URL is that of a PostgreSQL database.

    Raises:
        ConfigError: It is no URL of a database.
    """
    try:
        return sa.make_url(url).get_backend_name() == "postgresql"
    except (sa.exc.ArgumentError, ValueError):
        # What it says may be a part of the password, as the cause of our error would be.
        raise ConfigError(
            "the ledger's URL is none that SQLAlchemy reads, as sqlite:///ledger.db is; in a password, characters "
            "such as @ : / are written in per cent, as %40"
        ) from None


def postgres_url(url: str) -> str:
    """The URL of a PostgreSQL database for code that makes its own engine: with our driver and our times."""
    target = sa.make_url(url).set(drivername=POSTGRES_DRIVER)
    times = {name: str(value) for name, value in POSTGRES_TIMES.items() if name not in target.query}
    return target.update_query_dict(times).render_as_string(hide_password=False)


def _sqlite(target: sa.URL, umask: int) -> sa.Engine:
    engine = sa.create_engine(target, poolclass=sa.NullPool)
    if target.database and engine.dialect.name == "sqlite" and not target.database.startswith((":", "file:")):
        path = Path(target.database)
        private.make_folder(path.parent, umask)
        if not path.exists():
            private.touch(path, umask)  # the files that SQLite makes beside it get its permissions
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    return engine


def _postgres(target: sa.URL, name: str) -> sa.Engine:
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
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


# -- errors -----------------------------------------------------------------------------------------------------------
def sort_out_errors(engine: sa.Engine) -> None:
    """Makes an engine raise this project's errors for what its database refuses, or does not answer."""
    sa.event.listen(engine, "handle_error", _sorted_out)


def _sorted_out(context: sa.ExceptionContext) -> OcsfMappersError | None:
    """The error as this project sorts errors: by what the caller does about it. None where it is a defect."""
    if context.is_pre_ping:
        return None  # SQLAlchemy opens another connection
    error = context.original_exception
    said = str(error).strip()
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return RetriableError(f"the database is busy: {said}")
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return WriteError(f"the database cannot be written: {said}")
        return None
    if type(error).__module__.partition(".")[0] != "psycopg" or not _is_operational(error):
        return None
    state = getattr(error, "sqlstate", None) or ""
    if state in _NO_PLACE:
        return WriteError(f"the database cannot be written: {said}")
    if state.startswith(_REFUSED) or (not state and ("authentication" in said or "does not exist" in said)):
        return ConfigError(f"the database refuses us: {said}")
    return RetriableError(f"the database does not answer: {said}")


def _is_operational(error: BaseException) -> bool:
    return any(kind.__name__ in ("OperationalError", "InterfaceError") for kind in type(error).__mro__)


# -- versions ---------------------------------------------------------------------------------------------------------
def _update(engine: sa.Engine, metadata: sa.MetaData, name: str, steps: Sequence[Step]) -> None:
    newest = len(steps) + 1
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            lock(connection, f"tables of {name}")
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {POSTGRES_SCHEMA.format(name=name)}")
        version = _version(connection, metadata, newest)
        if version > newest:
            raise ConfigError(
                f"the {name} has the tables of a newer ocsf-lake (version {version}, this one knows {newest}); "
                "use that one"
            )
        for step in steps[version - 1 :]:
            step(connection)
        metadata.create_all(connection)
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {VERSION} (version INTEGER NOT NULL)")
        if connection.exec_driver_sql(f"UPDATE {VERSION} SET version = {newest}").rowcount == 0:
            connection.exec_driver_sql(f"INSERT INTO {VERSION} VALUES ({newest})")


def _version(connection: sa.Connection, metadata: sa.MetaData, newest: int) -> int:
    there = set(sa.inspect(connection).get_table_names())
    if VERSION in there:
        found = connection.exec_driver_sql(f"SELECT max(version) FROM {VERSION}").scalar()
        return int(found or newest)
    # Databases of the first version did not say so.
    return 1 if there & set(metadata.tables) else newest


# -- statements -------------------------------------------------------------------------------------------------------
def lock(connection: sa.Connection, what: str) -> None:
    """Keeps others from what this transaction does, until it ends; a transaction of SQLite does that by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": what})


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
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    sort_out_errors(engine)
    with engine.begin() as connection:
        lock(connection, what)
        yield


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that can say what to do about rows that are there already."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(connection: sa.Connection, table: sa.Table, key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows; those that are there already, by their key, get the new values."""
    if not rows:
        return
    statement = insert(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changed), rows)


def select_in(
    connection: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Sequence[Any]
) -> Iterator[sa.Row[Any]]:
    """The rows of a query whose column, of text, is among many values."""
    if connection.dialect.name == "postgresql":
        # One array: a list of 500 parameters is planned anew each time, and scans the table after a large load.
        array = sa.literal(list(values), postgresql.ARRAY(sa.Text))
        yield from connection.execute(query.where(column == sa.any_(array)))
        return
    for start in range(0, len(values), _IN):
        yield from connection.execute(query.where(column.in_(values[start : start + _IN])))


def analyze(connection: sa.Connection, *tables: sa.Table) -> None:
    """Tells PostgreSQL's planner how large tables have become, before its own round does."""
    if connection.dialect.name == "postgresql":
        for table in tables:
            connection.exec_driver_sql(f"ANALYZE {table.name}")
