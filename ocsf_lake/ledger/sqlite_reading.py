"""SQLite databases that one may only read: another user's, on a file system mounted read-only, of an older version.

A database in WAL mode needs a file beside it even for readers. Where none can be made and nobody writes, SQLite opens
the database as one that does not change; where somebody left a log beside it, a copy of both is read.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from ocsf_lake.ledger import compiled
from ocsf_mappers import temporary

BUSY_SECONDS = 60
"""How long a reader waits for a lock."""


def engine(path: Path, name: str) -> sa.Engine:
    """An engine whose connections read a database and change nothing.

    Args:
        path: The file.
        name: What the database is, a word.

    Raises:
        MissingError: There is no such file.
    """
    from ocsf_lake.ledger.database import MissingError

    if not path.exists():
        raise MissingError(f"there is no {name} at {str(path)!r}")
    made = sa.create_engine(
        "sqlite://", creator=lambda: _opened(path), poolclass=sa.NullPool, execution_options=compiled.OPTIONS
    )

    @sa.event.listens_for(made, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")  # one moment for all queries of a transaction

    return made


def writing(do: Callable[[sqlite3.Connection, Any], None]) -> Callable[[sqlite3.Connection, Any], None]:
    """What may make temporary tables with a connection that changes nothing else."""

    def done(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA query_only = OFF")
        do(connection, record)
        connection.execute("PRAGMA query_only = ON")

    return done


def in_memory(source: sa.Engine) -> sa.Engine:
    """A copy of a database in memory, which may be changed."""
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    raw = source.raw_connection()
    try:
        driver = raw.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.backup(copy)
    finally:
        raw.close()
    return memory_engine(copy)


def memory_engine(connection: sqlite3.Connection | None = None) -> sa.Engine:
    """An engine for one database in memory, a new one or that of a connection."""
    database = connection or sqlite3.connect(":memory:", check_same_thread=False)
    return sa.create_engine(
        "sqlite://", creator=lambda: database, poolclass=sa.StaticPool, execution_options=compiled.OPTIONS
    )


def _opened(path: Path) -> sqlite3.Connection:
    # With permission to write, the last reader removes the files that WAL mode needs; without, they would stay.
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    try:
        return _connected(path, "mode=rw" if writable else "mode=ro")
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    log = path.with_name(f"{path.name}-wal")
    if not log.exists() or not log.stat().st_size:
        return _connected(path, "immutable=1")
    with temporary.directory("ledger") as folder:
        for file in (path, log):
            shutil.copyfile(file, Path(folder) / file.name)
        copied = _connected(Path(folder) / path.name, "mode=rw")
        memory = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        copied.backup(memory)
        copied.close()
    return memory


def _connected(path: Path, how: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?{how}"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
