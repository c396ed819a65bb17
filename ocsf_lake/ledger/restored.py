"""A ledger that is made anew from its lake's records, see `ocsf_lake.upkeep.rebuild_ledger`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import pyarrow.parquet as pq
import sqlalchemy as sa

from ocsf_lake.ledger import chain, compactions, generations, marker, objects, records, rereads, versions
from ocsf_lake.ledger.records import Record
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import (
    ABOUT,
    BATCHES,
    COMPACTIONS,
    FILES,
    GENERATIONS,
    METADATA,
    OBJECTS,
    ORPHANS,
    RETIRED,
    WRITTEN_OFF,
    set_kinds,
)
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import ReadError

_ROWS = 5_000


def has_batches(connection: sa.Connection) -> bool:
    """Whether a ledger knows a batch."""
    return bool(connection.scalar(sa.select(sa.exists().where(BATCHES.c.id.is_not(None)))))


def clear(connection: sa.Connection, lake: str | None) -> None:
    """Makes a ledger forget everything.

    Args:
        connection: The transaction.
        lake: URI of the lake that it is of from now on; None where the ledger's place shows it.
    """
    for table in METADATA.tables.values():
        connection.execute(sa.delete(table))
    if lake is not None:
        connection.execute(sa.insert(ABOUT), {"key": "lake", "value": lake})


def put_rows(connection: sa.Connection, record: Record, recorded: Set[str]) -> None:
    """Writes what a record has that is of no batch: rows of tables, and files that are gone.

    Args:
        connection: The transaction.
        record: The record.
        recorded: Batches that have a record of their own, which has what objects left of them.
    """
    if record.reduced is not None and record.reduced.batches[0] in recorded:
        return
    compactions.apply(connection, record.put or {}, record.moved or {})
    for path in record.gone:
        connection.execute(sa.delete(FILES).where(FILES.c.path == path))
    rereads.restore(connection, record)


@dataclass(frozen=True)
class Totals:
    """What a ledger has: finished batches, their events and records in quarantine, the objects read, the files."""

    batches: int
    events: int
    quarantined: int
    objects: int
    files: int


def totals(connection: sa.Connection) -> Totals:
    """What a ledger has."""
    row = BATCHES.c
    sums = sa.select(sa.func.count(), sa.func.sum(row.events), sa.func.sum(row.quarantined))
    batches, events, quarantined = connection.execute(sums.where(row.state == State.DONE)).one()
    read = connection.scalar(sa.select(sa.func.count()).where(OBJECTS.c.state == State.DONE))
    files = connection.scalar(sa.select(sa.func.count()).select_from(FILES))
    return Totals(batches, int(events or 0), int(quarantined or 0), read or 0, files or 0)


# -- records of compactions, and the chain -----------------------------------------------------------------------------
def put_chain(connection: sa.Connection, store: Store, moved: Iterable[Record]) -> None:
    """Takes the records of the chain over, and writes one of the lake's new marker and of files that none of them has.

    Who died between a change and its record leaves such files, if that was the end of the ledger too. A compaction that
    came so far gets the record that it would have: its old files lie there for their time of grace.
    """
    chain.restore(connection, store)
    is_begun = False
    live: dict[str, chain.Listed] = {}
    for row in chain.rows(connection):
        try:
            record = chain.parsed(chain.content(row.body, row.hash, row.signature))
        except ReadError:
            continue
        is_begun = True
        compactions.restore(connection, record)
        versions.restore(connection, record)
        for file in record.removed:
            live.pop(file.path, None)
        live |= {file.path: file for file in record.added}
    if not is_begun:
        return  # a lake of an older version; the next writer begins its chain
    for one in moved:
        _put_moved(connection, store, one, live)
    files = {file.path: file for file in sorted(chain.all_files(connection), key=attrgetter("path"))}
    added = [file for path, file in files.items() if live.get(path) != file]
    removed = [file for path, file in live.items() if files.get(path) != file]
    detail = {"beside": chain.of_marker(store)}
    chain.append(connection, kind="rebuild-ledger", added=added, removed=removed, detail=detail)


def _put_moved(connection: sa.Connection, store: Store, record: Record, live: dict[str, chain.Listed]) -> None:
    """Writes the chain's record of a compaction, where the chain has none: it has the old files still."""
    rows = record.put or {}
    old, new = (chain.of_rows(rows.get(table.name, [])) for table in (RETIRED, FILES))
    if live.keys().isdisjoint(file.path for file in old):
        return
    paths = [f"{generations.folder(*_place(row))}/{layout.PLAN}" for row in rows[GENERATIONS.name]]
    paths.append(f"{marker.RECORDS}/{marker.file_name(record.number, rows[COMPACTIONS.name][0]['id'])}")
    beside = [chain.beside(path, data) for path in paths if (data := store.get(path)) is not None]
    compactions.put_chain(connection, rows, beside)
    for file in old:
        live.pop(file.path, None)
    live |= {file.path: file for file in new}


@dataclass(frozen=True)
class LeftBehind:
    """Batches that died before the ledger counted them as done, and whose partitions were moved then.

    What was done by then moved along. What was not has its files where nobody looks for them, and is done anew.

    Args:
        folders: Partition -> the folder that its files are in.
        taken: The files that were merged, came along, were removed, or were written off before that.
    """

    folders: Mapping[Partition, str]
    taken: Set[str]

    @classmethod
    def of(cls, moved: Iterable[Record]) -> LeftBehind:
        """By the records of compactions, by number."""
        rows = [record.put or {} for record in moved]
        places = [_place(row) for put in rows for row in put.get(GENERATIONS.name, [])]
        taken = {row["path"] for put in rows for name in (RETIRED.name, WRITTEN_OFF.name) for row in put.get(name, [])}
        return cls({place[0]: generations.folder(*place) for place in places}, taken)

    def has(self, record: Record) -> bool:
        """Whether a batch's record is of such a batch."""
        assert record.result is not None
        return any(
            layout.folder_of(file.path) != self.folders.get(file.partition, layout.folder_of(file.path))
            and file.path not in self.taken
            for file in record.result.all_files
        )


def _place(row: Mapping[str, Any]) -> tuple[Partition, int]:
    return Partition(row["table_name"], tuple(row["partition"].split("/"))), row["generation"]


# -- ledgers from before there were records ---------------------------------------------------------------------------
def put_checkpoint(connection: sa.Connection, store: Store) -> None:
    """Writes what a ledger had of finished batches when its lake got a marker."""
    for name, rows in _checkpoint_rows(store):
        if name == OBJECTS.name:
            objects.put(connection, rows)
        elif name in METADATA.tables:
            connection.execute(sa.insert(METADATA.tables[name]), rows)
    set_kinds(connection)
    is_open = BATCHES.c.state != State.DONE
    open_ids = sa.select(BATCHES.c.id).where(is_open)
    objects.remove_planned(connection, list(connection.scalars(open_ids)))
    connection.execute(sa.delete(BATCHES).where(is_open))
    connection.execute(sa.delete(ORPHANS))


def _checkpoint_rows(store: Store) -> Iterator[tuple[str, list[dict[str, object]]]]:
    for path in sorted(store.sizes(marker.RECORDS)):
        name = path.rpartition("/")[2]
        if name.startswith(records.CHECKPOINT) and name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(store.get(path) or b""))
            for part in table.to_batches(max_chunksize=_ROWS):
                yield name.removeprefix(f"{records.CHECKPOINT}-").removesuffix(".parquet"), part.to_pylist()
