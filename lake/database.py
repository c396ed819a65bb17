"""Small SQL databases: SQLite in the lake, PostgreSQL by URL, both through SQLAlchemy Core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ocsf_mappers.errors import ConfigError

BUSY_SECONDS = 60
"""How long a writer waits for another process's transaction."""

_IN = 500


def connect(url: str, metadata: sa.MetaData) -> sa.Engine:
    """An engine for a database; tables that are missing are made.

    Raises:
        ConfigError: The database cannot be opened.
    """
    try:
        target = sa.make_url(url)
        if target.get_backend_name() == "sqlite" and target.database:
            Path(target.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(target, poolclass=sa.NullPool)
        if engine.dialect.name == "sqlite":
            _use_wal(engine)
        metadata.create_all(engine)
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        raise ConfigError(f"cannot open the database {url!r}: {error}") from error
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


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT that can say what to do about rows that are there already."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def select_in(
    connection: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Sequence[Any]
) -> Iterator[sa.Row[Any]]:
    """The rows of a query whose column is among many values."""
    for start in range(0, len(values), _IN):
        yield from connection.execute(query.where(column.in_(values[start : start + _IN])))
