"""The ledger: which objects have been seen, which batches they went into, and what became of them.

An object is known by URI and ETag. Every change of state is one transaction.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from ocsf_lake.ledger import chain, marker, objects
from ocsf_lake.ledger.database import analyze, connect, insert_new, lock, select_in, upsert
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.results import SETTLED, Batch, BatchRow, Kind, Result, State
from ocsf_lake.ledger.rows import Moment, Rows, table_of
from ocsf_lake.ledger.sqlite_reading import memory_engine
from ocsf_lake.ledger.tables import (
    ABOUT,
    BATCHES,
    FILES,
    KEYS,
    METADATA,
    NAMES,
    OBJECT_ROWS,
    OBJECTS,
    ORPHANS,
    ROUTED,
    SHOWN,
    STEPS,
    WRITTEN,
)
from ocsf_lake.storage import permissions
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import ConfigError

WORKER = f"{socket.gethostname()}:{os.getpid()}"
"""Who this is, for people who look who works on what."""

TABLES = tuple(SHOWN)
"""Names of the tables that queries may read, as `ledger_<name>`."""

ANALYZED_FROM = 10_000
"""After so many new objects the database analyzes its tables anew."""

_REPLACED = "its key was given another content before it was read"


@dataclass(frozen=True)
class Tries:
    """How often an object that failed was tried.

    Args:
        source: Its source, where that is known.
        reason: Why it failed the last time.
        attempts: How often, for this kind of reason and with this mapper.
        tried_at: When last.
        tried_with: See `program`; None where the store failed and not the object.
    """

    source: str | None
    reason: str | None
    attempts: int
    tried_at: str | None
    tried_with: str | None


@dataclass(frozen=True)
class LeftOut:
    """An object on its own that failed too often, or one that is gone. See `Tries`."""

    ref: ObjectRef
    source: str
    reason: str
    attempts: int
    tried_with: str | None


Undo = Callable[[sa.Connection], None]
"""Removes what a batch wrote."""


class Ledger:
    """The ledger of one lake.

    Args:
        url: SQLAlchemy URL of the database; tables that are missing are made. None for an empty one in memory.
        umask: Permissions that a new file of SQLite does not get.
        reading: Nothing is made or changed, see `ocsf_lake.ledger.database.connect`.
    """

    def __init__(self, url: str | sa.URL | None, umask: int = permissions.UMASK, *, reading: bool = False) -> None:
        if url is None:
            self.engine = memory_engine()
            METADATA.create_all(self.engine)
        else:
            self.engine = connect(url, METADATA, "ledger", STEPS, umask, reading=reading)
        self._planned = 0
        self._moment: Moment | None = None

    def close(self) -> None:
        """Closes all connections, but that of rows which somebody still reads, see `shown`."""
        self._moment = None
        self.engine.dispose()

    def belongs_to(self, lake: str, *, reading: bool = False) -> None:
        """Notes whose ledger this is, the first time; later it has to be the same lake.

        Args:
            lake: URI of the lake.
            reading: Only look.

        Raises:
            ConfigError: It is another one's: objects that one has would be missing in the other without a word.
        """
        with self.engine.connect() if reading else self.engine.begin() as connection:
            if not reading:
                insert_new(connection, ABOUT, [{"key": "lake", "value": lake}])
            owner = connection.scalar(sa.select(ABOUT.c.value).where(ABOUT.c.key == "lake"))
        if owner not in (lake, None):
            raise ConfigError(f"the ledger is that of the lake {owner!r}, not of {lake!r}; give each a database")

    def etags(self, refs: Sequence[ObjectRef]) -> dict[tuple[str, int, str], str]:
        """URI, size and stamp -> ETag, of those local files among these that have been seen before, as they are now."""
        uris = {ref.uri for ref in refs if ref.stamp}
        query = sa.select(OBJECTS.c.uri, OBJECTS.c.size, OBJECTS.c.stamp, OBJECTS.c.etag).where(
            OBJECTS.c.stamp != "", OBJECTS.c.etag != ""
        )
        with self.engine.connect() as connection:
            rows = objects.select(connection, query, sorted(uris))
            return {(uri, size, stamp): etag for uri, size, stamp, etag in rows}

    def states(self, refs: Sequence[ObjectRef]) -> dict[tuple[str, str], tuple[State, str | None]]:
        """State and batch of the objects that the ledger knows."""
        with self.engine.connect() as connection:
            return _states(connection, refs)

    def tries(self, refs: Sequence[ObjectRef]) -> dict[tuple[str, str], Tries]:
        """How often the objects among these that failed were tried."""
        columns = OBJECTS.c
        names = [columns[item.name] for item in fields(Tries)]
        query = sa.select(columns.uri, columns.etag, *names).where(columns.state == State.FAILED)
        keys = {ref.key for ref in refs}
        with self.engine.connect() as connection:
            rows = objects.select(connection, query, (ref.uri for ref in refs))
            return {(uri, etag): Tries(*facts) for uri, etag, *facts in rows if (uri, etag) in keys}

    def plan(
        self, batches: Sequence[Batch], instead_of: tuple[str, Undo] | None = None, failures: int = 0,
        left_out: Sequence[LeftOut] = (), first: Undo | None = None,
    ) -> list[Batch]:  # fmt: skip
        """Writes batches and their members; batches of which a member was planned meanwhile are left out.

        Args:
            batches: The batches.
            instead_of: An open batch that is forgotten in the same transaction, and what removes its files. When it is
                done after all nothing is removed and nothing written; nobody can end it meanwhile.
            failures: Those of the batch before, which count for batches of several members too.
            left_out: Members of the open batch that go into none.
            first: What else belongs into that transaction, and comes before.

        Returns:
            The batches written, those that stand there already as they are among them.
        """
        written = []
        with self.engine.begin() as connection:
            # Two that plan the same objects would not see each other's before both have ended.
            lock(connection, "plan")
            if instead_of is not None and not _discarded(connection, *instead_of):
                return [batch for batch in batches if _stands(batch, _states(connection, batch.members))]
            if first is not None:
                first(connection)
            for one in left_out:
                self._put(connection, [one.ref], State.FAILED, one.source, None, one.reason)
                _count_attempts(connection, [one.ref], one.tried_with, now(), one.attempts)
            for batch in batches:
                if batch.kind is Kind.INGEST:
                    states = _states(connection, batch.members)
                    if _stands(batch, states):
                        written.append(batch)  # by a transaction whose answer was lost, or by a run that plans the same
                        continue
                    if any(state in SETTLED for state, _ in states.values()):
                        continue
                    self._put(connection, batch.members, State.PLANNED, batch.source, batch.id, None)
                    _replace(connection, batch.members)
                    self._planned += len(batch.members)
                upsert(
                    connection, BATCHES, ("id",),
                    [{
                        "id": batch.id, "source": batch.source, "mapper_version": batch.mapper_version,
                        "ocsf_version": batch.ocsf_version, "kind": batch.kind, "state": State.PLANNED, "attempts": 0,
                        "failures": failures if len(batch.members) > 1 else 0,
                        "objects": len(batch.members), "bytes_in": batch.bytes_in, "planned_at": now(),
                        "reason": None,
                    }],
                )  # fmt: skip
                written.append(batch)
            if self._planned >= ANALYZED_FROM:
                analyze(connection, OBJECT_ROWS, NAMES, BATCHES)
                self._planned = 0
        return written

    def note(self, refs: Sequence[ObjectRef], state: State, reason: str, source: str | None = None) -> None:
        """Records objects that go into no batch."""
        with self.engine.begin() as connection:
            self._put(connection, refs, state, source, None, reason)
            if state is State.FAILED:
                _count_attempts(connection, refs, None, now())

    def _put(
        self, connection: sa.Connection, refs: Sequence[ObjectRef], state: State, source: str | None,
        batch_id: str | None, reason: str | None,
    ) -> None:  # fmt: skip
        rows = [
            {
                "uri": ref.uri, "etag": ref.etag, "size": ref.size, "stamp": ref.stamp, "source": source,
                "batch_id": batch_id, "state": state, "reason": reason,
            }
            for ref in refs
        ]  # fmt: skip
        objects.put(connection, rows)

    def rows(self, ids: Iterable[str] | None = None) -> list[BatchRow]:
        """The ledger's rows of batches, in the order of the ids.

        Args:
            ids: The batches; None for all with objects to read that are not done, by id.
        """
        columns = [BATCHES.c[item.name] for item in fields(BatchRow)]
        with self.engine.connect() as connection:
            if ids is None:
                is_open = BATCHES.c.state != State.DONE, BATCHES.c.kind == Kind.INGEST
                query = sa.select(*columns).where(*is_open).order_by(BATCHES.c.id)
                return [_row(row) for row in connection.execute(query)]
            asked = list(ids)
            by_id = {row[0]: _row(row) for row in select_in(connection, sa.select(*columns), BATCHES.c.id, asked)}
            return [by_id[batch_id] for batch_id in asked if batch_id in by_id]

    def in_order(self, ids: Collection[str]) -> list[str]:
        """Batches as they were done, replays after all others: each is made of what the earlier ones left."""
        query = sa.select(BATCHES.c.id, BATCHES.c.kind == Kind.REPLAY, BATCHES.c.done_at)
        with self.engine.connect() as connection:
            rows = select_in(connection, query, BATCHES.c.id, list(ids))
            order = {batch_id: (is_replay, done_at or "") for batch_id, is_replay, done_at in rows}
        return sorted(ids, key=lambda batch_id: (*order.get(batch_id, (False, "")), batch_id))

    def begun(self) -> list[str]:
        """Batches with objects to read that somebody has begun and that are not done, by id."""
        row = BATCHES.c
        is_begun = row.state != State.DONE, row.kind == Kind.INGEST, row.attempts > 0
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(row.id).where(*is_begun).order_by(row.id)))

    def has_read(self, source: str) -> bool:
        """Whether anything of a source was ever read."""
        row = BATCHES.c
        query = sa.select(row.id).where(row.source == source, row.state == State.DONE).limit(1)
        with self.engine.connect() as connection:
            return connection.scalar(query) is not None

    def batch(self, batch_id: str, *, done: bool = False) -> Batch | None:
        """A batch that is not done, or one that is, with the objects that it alone has read; None if there is none."""
        with self.engine.connect() as connection:
            query = sa.select(BATCHES).where(BATCHES.c.id == batch_id, (BATCHES.c.state == State.DONE) == done)
            row = connection.execute(query).mappings().first()
            return None if row is None else _batch(connection, row)

    def rate(self, source: str) -> float | None:
        """Bytes of objects per second that one worker has dealt with so far; None without a batch done."""
        query = sa.select(sa.func.sum(BATCHES.c.bytes_in), sa.func.sum(BATCHES.c.seconds)).where(
            BATCHES.c.source == source, BATCHES.c.state == State.DONE, BATCHES.c.kind == Kind.INGEST
        )
        with self.engine.connect() as connection:
            size, seconds = connection.execute(query).one()
        return float(size) / float(seconds) if size and seconds else None

    def begin(self, batch: Batch) -> Batch:
        """Counts an attempt at a batch, as one that fails until it is done or excused: who is killed cannot count.

        Returns:
            The batch with the number of this attempt, from 1, and that of its record.

        Raises:
            LostError: It is done or discarded.
        """
        with self.engine.begin() as connection:
            changed = connection.execute(
                sa.update(BATCHES)
                .where(BATCHES.c.id == batch.id, BATCHES.c.state != State.DONE)
                .values(
                    attempts=BATCHES.c.attempts + 1, failures=BATCHES.c.failures + 1, state=State.PLANNED, reason=None,
                    begun_at=now(), worker=WORKER,
                )
            )
            if not changed.rowcount:
                raise LostError("another worker has done the batch, or has planned it again", batch=batch.id)
            row = BATCHES.c
            query = sa.select(row.attempts, row.planned_at, row.begun_at).where(row.id == batch.id)
            attempts, planned_at, begun_at = connection.execute(query).one()
            number = marker.next_number(connection)
            return replace(batch, attempts=attempts, number=number, planned_at=planned_at, begun_at=begun_at)

    def keep_record(self, batch: Batch, record: bytes) -> None:
        """Notes what a batch came to, all of whose files are written; it is open still.

        Args:
            batch: The batch, as `begin` gave it.
            record: See `ocsf_lake.ledger.records`.

        Raises:
            LostError: Another attempt was begun, or the batch was discarded; nothing is noted.
        """
        with self.engine.begin() as connection:
            _check_attempt(connection, batch)
            upsert(connection, WRITTEN, ("batch_id",), [{"batch_id": batch.id, "record": record}])

    def kept_record(self, batch_id: str) -> bytes | None:
        """What was noted of an open batch at last; None where none of its attempts came so far."""
        with self.engine.connect() as connection:
            record: bytes | None = connection.scalar(sa.select(WRITTEN.c.record).where(WRITTEN.c.batch_id == batch_id))
            return record

    def finish(
        self, batch: Batch, result: Result, register: Callable[[], None],
        also: Callable[[sa.Connection], None] | None = None, at: str | None = None,
    ) -> None:  # fmt: skip
        """Makes a batch visible and marks it done, with its counts and files, in one transaction.

        Args:
            batch: The batch, as `begin` gave it.
            result: What became of it.
            register: Makes it visible; called when it is certain that the batch is still this worker's. In PostgreSQL
                nobody can take it over until this ends. In SQLite, where the kernel sees to that, it is called before.
            also: Writes what else belongs into that transaction.
            at: When it was done; now without it.

        Raises:
            LostError: Another attempt was begun, or the batch was discarded; nothing is marked.
        """
        shared = self.engine.dialect.name == "postgresql"
        if not shared:
            register()
        with self.engine.begin() as connection:
            _check_attempt(connection, batch)
            if shared:
                register()
            put_done(connection, batch, result, at or now(), WORKER)
            if also is not None:
                also(connection)
            chain.record_batch(connection, batch, result)

    def unless_planned(self, batch_id: str, undo: Undo) -> None:
        """Removes what a batch wrote that is not in the ledger; nobody can plan it meanwhile."""
        with self.engine.begin() as connection:
            lock(connection, "plan")
            if connection.scalar(sa.select(BATCHES.c.id).where(BATCHES.c.id == batch_id)) is None:
                undo(connection)

    def fail(self, batch_id: str, reason: str | None, *, excused: bool = False) -> None:
        """Notes why work on a batch stopped; it stays open.

        Args:
            batch_id: The batch.
            reason: Why; None when it was interrupted, which is no failure.
            excused: Whether the batch has nothing to do with it, so that the attempt does not count.
        """
        values: dict[str, Any] = {} if reason is None else {"state": State.FAILED, "reason": reason}
        if excused:
            values["failures"] = sa.case((BATCHES.c.failures > 0, BATCHES.c.failures - 1), else_=0)
        with self.engine.begin() as connection:
            connection.execute(
                sa.update(BATCHES).where(BATCHES.c.id == batch_id, BATCHES.c.state != State.DONE).values(values)
            )

    def refs(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], ObjectRef]:
        """Objects by URI and ETag."""
        key_set = set(keys)
        query = sa.select(OBJECTS.c.uri, OBJECTS.c.etag, OBJECTS.c.size, OBJECTS.c.stamp)
        with self.engine.connect() as connection:
            rows = objects.select(connection, query, sorted({uri for uri, _ in key_set}))
            return {ref.key: ref for ref in (ObjectRef(*row) for row in rows) if ref.key in key_set}

    def duplicate_keys(self) -> dict[str, list[str]]:
        """Table -> OCSF paths that identify its events."""
        with self.engine.connect() as connection:
            return {name: json.loads(key) for name, key in connection.execute(sa.select(KEYS))}

    def files_of(self, batch_id: str) -> list[FileInfo]:
        """A batch's files as the catalog registers them."""
        query = sa.select(FILES).where(FILES.c.batch_id == batch_id).order_by(FILES.c.path)
        with self.engine.connect() as connection:
            return [
                FileInfo(
                    row["path"], Partition(row["table_name"], tuple(row["partition"].split("/"))), row["class_uid"],
                    row["rows"], row["bytes"], row["sha256"],
                )
                for row in connection.execute(query).mappings()
            ]  # fmt: skip

    def arrow(self, name: str) -> pa.Table:
        """One table of the ledger, by its name in `TABLES`."""
        with self.engine.connect() as connection:
            return table_of(connection, SHOWN[name])

    def shown(self, name: str, columns: Collection[str] | None = None, *, rows: bool = True) -> pa.Table | Rows:
        """One table of the ledger for a query.

        Args:
            name: Its name in `TABLES`.
            columns: Those of its columns that are read; None for all.
            rows: Whether rows are wanted, or only the names and types of columns.
        """
        is_file = self.engine.dialect.name == "sqlite" and not isinstance(self.engine.pool, sa.StaticPool)
        # A file of SQLite can be opened whenever rows are asked for, also when this ledger was closed meanwhile.
        if rows and is_file and "since" not in SHOWN[name].info:
            self._moment = self._moment or Moment(self.engine)
            return Rows(self._moment, SHOWN[name], columns)
        with self.engine.connect() as connection:
            return table_of(connection, SHOWN[name], all_rows=rows)


def put_done(connection: sa.Connection, batch: Batch, result: Result, at: str, worker: str | None = None) -> None:
    """Writes a batch as done, with what became of its objects, and its files."""
    row = {
        "id": batch.id, "source": batch.source, "mapper_version": batch.mapper_version,
        "ocsf_version": batch.ocsf_version, "kind": batch.kind, "state": State.DONE, "attempts": batch.attempts,
        "failures": 0, "objects": 0 if batch.kind is Kind.ROUTED else len(batch.members), "bytes_in": batch.bytes_in,
        "planned_at": batch.planned_at or at, "begun_at": batch.begun_at, "worker": worker, "done_at": at,
        "reason": None, **result.columns,
    }  # fmt: skip
    upsert(connection, BATCHES, ("id",), [row])
    if batch.kind is Kind.INGEST:
        _put_objects(connection, batch, result, at)
    elif batch.kind is Kind.REPLAY:
        _add_counts(connection, result)
    connection.execute(sa.delete(FILES).where(FILES.c.batch_id == batch.id))
    if result.files:
        connection.execute(sa.insert(FILES), [file_row(batch.id, file) for file in result.files])


def _check_attempt(connection: sa.Connection, batch: Batch) -> None:
    """Whether an attempt at a batch is the latest one, which nobody can change before the transaction ends."""
    columns = BATCHES.c
    # Attempts are counted anew when it was discarded and planned once more.
    query = sa.select(columns.attempts, columns.begun_at, columns.worker).where(
        columns.id == batch.id, columns.state != State.DONE
    )
    if connection.execute(query.with_for_update()).first() != (batch.attempts, batch.begun_at, WORKER):
        raise LostError("another worker has taken the batch over", batch=batch.id)


def _add_counts(connection: sa.Connection, result: Result) -> None:
    """Adds what became of records to what is known of their objects."""
    for ref in result.outcomes:
        counts = vars(result.counts_of(ref))
        if any(counts.values()):
            objects.change(connection, [ref.key], {name: OBJECT_ROWS.c[name] + n for name, n in counts.items()})


def _put_objects(connection: sa.Connection, batch: Batch, result: Result, at: str) -> None:
    rows = [
        {
            "uri": ref.uri, "etag": ref.etag, "size": ref.size, "stamp": ref.stamp, "source": batch.source,
            "batch_id": batch.id, "state": outcome.state, "reason": outcome.reason,
            **vars(result.counts_of(ref)),
        }
        for ref, outcome in result.outcomes.items()
    ]  # fmt: skip
    objects.put(connection, rows)
    objects.put_hashes(
        connection, {ref.key: outcome.sha256 for ref, outcome in result.outcomes.items() if outcome.sha256}
    )
    failed = {ref: outcome.lasting for ref, outcome in result.outcomes.items() if outcome.state is State.FAILED}
    for lasting, tried_with in ((True, program(batch.mapper_version)), (False, None)):
        _count_attempts(connection, [ref for ref in failed if failed[ref] is lasting], tried_with, at)


def _states(connection: sa.Connection, refs: Sequence[ObjectRef]) -> dict[tuple[str, str], tuple[State, str | None]]:
    keys = {ref.key for ref in refs}
    query = sa.select(OBJECTS.c.uri, OBJECTS.c.etag, OBJECTS.c.state, OBJECTS.c.batch_id)
    rows = objects.select(connection, query, (ref.uri for ref in refs))
    return {(uri, etag): (State(state), batch) for uri, etag, state, batch in rows if (uri, etag) in keys}


def _count_attempts(
    connection: sa.Connection, refs: Sequence[ObjectRef], tried_with: str | None, at: str,
    attempts: int | None = None,
) -> None:  # fmt: skip
    """Counts that objects failed; attempts with another mapper or program, or for another kind of reason, are over."""
    again = OBJECT_ROWS.c.tried_with.is_not_distinct_from(sa.bindparam("with", tried_with, sa.Text))
    number = sa.case((again, OBJECT_ROWS.c.attempts + 1), else_=1) if attempts is None else attempts
    values = {"attempts": number, "tried_at": at, "tried_with": tried_with}
    objects.change(connection, [ref.key for ref in refs], values)


def _stands(batch: Batch, states: Mapping[tuple[str, str], tuple[State, str | None]]) -> bool:
    """Whether a batch is planned as it is."""
    return all(states.get(member.key) == (State.PLANNED, batch.id) for member in batch.members)


def _replace(connection: sa.Connection, members: Sequence[ObjectRef]) -> None:
    """Objects that failed or were skipped, and whose keys have another content now, will not come back."""
    etags = {ref.uri: ref.etag for ref in members}
    waiting = OBJECTS.c.state.in_([State.FAILED, State.SKIPPED])
    query = sa.select(OBJECTS.c.uri, OBJECTS.c.etag).where(waiting)
    gone = [(uri, etag) for uri, etag in objects.select(connection, query, etags) if etag != etags[uri]]
    # Why it failed may name files that are nowhere else, see `ocsf_lake.ingest.unfinished`.
    reason = _REPLACED + sa.func.coalesce("; before that: " + OBJECT_ROWS.c.reason, "")
    objects.change(connection, gone, {"state": State.REPLACED, "reason": reason})


def _discarded(connection: sa.Connection, batch_id: str, undo: Undo) -> bool:
    """Forgets an open batch; whether there was one."""
    row = BATCHES.c.id == batch_id, BATCHES.c.state != State.DONE
    if connection.scalar(sa.select(BATCHES.c.id).where(*row).with_for_update()) is None:
        return False
    undo(connection)
    objects.remove_planned(connection, [batch_id])
    connection.execute(sa.delete(BATCHES).where(*row))
    connection.execute(sa.delete(WRITTEN).where(WRITTEN.c.batch_id == batch_id))
    routed = sa.select(ROUTED.c.batch_id).where(ROUTED.c.of_batch == batch_id)
    connection.execute(sa.delete(ORPHANS).where((ORPHANS.c.batch_id == batch_id) | ORPHANS.c.batch_id.in_(routed)))
    connection.execute(sa.delete(ROUTED).where(ROUTED.c.of_batch == batch_id))
    return True


def _batch(connection: sa.Connection, row: sa.RowMapping) -> Batch:
    query = (
        sa.select(OBJECTS.c.uri, OBJECTS.c.etag, OBJECTS.c.size, OBJECTS.c.stamp)
        .where(OBJECTS.c.batch_id == row["id"])
        .order_by(OBJECTS.c.uri, OBJECTS.c.etag)
    )
    members = tuple(ObjectRef(*columns) for columns in connection.execute(query))
    return Batch(
        row["id"], row["source"], row["mapper_version"], row["ocsf_version"], members, row["attempts"],
        planned_at=row["planned_at"], kind=Kind(row["kind"]),
    )  # fmt: skip


def _row(columns: sa.Row[Any]) -> BatchRow:
    row = BatchRow(*columns)
    return replace(row, state=State(row.state))


def planned_at(connection: sa.Connection, batch_id: str) -> str:
    """When a batch was planned; "" of one that is not known."""
    return connection.scalar(sa.select(BATCHES.c.planned_at).where(BATCHES.c.id == batch_id)) or ""


def file_row(batch_id: str, file: FileInfo) -> dict[str, object]:
    """A file as the table of files has it."""
    return {
        "path": file.path,
        "batch_id": batch_id,
        "table_name": file.partition.table,
        "partition": "/".join(file.partition.values),
        "class_uid": file.class_uid,
        "rows": file.rows,
        "bytes": file.bytes,
        "sha256": file.sha256,
    }


@cache
def program(mapper_version: str) -> str:
    """What an object was tried with: when it changes, what failed before may go well."""
    return f"{mapper_version} ocsf-lake {version('ocsf-lake')}"


def now() -> str:
    """The time, UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
