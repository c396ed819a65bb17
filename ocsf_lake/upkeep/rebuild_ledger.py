"""A ledger that is lost, rebuilt from the lake: from the batches' records, and where there are none from the rows.

With records the new ledger is the old one: batches that were done, their objects, files and counts, the loss meter,
duplicates, replays, purges and exports. Not in it are batches that were planned and not done, and objects that were
looked at and went into no batch: the next run looks at them again.

A lake of a version that wrote no records has its rows alone. They show what was read and what became of it; objects
that gave neither events nor quarantine are not known, and are read again, which adds nothing; what was dropped counts
as not read. A batch that died halfway is not recognized there.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
import sqlalchemy as sa  # noqa: TID251 - statements of its own over the ledger's tables

from ocsf_lake.config import Settings
from ocsf_lake.ingest import duplicates, routed
from ocsf_lake.inputs import discovery
from ocsf_lake.lake import bare
from ocsf_lake.ledger import chain, compactions, generations, marker, meter, objects, records, redactions, versions
from ocsf_lake.ledger.database import lock
from ocsf_lake.ledger.ledger import put_done
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
    RETIRED,
    ROUTED,
    WRITTEN_OFF,
    tell_kinds,
)
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import inferred
from ocsf_mappers.errors import ConfigError, ReadError

_ROWS = 5_000


@dataclass
class Summary:
    """What was made.

    Args:
        batches: Batches that were done.
        objects: Objects that they read.
        files: Files of the lake that they wrote.
        events: Events in those.
        quarantined: Records in quarantine.
        exact: Whether it is from records; else it was inferred from the rows.
        missing: Files that batches wrote and that are gone.
        unknown: Files that no batch wrote to its end.
    """

    batches: int = 0
    objects: int = 0
    files: int = 0
    events: int = 0
    quarantined: int = 0
    exact: bool = True
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def rebuild(settings: Settings, *, replacing: bool = False) -> Summary:
    """Makes the ledger of the settings from the lake's files, and notes in the lake that it belongs to it.

    All in one transaction: a rebuild that dies leaves what was there, and is run again.

    Args:
        settings: The lake, and where its ledger is to be.
        replacing: Also where a ledger with batches is there; what it has is forgotten.

    Raises:
        ConfigError: There is no such lake, or a ledger with batches is there.
        ReadError: A record is damaged.
        RetriableError: The store or the database does not answer.
    """
    with bare(settings) as (store, ledger, place):
        content = marker.read(store)
        if content is None and not marker.holds_files(store):
            raise ConfigError(f"there is no lake at {settings.lake!r}: nothing to make a ledger from")
        with ledger.engine.begin() as connection:
            lock(connection, "plan")
            if connection.scalar(sa.select(sa.func.count()).select_from(BATCHES)) and not replacing:
                raise ConfigError(
                    f"there is a ledger with batches at {place}; --replace makes it anew from the lake's files, and "
                    "forgets what it has"
                )
            for table in METADATA.tables.values():
                connection.execute(sa.delete(table))
            summary, moved = _fill(connection, store, content is not None)
            if settings.ledger_url is not None:
                connection.execute(sa.insert(ABOUT), {"key": "lake", "value": store.uri("").rstrip("/")})
            if content is None:
                records.checkpoint(connection, store)
            # Before the transaction ends: a ledger that no lake names is rebuilt, a lake without one reads twice.
            marker.replace(store, marker.give_id(connection), place)
            _put_chain(connection, store, moved)
        chain.publish(ledger.engine, store)
    return summary


def _put_chain(connection: sa.Connection, store: Store, moved: Iterable[Record]) -> None:
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
    query = sa.select(FILES.c.path, FILES.c.sha256, FILES.c.bytes, FILES.c.rows).order_by(FILES.c.path)
    files = {path: chain.Listed(path, *facts) for path, *facts in connection.execute(query)}
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


def _fill(connection: sa.Connection, store: Store, recorded: bool) -> tuple[Summary, list[Record]]:
    """Puts in what the lake has; gives what was done, and the records of compactions."""
    summary = Summary(exact=recorded)
    moved: list[Record] = []
    stored = {name for prefix in inferred.prefixes() for name in store.sizes(prefix)}
    number = 0
    if recorded:
        _put_checkpoint(connection, store)
        all_records = list(records.read_all(store))
        number = max((record.number for record in all_records), default=0)
        # As they ended, so that counts, and who saw something first, come out as they were.
        last = {record.batch.id: record for record in all_records if record.batch is not None}
        moved = [record for record in all_records if record.moved is not None]
        left_behind = _LeftBehind.of(moved)
        for record in sorted(last.values(), key=lambda record: (record.at, record.number)):
            if not left_behind.has(record):
                _put_batch(connection, record)
        for record in all_records:
            _put_rows(connection, record)
    else:
        inferred.put(connection, store, sorted(stored))
    marker.set_last_number(connection, number)
    _count(connection, summary)
    registered = set(connection.scalars(sa.select(FILES.c.path)))
    stored = {path for path in stored if not path.endswith(f"/{layout.PLAN}")}
    retired = {path for paths in compactions.retired(connection).values() for path in paths}
    summary.unknown, summary.missing = sorted(stored - registered - retired), sorted(registered - stored)
    return summary, moved


@dataclass(frozen=True)
class _LeftBehind:
    """Batches that died before the ledger counted them as done, and whose partitions were moved then.

    What was done by then moved along. What was not has its files where nobody looks for them, and is done anew.

    Args:
        folders: Partition -> the folder that its files are in.
        taken: The files that were merged, came along, were removed, or were written off before that.
    """

    folders: Mapping[Partition, str]
    taken: Set[str]

    @classmethod
    def of(cls, moved: Iterable[Record]) -> _LeftBehind:
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


def _put_batch(connection: sa.Connection, record: Record) -> None:
    batch, result, facts = record.batch, record.result, record.facts
    assert batch is not None
    assert result is not None
    assert facts is not None
    put_done(connection, batch, result, facts.done_at, facts.worker)
    duplicates.note(connection, batch, duplicates.Policy(facts.policy), result, facts.key)
    redactions.note(connection, batch, result)
    meter.record(connection, batch, result, discovery.day_of, facts.done_at)
    for one, routed_result in result.routed:
        routed.put(connection, batch, one, routed_result, facts.done_at)
        connection.execute(sa.insert(ROUTED), {"batch_id": one.id, "of_batch": batch.id})
        policy, key = facts.routed[one.source]
        duplicates.note(connection, one, duplicates.Policy(policy), routed_result, key)


def _put_rows(connection: sa.Connection, record: Record) -> None:
    compactions.apply(connection, record.put or {}, record.moved or {})
    for path in record.gone:
        connection.execute(sa.delete(FILES).where(FILES.c.path == path))


def _count(connection: sa.Connection, summary: Summary) -> None:
    row = BATCHES.c
    query = sa.select(sa.func.count(), sa.func.sum(row.events), sa.func.sum(row.quarantined)).where(
        row.state == State.DONE
    )
    batches, events, quarantined = connection.execute(query).one()
    summary.batches, summary.events, summary.quarantined = batches, int(events or 0), int(quarantined or 0)
    summary.objects = connection.scalar(sa.select(sa.func.count()).where(OBJECTS.c.state == State.DONE)) or 0
    summary.files = connection.scalar(sa.select(sa.func.count()).select_from(FILES)) or 0


# -- ledgers from before there were records ---------------------------------------------------------------------------
def _put_checkpoint(connection: sa.Connection, store: Store) -> None:
    for name, rows in _checkpoint_rows(store):
        if name == OBJECTS.name:
            objects.put(connection, rows)
        elif name in METADATA.tables:
            connection.execute(sa.insert(METADATA.tables[name]), rows)
    tell_kinds(connection)
    is_open = BATCHES.c.state != State.DONE
    open_ids = sa.select(BATCHES.c.id).where(is_open)
    objects.remove_planned(connection, list(connection.scalars(open_ids)))
    connection.execute(sa.delete(BATCHES).where(is_open))
    connection.execute(sa.delete(METADATA.tables["traces"]))


def _checkpoint_rows(store: Store) -> Iterator[tuple[str, list[dict[str, object]]]]:
    for path in sorted(store.sizes(marker.RECORDS)):
        name = path.rpartition("/")[2]
        if name.startswith(records.CHECKPOINT) and name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(store.get(path) or b""))
            for part in table.to_batches(max_chunksize=_ROWS):
                yield name.removeprefix(f"{records.CHECKPOINT}-").removesuffix(".parquet"), part.to_pylist()


