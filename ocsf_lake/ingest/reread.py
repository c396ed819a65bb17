"""Objects read again: as another source than they were taken for, or by a mapper that was mended.

Only where none of an object's records became an event, so that nothing is in the lake twice. What quarantine has of it
is taken out: the file is written anew without it, the catalogs are updated, and in one transaction the ledger forgets
what became of the object and has it in a new batch. The record of the batch that it was in, from which a ledger is made
again, is changed likewise. A run that dies before that leaves everything as it was, but for files that the next
one removes; after it, the new batch is open like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_lake.ingest import batch, undo
from ocsf_lake.inputs import discovery
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import chain, files, marker, orphans, records, replays, rereads, written_off
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.duplicated import DuplicatePolicy, policy_of
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.objects import Key
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.rereads import Read, Taken
from ocsf_lake.ledger.results import Batch
from ocsf_lake.storage import fetched, layout, parquet
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers import temporary
from ocsf_mappers.errors import RetriableError


def kept_reason(lake: Lake, read: Read) -> str | None:
    """Why an object cannot be read as another source than it was, or None."""
    if read.events:
        number = "one of its records is an event" if read.events == 1 else f"{read.events:,} of its records are events"
        return f"it was read as {read.source} before and {number} of the lake; nothing was changed"
    if read.dropped and read.batch_id and policy_of(lake.ledger.engine, read.batch_id) is DuplicatePolicy.DROP:
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
        leases: list[Lease] = []
        for source in rereads.sources(lake.ledger.engine, ids):
            lease = stack.enter_context(replays.held(lake.leases, source))
            if lease is None:
                raise RetriableError("a replay or purge of quarantine is going on; run it again", source=source)
            undo.unfinished_replays(lake, source, lease)
            leases.append(lease)
        if old is not None:
            lease = stack.enter_context(lake.leases.held(old))
            if lease is None:
                raise RetriableError("another run is working on the batch; run the command again", batch=old)
            leases.append(lease)
        has_record = old is None or records.has_own(lake.store, old)
        moving = _Moving(lake, ids, refs, leases)
        moving.write()
        batch.failpoint("rewritten", old or "")
        planned = lake.ledger.plan(batches, first=moving.apply)
        lake.publish_chain()
        # Only then: a ledger that is lost before has what was there before, files too.
        records.put_reduced(lake.store, moving.records)
        if not has_record:
            rereads.write_reduced(lake.ledger.engine, lake.store, ids)
        batch.failpoint("moved", old or "")
        moving.remove_old()
    return [new.id for new in planned]


def _ids(lake: Lake, batch_id: str) -> list[str]:
    with lake.ledger.engine.connect() as connection:
        return orphans.ids(connection, batch_id)


@dataclass
class _Moving:
    """Some objects that leave a batch.

    Args:
        lake: The lake.
        ids: The batch, and those of records of other sources in its objects; none for objects of no batch.
        refs: The objects.
        leases: On the batch, and on the quarantine of its sources.
    """

    lake: Lake
    ids: Sequence[str]
    refs: Sequence[ObjectRef]
    leases: Sequence[Lease]
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
        with temporary.directory("reread") as folder:
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

    def apply(self, connection: Connection) -> None:
        """Makes the catalogs and the ledger forget what became of the objects, inside a transaction."""
        for lease in self.leases:
            lease.check()
        main = self.ids[0] if self.ids else None
        counted = rereads.take_out(connection, self.refs, main)
        if main is None:
            return
        left = rereads.objects_of(connection, main)
        emptied = not left
        without_events = {key: [file for file in own if file.class_uid is None] for key, own in self._files.items()}
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
        self._record(connection, main, [] if emptied else [file for own in self._files.values() for file in own])
        if emptied:
            rereads.forget(connection, self.ids)
            return
        rereads.put_files(connection, self._files)
        self._subtract(connection, counted)

    def _record(self, connection: Connection, main: str, left: Sequence[FileInfo]) -> None:
        """Writes into the chain which files the batches have no more, and which instead."""
        before = rereads.listed_files(connection, self.ids)
        old, new = {file.path for file in before}, {file.path for file in left}
        removed, added = [file for file in before if file.path not in new], [f for f in left if f.path not in old]
        detail = {
            "beside": [chain.beside(name, data) for name, data in self.records.items() if data],
            "beside_removed": [name for name, data in self.records.items() if not data],
        }
        if added or removed or self.records:
            chain.append(connection, kind="reread", subject=main, added=added, removed=removed, detail=detail)

    def _subtract(self, connection: Connection, counted: Mapping[Key, Taken]) -> None:
        """Takes the objects' records out of the counts of the batches they were counted in."""
        main, *routed = self.ids
        for ref in self.refs:
            taken, day = counted[ref.key], discovery.of_key(ref.uri).day or layout.UNKNOWN
            for batch_id in routed:
                number = self._rows.get((batch_id, ref.key), 0)
                rereads.subtract(connection, batch_id, Taken(number, number, 0), day)
                taken = replace(taken, read=taken.read - number, quarantined=taken.quarantined - number)
            rereads.subtract(connection, main, taken, day)
        rereads.subtract_objects(connection, main, self.refs)

    def remove_old(self) -> None:
        """Removes the files that nothing names any more."""
        self.lake.store.remove(self._gone)
        with self.lake.ledger.engine.begin() as connection:
            orphans.cleaned(connection, self.ids)


def clean(lake: Lake) -> None:
    """Removes files that an interrupted run has left of batches which were done before it."""
    for batch_id in rereads.interrupted(lake.ledger.engine):
        with lake.leases.held(batch_id) as lease:
            if lease is not None:
                _clean(lake, batch_id)


def _clean(lake: Lake, batch_id: str) -> None:
    with lake.ledger.engine.connect() as connection:
        may_have_been_left = rereads.may_have_been_left(connection, batch_id)
        left, ids = rereads.objects_of(connection, batch_id), orphans.ids(connection, batch_id)
    if may_have_been_left:
        has_record = records.has_own(lake.store, batch_id)
        without_events = {one: [file for file in lake.ledger.files_of(one) if file.class_uid is None] for one in ids}
        records.put_reduced(lake.store, records.reduced(lake.store, batch_id, left, without_events))
        if not has_record:
            rereads.write_reduced(lake.ledger.engine, lake.store, ids)
    with lake.ledger.engine.begin() as connection:
        folders, paths = orphans.own_folders(connection, batch_id), files.names_of_batch(connection, batch_id)
        names: Iterable[str] = {name for folder in folders for name in lake.store.sizes(folder)}
        lake.store.remove(sorted(name for name in names if layout.batch_of(name) == batch_id and name not in paths))
        orphans.cleaned(connection, [batch_id])
