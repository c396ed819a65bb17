"""Who works on a batch: one worker at a time, on one host or on many, and a worker that died holds nothing.

On one host a lock on a file, which the kernel gives back when its process ends. With PostgreSQL a lock of the session,
which the server gives back when the connection ends. A worker whose connection is gone has lost its batches, and may
not know yet: it asks before each file it writes, and the ledger takes the result of the latest attempt only.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from ocsf_lake.ledger.database import CLIENT_SECONDS
from ocsf_lake.storage import permissions
from ocsf_mappers.errors import OcsfMappersError, RetriableError

KEY_DIGITS = 15
"""So many hexadecimal digits of a batch's id are its number as a lock of PostgreSQL, which has 64 bits and a sign."""

SERVER_SECONDS = 4 * CLIENT_SECONDS
"""After so long the server counts a silent worker as gone; the worker has found out by then, and stopped."""


class LostError(RetriableError):
    """The batch may be another worker's by now."""


class Lease(Protocol):
    """A batch that is held."""

    def check(self) -> None:
        """Asks whether it is still held.

        Raises:
            LostError: It is not.
        """


class Leases(Protocol):
    """Who holds which batch."""

    def held(self, batch_id: str) -> AbstractContextManager[Lease | None]:
        """Holds a batch for this worker alone, or gives None when another one holds it."""

    def close(self) -> None:
        """Gives back what is held."""


class FileLeases:
    """Leases of the processes of one host.

    Args:
        folder: Where the locks are, on a local disk.
        umask: Permissions that the folder does not get.
    """

    def __init__(self, folder: Path, umask: int = permissions.UMASK) -> None:
        self.folder = folder
        self.umask = umask

    @contextmanager
    def held(self, batch_id: str) -> Iterator[Lease | None]:
        """See `Leases`."""
        permissions.make_folder(self.folder, self.umask)
        path = self.folder / batch_id
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it before may have removed the file that was opened here, and a third one made a new one.
                mine = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except (BlockingIOError, FileNotFoundError):
                mine = False
            if not mine:
                yield None
                return
            try:
                yield _FileLease()
            finally:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """See `Leases`."""


class _FileLease:
    def check(self) -> None:
        """The kernel takes a lock from nobody who lives."""


class PostgresLeases:
    """Leases of all workers that share a database, held by one connection of each.

    Args:
        engine: The database. A pooler between must keep sessions, not only transactions.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._mutex = threading.Lock()
        self._connection: sa.Connection | None = None
        self._by_batch: dict[str, sa.Connection] = {}

    @contextmanager
    def held(self, batch_id: str) -> Iterator[Lease | None]:
        """See `Leases`."""
        connection = self._take(batch_id)
        if connection is None:
            yield None
            return
        try:
            yield _SessionLease(self, batch_id, connection)
        finally:
            self._give_back(batch_id, connection)

    def close(self) -> None:
        """See `Leases`."""
        with self._mutex:
            self._drop()

    def _take(self, batch_id: str) -> sa.Connection | None:
        with self._mutex:
            # The server lets one session take its own lock twice.
            if self._by_batch.get(batch_id) is self._connection is not None:
                return None
            connection = self._opened()
            if not self._asked(connection, "SELECT pg_try_advisory_lock(:key)", batch_id):
                return None
            self._by_batch[batch_id] = connection
            return connection

    def _give_back(self, batch_id: str, connection: sa.Connection) -> None:
        with self._mutex:
            if self._by_batch.get(batch_id) is not connection:
                return
            del self._by_batch[batch_id]
            if connection is self._connection:
                with suppress(OcsfMappersError, sa.exc.SQLAlchemyError):
                    self._asked(connection, "SELECT pg_advisory_unlock(:key)", batch_id)

    def check(self, connection: sa.Connection) -> None:
        """Asks whether a connection still stands.

        Raises:
            LostError: It does not.
        """
        with self._mutex:
            if connection is not self._connection:
                raise LostError("the connection that held the batch is gone")
            self._asked(connection, "SELECT 1", None)

    def _asked(self, connection: sa.Connection, sql: str, batch_id: str | None) -> bool:
        values = {} if batch_id is None else {"key": int(batch_id[:KEY_DIGITS], 16)}
        try:
            return bool(connection.execute(sa.text(sql), values).scalar())
        except (RetriableError, sa.exc.SQLAlchemyError) as error:
            self._drop()
            raise LostError(f"the connection that held the batch is gone: {error}") from error

    def _opened(self) -> sa.Connection:
        if self._connection is None:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            driver = connection.connection.dbapi_connection
            assert driver is not None
            cursor = driver.cursor()
            for name, value in (("idle", SERVER_SECONDS // 2), ("interval", SERVER_SECONDS // 6), ("count", 3)):
                cursor.execute(f"SET tcp_keepalives_{name} = {value}")
            cursor.close()
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OcsfMappersError, sa.exc.SQLAlchemyError):
                connection.invalidate()  # back in the pool its locks would live on
            with suppress(OcsfMappersError, sa.exc.SQLAlchemyError):
                connection.close()


class _SessionLease:
    def __init__(self, leases: PostgresLeases, batch_id: str, connection: sa.Connection) -> None:
        self.leases = leases
        self.batch_id = batch_id
        self.connection = connection

    def check(self) -> None:
        """See `Lease`."""
        self.leases.check(self.connection)
