"""Objects read again: as another source than they were taken for, or by a mapper that was mended.

Only where none of an object's records became an event, so that nothing is in the lake twice. What quarantine has of it
is taken out: the file is written anew without it, the catalogs are updated, and in one transaction the ledger forgets
what became of the object and has it in a new batch. The record of the batch that it was in, from which a ledger is made
again, says the same from then on. A run that dies before that leaves everything as it was, but for files that the next
one removes; after it, the new batch is open like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa  # noqa: TID251 - statements of its own over the ledger's tables

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.ingest import batch, duplicates, undo
from ocsf_lake.inputs import discovery
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import chain, marker, objects, orphans, records, replays, written_off
from ocsf_lake.ledger.ledger import file_row
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.results import Batch, Kind, State
from ocsf_lake.ledger.tables import BATCHES, DUPLICATES, FILES, METER, OBJECTS, ORPHANS, ROUTED
from ocsf_lake.storage import fetched, layout, parquet
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import RetriableError

Key = tuple[str, str]
"""URI and ETag of an object."""


@dataclass(frozen=True)
class Read:
    """What became of an object that was read, or set aside.

    Args:
        source: What it was read as; None when it was set aside without a source.
        batch_id: The batch it was read in; None when it was in none.
        mapper_version: The mapper that read it.
        events: How many of its records are events.
        quarantined: How many are in quarantine.
        dropped: How many are counted drops.
    """

    source: str | None
    batch_id: str | None
    mapper_version: str | None
    events: int
    quarantined: int
    dropped: int


def before(lake: Lake, refs: Sequence[ObjectRef]) -> dict[Key, Read]:
    """What became of those of these objects that earlier runs have read or set aside."""
    columns = OBJECTS.c
    query = (
        sa.select(
            columns.uri, columns.etag, columns.source, columns.batch_id, BATCHES.c.mapper_version, columns.events,
            columns.quarantined, columns.dropped,
        )
        .select_from(OBJECTS.outerjoin(BATCHES, BATCHES.c.id == columns.batch_id))
        .where(columns.state.in_([State.DONE, State.SET_ASIDE]))
    )  # fmt: skip
    keys = {ref.key for ref in refs}
    with lake.ledger.engine.connect() as connection:
        rows = list(objects.select(connection, query, (ref.uri for ref in refs)))
    return {(uri, etag): Read(*facts) for uri, etag, *facts in rows if (uri, etag) in keys}


def kept_reason(lake: Lake, read: Read) -> str | None:
    """Why an object cannot be read as another source than it was, or None."""
    if read.events:
        number = "one of its records is an event" if read.events == 1 else f"{read.events:,} of its records are events"
        return f"it was read as {read.source} before and {number} of the lake; nothing was changed"
    if read.dropped and read.batch_id and duplicates.policy_of(lake.ledger, read.batch_id) is duplicates.Policy.DROP:
        return f"it was read as {read.source} before, and the lake may have its records from elsewhere"
    return None


def is_worth_it(read: Read, source: str, version: str) -> bool:
    """Whether reading an object without events again may give some."""
    if read.source != source:
        return True
    return not read.events and bool(read.quarantined) and read.mapper_version != version


def move(lake: Lake, old: str | None, refs: Sequence[ObjectRef], batches: Sequence[Batch]) -> list[str]:
    """Takes objects out of the batch they were read in and puts them into new ones.

    Args:
        lake: The lake.
        old: The batch; None for objects that were set aside without one.
        refs: The objects, none of whose records became an event.
        batches: Where they go.

    Returns:
        The new batches.

    Raises:
        LakeFileError: Records of the batch in quarantine are lost; nothing was changed.
        RetriableError: Another run works on the batch, or on its source's quarantine.
        WriteError: The lake refused a file.
    """
    with ExitStack() as stack:
        ids = [] if old is None else _ids(lake, old)
        for source in sorted(_sources(lake, ids)):
            if stack.enter_context(replays.held(lake.leases, source)) is None:
                raise RetriableError("a replay or purge of quarantine is going on; run it again", source=source)
            undo.unfinished_replays(lake, source)
        if old is not None and stack.enter_context(lake.leases.held(old)) is None:
            raise RetriableError("another run works on the batch; run the command again", batch=old)
        moving = _Moving(lake, ids, refs)
        moving.write()
        batch.failpoint("rewritten", old or "")
        planned = lake.ledger.plan(batches, first=moving.apply)
        lake.publish_chain()
        # Only then: a ledger that is lost before has what was there before, files too.
        records.put_reduced(lake.store, moving.records)
        batch.failpoint("moved", old or "")
        moving.remove_old()
    return [new.id for new in planned]


def _ids(lake: Lake, batch_id: str) -> list[str]:
    with lake.ledger.engine.connect() as connection:
        return orphans.ids(connection, batch_id)


def _sources(lake: Lake, ids: Sequence[str]) -> set[str]:
    with lake.ledger.engine.connect() as connection:
        return set(connection.scalars(sa.select(BATCHES.c.source).where(BATCHES.c.id.in_(ids))))


@dataclass
class _Moving:
    """Some objects that leave a batch.

    Args:
        lake: The lake.
        ids: The batch, and those of records of other sources in its objects; none for objects of no batch.
        refs: The objects.
    """

    lake: Lake
    ids: Sequence[str]
    refs: Sequence[ObjectRef]
    _files: dict[str, list[FileInfo]] = field(default_factory=dict)
    _gone: list[str] = field(default_factory=list)
    _rows: dict[tuple[str, Key], int] = field(default_factory=dict)
    """Batch and object -> rows taken out of quarantine."""
    records: dict[str, bytes] = field(default_factory=dict)
    """What `apply` makes of the batch's record in the lake."""

    def write(self) -> None:
        """Writes files of quarantine anew, without the objects' rows and under other names; nobody sees them yet."""
        for batch_id in self.ids:
            self._files[batch_id] = []
            for file in written_off.files_of(self.lake.ledger.engine, batch_id):
                if file.partition.table == QUARANTINE:  # whose records nobody knows
                    raise LakeFileError("a file of the lake was lost and written off", file=file.path)
            for file in self.lake.ledger.files_of(batch_id):
                self._files[batch_id] += self._without(batch_id, file)

    def _without(self, batch_id: str, file: FileInfo) -> list[FileInfo]:
        store, keys = self.lake.store, {ref.key for ref in self.refs}
        if file.partition.table != QUARANTINE:
            return [file]
        with TemporaryDirectory(prefix="ocsf-lake-") as folder:
            (local,) = fetched.fetch(store, [(file.path, file.sha256)], Path(folder))
            rows = pq.read_table(local)
        places = zip(rows["source_object"].to_pylist(), rows["source_etag"].to_pylist(), strict=True)
        moved = [place if place in keys else None for place in places]
        if not any(moved):
            return [file]
        for place in filter(None, moved):
            self._rows[batch_id, place] = self._rows.get((batch_id, place), 0) + 1
        self._gone.append(file.path)
        rest = rows.filter(pa.array([place is None for place in moved], pa.bool_()))
        if not len(rest):
            return []
        tag = hashlib.sha256(repr(sorted(keys)).encode()).hexdigest()[:8]
        path = f"{file.path.removesuffix('.parquet')}-{tag}.parquet"
        Orphans(self.lake.ledger.engine, batch_id).note([path.rpartition("/")[0]])
        data = parquet.encode(rest, self.lake.settings)
        store.put(path, data)
        return [FileInfo(path, file.partition, None, len(rest), data.size, parquet.checksum(data))]

    def apply(self, connection: sa.Connection) -> None:
        """Makes the catalogs and the ledger forget what became of the objects, inside a transaction."""
        columns = OBJECTS.c
        main = self.ids[0] if self.ids else None
        counted: dict[Key, tuple[int, int, int]] = {}
        for ref in self.refs:
            query = sa.select(columns.read, columns.quarantined, columns.dropped).where(
                columns.etag == ref.etag, columns.batch_id.is_not_distinct_from(main)
            )
            row = next(objects.select(connection, query, [ref.uri]), None)
            if row is None:
                raise RetriableError("another run has planned the object meanwhile; run it again", object=ref.uri)
            counted[ref.key] = tuple(row)
            objects.remove(connection, [ref.key])
        if main is None:
            return
        left = _objects(connection, main)
        emptied = not left
        without_events = {key: [file for file in files if file.class_uid is None] for key, files in self._files.items()}
        self.records = records.reduced(self.lake.store, main, left, without_events)
        folders = {path.rpartition("/")[0] for path in self._gone} | {marker.RECORDS}
        for batch_id in self.ids:
            # The folders of the old files and of the record: the next run that finds this done ends it.
            Orphans.note_in(connection, batch_id, folders)
            if emptied:
                self.lake.catalog.drop(batch_id)
            else:
                self.lake.catalog.register(batch_id, self._files[batch_id])
        batch.failpoint("registered", main)
        self._record(connection, main, [] if emptied else [file for files in self._files.values() for file in files])
        if emptied:
            self._forget(connection)
            return
        for batch_id in self.ids:
            connection.execute(sa.delete(FILES).where(FILES.c.batch_id == batch_id))
            if rows := [file_row(batch_id, file) for file in self._files[batch_id]]:
                connection.execute(sa.insert(FILES), rows)
        self._subtract(connection, counted)

    def _record(self, connection: sa.Connection, main: str, left: Sequence[FileInfo]) -> None:
        """Writes into the chain which files the batches have no more, and which instead."""
        query = sa.select(FILES.c.path).where(FILES.c.batch_id.in_(self.ids))
        before = chain.listed(connection, connection.scalars(query).all())
        old, new = {file.path for file in before}, {file.path for file in left}
        removed, added = [file for file in before if file.path not in new], [f for f in left if f.path not in old]
        detail = {
            "beside": [chain.beside(name, data) for name, data in self.records.items() if data],
            "beside_removed": [name for name, data in self.records.items() if not data],
        }
        if added or removed or self.records:
            chain.append(connection, kind="reread", subject=main, added=added, removed=removed, detail=detail)

    def _forget(self, connection: sa.Connection) -> None:
        for table in (FILES, METER, DUPLICATES, ROUTED):
            connection.execute(sa.delete(table).where(table.c.batch_id.in_(self.ids)))
        connection.execute(sa.delete(BATCHES).where(BATCHES.c.id.in_(self.ids)))

    def _subtract(self, connection: sa.Connection, counted: Mapping[Key, tuple[int, int, int]]) -> None:
        """Takes the objects' records out of the counts of the batches they were counted in."""
        main, *routed = self.ids
        for ref in self.refs:
            read, quarantined, dropped = counted[ref.key]
            for batch_id in routed:
                number = self._rows.get((batch_id, ref.key), 0)
                self._take(connection, batch_id, ref, number, number, 0)
                read, quarantined = read - number, quarantined - number
            self._take(connection, main, ref, read, quarantined, dropped)
        sizes = {"objects": len(self.refs), "bytes_in": sum(ref.size for ref in self.refs)}
        values = {name: BATCHES.c[name] - number for name, number in sizes.items()}
        connection.execute(sa.update(BATCHES).where(BATCHES.c.id == main).values(values))

    def _take(
        self, connection: sa.Connection, batch_id: str, ref: ObjectRef, read: int, quarantined: int, dropped: int
    ) -> None:
        counts = {"read": read, "quarantined": quarantined, "dropped": dropped}
        values = {name: BATCHES.c[name] - number for name, number in counts.items()}
        connection.execute(sa.update(BATCHES).where(BATCHES.c.id == batch_id).values(values))
        day = discovery.of_key(ref.uri).day or layout.UNKNOWN
        row = (METER.c.batch_id == batch_id) & (METER.c.day == day)
        values = {name: METER.c[name] - counts[name] for name in ("quarantined", "dropped")}
        connection.execute(sa.update(METER).where(row).values(values))

    def remove_old(self) -> None:
        """Removes the files that nothing names any more."""
        self.lake.store.remove(self._gone)
        with self.lake.ledger.engine.begin() as connection:
            connection.execute(sa.delete(ORPHANS).where(ORPHANS.c.batch_id.in_(self.ids)))


def _objects(connection: sa.Connection, batch_id: str) -> set[Key]:
    """The objects of a batch."""
    columns = OBJECTS.c
    return {(uri, etag) for uri, etag in connection.execute(
        sa.select(columns.uri, columns.etag).where(columns.batch_id == batch_id))}  # fmt: skip


def clean(lake: Lake) -> None:
    """Removes files that an interrupted run has left of batches which were done before it."""
    done = sa.select(BATCHES.c.id).where(BATCHES.c.state == State.DONE)
    all_ids = sa.union(sa.select(BATCHES.c.id), sa.select(ROUTED.c.batch_id))
    named = ORPHANS.c.batch_id
    with lake.ledger.engine.connect() as connection:
        left = connection.scalars(sa.select(named).where(named.in_(done) | named.not_in(all_ids)).distinct()).all()
    for batch_id in left:
        with lake.leases.held(batch_id) as lease:
            if lease is not None:
                _clean(lake, batch_id)


def _clean(lake: Lake, batch_id: str) -> None:
    with lake.ledger.engine.connect() as connection:
        kind = connection.scalar(sa.select(BATCHES.c.kind).where(BATCHES.c.id == batch_id))
        left, ids = _objects(connection, batch_id), orphans.ids(connection, batch_id)
    if kind in (Kind.INGEST, None):  # others have no objects, and no object leaves them
        files = {one: [file for file in lake.ledger.files_of(one) if file.class_uid is None] for one in ids}
        records.put_reduced(lake.store, records.reduced(lake.store, batch_id, left, files))
    with lake.ledger.engine.begin() as connection:
        folders = connection.scalars(sa.select(ORPHANS.c.folder).where(ORPHANS.c.batch_id == batch_id)).all()
        paths = set(connection.scalars(sa.select(FILES.c.path).where(FILES.c.batch_id == batch_id)))
        names: Iterable[str] = {name for folder in folders for name in lake.store.sizes(folder)}
        lake.store.remove(sorted(name for name in names if layout.batch_of(name) == batch_id and name not in paths))
        connection.execute(sa.delete(ORPHANS).where(ORPHANS.c.batch_id == batch_id))
