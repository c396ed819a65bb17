"""The files of a lake: those that finished batches wrote. Queries read these and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from ocsf_lake.ledger.database import has, select_in
from ocsf_lake.ledger.tables import BATCHES, FILES, RETAINED, WRITTEN_OFF
from ocsf_lake.storage.layout import Partition

Chosen = Callable[[tuple[str, ...]], bool]
"""Whether a partition with these values is chosen."""


@dataclass(frozen=True)
class LakeFile:
    """A file of the lake.

    Args:
        path: Below the lake's root.
        bytes: Size.
        sha256: Checksum of its bytes, in hex.
        version: The mapper's, and OCSF's, that its batch was planned for; files of one version have the same columns.
    """

    path: str
    bytes: int
    sha256: str
    version: str | None


class Files:
    """The files of one lake.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def partitions(self, table: str) -> list[Partition]:
        """The partitions of a table that have files, sorted."""
        with self._engine.connect() as connection:
            return [Partition(table, values) for values in _partitions(connection, table)]

    def gone(self, table: str) -> dict[tuple[str, ...], int]:
        """Values -> events of the partitions of a table that a retention emptied."""
        query = sa.select(RETAINED.c.partition, RETAINED.c.rows).where(RETAINED.c.table_name == table)
        events: Counter[tuple[str, ...]] = Counter()
        with self._engine.connect() as connection:
            for values, rows in connection.execute(query) if has(connection, RETAINED) else ():
                events[tuple(values.split("/"))] += rows
        return events

    def lost(self, table: str) -> dict[tuple[str, ...], int]:
        """Values -> events of the partitions of a table that have lost some, and do without them."""
        row = WRITTEN_OFF.c
        is_off = row.table_name == table, row.taken_back_at.is_(None)
        query = sa.select(row.partition, sa.func.sum(row.rows)).where(*is_off).group_by(row.partition)
        with self._engine.connect() as connection:
            rows = connection.execute(query).all() if has(connection, WRITTEN_OFF) else []
        return {tuple(values.split("/")): int(number) for values, number in rows}

    def paths(self, table: str) -> dict[str, int]:
        """Path -> bytes of a table's files, by path."""
        query = sa.select(FILES.c.path, FILES.c.bytes).where(FILES.c.table_name == table).order_by(FILES.c.path)
        with self._engine.connect() as connection:
            return dict(connection.execute(query).tuples().all())

    def of(self, tables: Mapping[str, Chosen | None]) -> dict[str, list[LakeFile]]:
        """The files of several tables at one moment, by path.

        Args:
            tables: Name of each table -> which of its partitions; None for all.
        """
        with self._moment() as connection:
            return {table: list(_files(connection, table, chosen)) for table, chosen in tables.items()}

    @contextmanager
    def _moment(self) -> Iterator[sa.Connection]:
        """A transaction all of whose queries see the same; in SQLite each does."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection


def _partitions(connection: sa.Connection, table: str) -> list[tuple[str, ...]]:
    values = FILES.c.partition
    query = sa.select(values).where(FILES.c.table_name == table).distinct().order_by(values)
    return [tuple(text.split("/")) for text in connection.scalars(query)]


def _files(connection: sa.Connection, table: str, chosen: Chosen | None) -> Iterator[LakeFile]:
    version = BATCHES.c.mapper_version + sa.literal(" ") + BATCHES.c.ocsf_version
    query = (
        sa.select(FILES.c.path, FILES.c.bytes, FILES.c.sha256, version)
        .join(BATCHES, BATCHES.c.id == FILES.c.batch_id, isouter=True)
        .where(FILES.c.table_name == table)
        .order_by(FILES.c.path)
    )
    if chosen is None:
        rows = connection.execute(query).all()
    else:
        values = ["/".join(partition) for partition in _partitions(connection, table) if chosen(partition)]
        rows = sorted(select_in(connection, query, FILES.c.partition, values), key=lambda row: row[0])
    for path, size, digest, written_for in rows:
        yield LakeFile(path, size, digest, written_for)
