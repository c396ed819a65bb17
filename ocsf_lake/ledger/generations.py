"""Where the files of partitions are: one that is compacted moves into its next generation, a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from ocsf_lake.ledger.database import lock, select_in
from ocsf_lake.ledger.tables import GENERATIONS
from ocsf_lake.storage import layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_mappers import registry
from ocsf_mappers.errors import RetriableError
from ocsf_mappers.ocsf import tables


class MovedError(RetriableError):
    """A batch has files where a partition's files were: it was, or is being, compacted meanwhile."""

    def __init__(self, table: str) -> None:
        super().__init__("a partition was compacted while the batch was under way", table=table)
        self.table = table


def folder(partition: Partition, generation: int) -> str:
    """Folder of a partition of events in one of its generations."""
    return layout.folder(registry.table(partition.table).prefix, tables.PARTITION_KEYS, partition.values, generation)


def folders(engine: sa.Engine, partitions: Iterable[Partition]) -> dict[Partition, str]:
    """Where the files of partitions of events are, and new ones belong."""
    distinct = set(partitions)
    with engine.connect() as connection:
        return current(connection, distinct)


def current(connection: sa.Connection, partitions: set[Partition]) -> dict[Partition, str]:
    """The same, in a transaction."""
    query = sa.select(GENERATIONS.c.table_name, GENERATIONS.c.partition, GENERATIONS.c.generation)
    generations = {
        (table, values): generation
        for table, values, generation in select_in(connection, query, GENERATIONS.c.partition, _values(partitions))
    }
    return {item: folder(item, generations.get((item.table, "/".join(item.values)), 0)) for item in sorted(partitions)}


def _values(partitions: Iterable[Partition]) -> list[str]:
    return sorted({"/".join(item.values) for item in partitions})


def check(connection: sa.Connection, files: Iterable[FileInfo]) -> None:
    """Whether a batch's files are where their partitions' files are, in the transaction that marks it done.

    Nobody can put a fence around one of the partitions until that ends.

    Raises:
        MovedError: They are not, or a fence is there; nothing may be marked.
    """
    places: dict[Partition, set[str]] = {}
    for file in files:
        if file.partition.table in registry.tables():
            places.setdefault(file.partition, set()).add(layout.folder_of(file.path))
    for table in sorted({partition.table for partition in places}):
        lock(connection, f"partitions of {table}", shared=True)
    query = sa.select(GENERATIONS.c.table_name, GENERATIONS.c.partition).where(GENERATIONS.c.fence.is_not(None))
    fenced = {tuple(row) for row in select_in(connection, query, GENERATIONS.c.partition, _values(places))}
    folders_now = current(connection, set(places))
    for partition, used in sorted(places.items()):
        if (partition.table, "/".join(partition.values)) in fenced or used != {folders_now[partition]}:
            raise MovedError(partition.table)
