"""The files of a lake: those that finished batches wrote. Queries read these and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger.database import has, select_in, snapshot
from ocsf_lake.ledger.overview import event_day
from ocsf_lake.ledger.tables import BATCHES, FILES, RETAINED, WRITTEN_OFF
from ocsf_lake.storage import layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition

Chosen = Callable[[tuple[str, ...]], bool]
"""Whether a partition with these values is chosen."""


VERSION = BATCHES.c.mapper_version + sa.literal(" ") + BATCHES.c.ocsf_version
"""By what the columns of a batch's files go."""


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
        with snapshot(self._engine) as connection:
            return {table: list(_files(connection, table, chosen)) for table, chosen in tables.items()}

    def newest(
        self, tables: Mapping[str, Chosen | None], rows: int, most: int | None = None
    ) -> dict[str, list[LakeFile]]:  # fmt: skip
        """Files of the newest days of tables, as many as have so many rows together, by path.

        Args:
            tables: See `of`.
            rows: Rows of each table.
            most: Files of each table, at most.
        """
        with snapshot(self._engine) as connection:
            return {table: _some(connection, table, chosen, rows, most) for table, chosen in tables.items()}

    def of_first_rows(
        self, tables: Mapping[str, Chosen | None], rows: int, *, latest: bool
    ) -> dict[str, list[LakeFile]]:  # fmt: skip
        """All files of the days that the first rows by time are of, by path, and of those whose day is not known.

        Args:
            tables: See `of`.
            rows: Rows of each table.
            latest: Whether the first rows are the latest; else the earliest.
        """
        with snapshot(self._engine) as connection:
            return {
                table: _some(connection, table, chosen, rows, earliest=not latest, whole_days=True)
                for table, chosen in tables.items()
            }


def of_batches(
    connection: sa.Connection, batch_ids: Collection[str], source: str, but: Collection[str]
) -> list[tuple[str, int, str]]:
    """Path, size and checksum of the files that batches of a source wrote, but for those of some tables."""
    row = FILES.c
    query = (
        sa.select(row.path, row.bytes, row.sha256)
        .join(BATCHES, BATCHES.c.id == row.batch_id)
        .where(BATCHES.c.source == source, row.table_name.not_in(but))
    )
    return [(path, size, sha256) for path, size, sha256
            in select_in(connection, query, row.batch_id, sorted(batch_ids))]  # fmt: skip


def names_of_table(connection: sa.Connection, table: str, batch_ids: Collection[str]) -> list[str]:
    """Paths of the files that batches wrote into a table, sorted."""
    query = sa.select(FILES.c.path).where(FILES.c.table_name == table)
    return sorted(path for (path,) in select_in(connection, query, FILES.c.batch_id, list(batch_ids)))


def names_of_batch(connection: sa.Connection, batch_id: str) -> set[str]:
    """Paths of the files that a batch wrote."""
    return set(connection.scalars(sa.select(FILES.c.path).where(FILES.c.batch_id == batch_id)))


def has_any(engine: sa.Engine, table: str) -> bool:
    """Whether a table has files."""
    with engine.connect() as connection:
        return bool(connection.scalar(sa.select(sa.exists().where(FILES.c.table_name == table))))


def rows_of_table(connection: sa.Connection, table: str) -> list[sa.Row[Any]]:
    """Path, partition, batch, rows, bytes and checksum of each file of a table, by path."""
    row = FILES.c
    columns = (row.path, row.partition, row.batch_id, row.rows, row.bytes, row.sha256)
    return list(connection.execute(sa.select(*columns).where(row.table_name == table).order_by(row.path)))


def rewritten(connection: sa.Connection, files: Iterable[FileInfo]) -> None:
    """Notes size and checksum of files that were written anew under their names."""
    for file in files:
        values = {"bytes": file.bytes, "sha256": file.sha256}
        connection.execute(sa.update(FILES).where(FILES.c.path == file.path).values(values))


def _partitions(connection: sa.Connection, table: str) -> list[tuple[str, ...]]:
    values = FILES.c.partition
    query = sa.select(values).where(FILES.c.table_name == table).distinct().order_by(values)
    return [tuple(text.split("/")) for text in connection.scalars(query)]


def _files(connection: sa.Connection, table: str, chosen: Chosen | None) -> Iterator[LakeFile]:
    query = _of_table(table).order_by(FILES.c.path)
    if chosen is None:
        rows = connection.execute(query).all()
    else:
        values = ["/".join(partition) for partition in _partitions(connection, table) if chosen(partition)]
        rows = sorted(select_in(connection, query, FILES.c.partition, values), key=lambda row: row[0])
    for path, size, digest, written_for in rows:
        yield LakeFile(path, size, digest, written_for)


def _some(
    connection: sa.Connection, table: str, chosen: Chosen | None, rows: int, most: int | None = None, *,
    earliest: bool = False, whole_days: bool = False,
) -> list[LakeFile]:  # fmt: skip
    day = event_day(connection.engine)
    has_no_day = FILES.c.partition.like(f"%/{layout.UNKNOWN}")
    order = (has_no_day.desc() if whole_days else has_no_day, day if earliest else day.desc(), FILES.c.path)
    query = _of_table(table).add_columns(FILES.c.partition, FILES.c.rows).order_by(*order)
    files: list[LakeFile] = []
    last = ""
    for *file, partition, of_file in connection.execute(query):
        values = tuple(partition.split("/"))
        is_enough = rows <= 0 and not (whole_days and values[-1] == last)
        if is_enough or len(files) == most:
            break
        if chosen is None or chosen(values):
            files.append(LakeFile(*file))
            last = values[-1]
            if not (whole_days and last == layout.UNKNOWN):
                rows -= of_file
    return sorted(files, key=lambda file: file.path)


def _of_table(table: str) -> sa.Select[Any]:
    return (
        sa.select(FILES.c.path, FILES.c.bytes, FILES.c.sha256, VERSION)
        .join(BATCHES, BATCHES.c.id == FILES.c.batch_id, isouter=True)
        .where(FILES.c.table_name == table)
    )
