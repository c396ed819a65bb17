"""What a retention asks the ledger: which partitions there are, with whose events; and what went before."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from ocsf_lake.ledger import generations
from ocsf_lake.ledger.database import has
from ocsf_lake.ledger.tables import BATCHES, FILES, RETAINED, RETIRED, WRITTEN_OFF
from ocsf_lake.storage.layout import Partition


@dataclass
class Held:
    """What a partition has.

    Args:
        values: Region, account and day.
        sources: Sources of its events.
        rows: Its events.
        files: Its files.
        bytes: Their size.
        last_done: When its last batch was done, or its files were merged.
    """

    values: tuple[str, ...]
    sources: set[str] = field(default_factory=set)
    rows: int = 0
    files: int = 0
    bytes: int = 0
    last_done: str = ""


def partitions(engine: sa.Engine, table: str) -> list[Held]:
    """The partitions of a table that have files, sorted."""
    row = FILES.c
    query = (
        sa.select(
            row.partition, BATCHES.c.source, sa.func.sum(row.rows), sa.func.count(), sa.func.sum(row.bytes),
            sa.func.max(BATCHES.c.done_at),
        )
        .join(BATCHES, BATCHES.c.id == row.batch_id)
        .where(row.table_name == table)
        .group_by(row.partition, BATCHES.c.source)
        .order_by(row.partition)
    )  # fmt: skip
    by_values: dict[str, Held] = {}
    with engine.connect() as connection:
        for values, source, rows, files, size, last in connection.execute(query):
            partition = by_values.setdefault(values, Held(tuple(values.split("/"))))
            partition.sources.add(source)
            partition.rows += int(rows)
            partition.files += files
            partition.bytes += int(size)
            partition.last_done = max(partition.last_done, last)
    return list(by_values.values())


def tables(engine: sa.Engine) -> list[str]:
    """The tables that have files, sorted."""
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(FILES.c.table_name).distinct().order_by(FILES.c.table_name)))


def folders(connection: sa.Connection, table: str) -> set[str]:
    """Where files of those partitions belong that a retention, or the loss of their files, may have emptied."""
    emptied = {
        Partition(table, tuple(values.split("/"))) for rows in (RETAINED, WRITTEN_OFF) if has(connection, rows)
        for values in connection.scalars(sa.select(rows.c.partition).where(rows.c.table_name == table).distinct())
    }  # fmt: skip
    return set(generations.current(connection, emptied).values())


def total(engine: sa.Engine) -> tuple[int, int]:
    """Events that retentions have removed so far, and of how many partitions."""
    query = sa.select(sa.func.coalesce(sa.func.sum(RETAINED.c.rows), 0), sa.func.count())
    with engine.connect() as connection:
        rows, partitions = connection.execute(query).one() if has(connection, RETAINED) else (0, 0)
    return int(rows), int(partitions)


@dataclass(frozen=True)
class Gone:
    """A partition that a retention emptied.

    Args:
        values: Region, account and day.
        rows: Its events.
        has_files: Whether files of it are still there.
    """

    table: str
    values: tuple[str, ...]
    rows: int
    has_files: bool


def gone(engine: sa.Engine) -> list[Gone]:
    """What retentions have emptied so far."""
    row = RETAINED.c
    remaining = (
        sa.select(RETIRED.c.compaction_id, RETIRED.c.partition)
        .where(RETIRED.c.removed_at.is_(None), RETIRED.c.merge_id == RETIRED.c.compaction_id)
        .distinct()
    )
    with engine.connect() as connection:
        left = {tuple(item) for item in connection.execute(remaining)}
        query = sa.select(row.table_name, row.partition, row.rows, row.retention_id).order_by(*RETAINED.primary_key)
        return [
            Gone(table, tuple(values.split("/")), rows, (retention, values) in left)
            for table, values, rows, retention in connection.execute(query)
        ]
