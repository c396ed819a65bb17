"""The ledger: which objects have been seen, which batches they went into, and what became of them.

An object is known by URI and ETag. Every change of state is one transaction.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from lake.database import analyze, connect, insert, lock, select_in
from lake.layout import Partition
from lake.leases import LostError
from lake.objects import ObjectRef
from lake.writer import FileInfo
from ocsf_mappers.census import Census, News, Sighting
from ocsf_mappers.errors import ConfigError

METADATA = sa.MetaData()

OBJECTS = sa.Table(
    "objects",
    METADATA,
    sa.Column("uri", sa.Text, primary_key=True),
    sa.Column("etag", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("stamp", sa.Text, nullable=False, default=""),
    sa.Column("source", sa.Text),
    sa.Column("batch_id", sa.Text, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("read", sa.BigInteger, nullable=False, default=0),
    sa.Column("events", sa.BigInteger, nullable=False, default=0),
    sa.Column("quarantined", sa.BigInteger, nullable=False, default=0),
    sa.Column("dropped", sa.BigInteger, nullable=False, default=0),
    sa.Column("reason", sa.Text),
)
BATCHES = sa.Table(
    "batches",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("mapper_version", sa.Text, nullable=False),
    sa.Column("ocsf_version", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("objects", sa.BigInteger, nullable=False),
    sa.Column("bytes_in", sa.BigInteger, nullable=False),
    sa.Column("read", sa.BigInteger, nullable=False, default=0),
    sa.Column("events", sa.BigInteger, nullable=False, default=0),
    sa.Column("quarantined", sa.BigInteger, nullable=False, default=0),
    sa.Column("dropped", sa.BigInteger, nullable=False, default=0),
    sa.Column("events_by_class", sa.Text, nullable=False, default="{}"),
    sa.Column("dropped_reasons", sa.Text, nullable=False, default="{}"),
    sa.Column("failed_casts", sa.Text, nullable=False, default="{}"),
    sa.Column("unmapped_keys", sa.Text, nullable=False, default="{}"),
    sa.Column("bytes_out", sa.BigInteger, nullable=False, default=0),
    sa.Column("seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("planned_at", sa.Text, nullable=False),
    sa.Column("begun_at", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("done_at", sa.Text),
    sa.Column("reason", sa.Text),
)
FILES = sa.Table(
    "files",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Text, nullable=False, index=True),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("partition", sa.Text, nullable=False),
    sa.Column("class_uid", sa.Integer),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
)
METER = sa.Table(
    "meter",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False, index=True),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("quarantined", sa.BigInteger, nullable=False),
    sa.Column("dropped", sa.BigInteger, nullable=False),
    sa.Column("members_mapped", sa.BigInteger, nullable=False),
    sa.Column("members_unmapped", sa.BigInteger, nullable=False),
    sa.Column("failed_casts", sa.BigInteger, nullable=False),
    sa.Column("news", sa.BigInteger, nullable=False),
)
"""What became of records and their members, by batch and day."""
MEMBERS = sa.Table(
    "members",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("mapped", sa.BigInteger, nullable=False),
    sa.Column("unmapped", sa.BigInteger, nullable=False),
)
"""Records with a value in a source's member, by day: carried by an attribute, and left over in `unmapped`."""
FAILED_CASTS = sa.Table(
    "failed_casts",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("attribute", sa.Text, primary_key=True),
    sa.Column("events", sa.BigInteger, nullable=False),
)
"""Events in which an attribute's text could not be read as its type, by day."""
NEWS = sa.Table(
    "news",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, primary_key=True),
    sa.Column("first_day", sa.Text, nullable=False),
    sa.Column("first_object", sa.Text, nullable=False),
    sa.Column("first_record", sa.BigInteger, nullable=False),
    sa.Column("first_batch", sa.Text, nullable=False),
    sa.Column("noticed_at", sa.Text, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False),
)
"""What no release knows, and where it was met first; see `ocsf_mappers.census.Novelty` for the kinds."""
DUPLICATES = sa.Table(
    "duplicates",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("variants", sa.BigInteger, nullable=False),
)
"""Of batches that looked for them: events that the lake had already, and events with a key it had and other content."""
KEYS = sa.Table(
    "duplicate_keys",
    METADATA,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
)
"""OCSF paths, as JSON, that tell the events of a table apart."""
REPLAYS = sa.Table(
    "replays",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("closed", sa.BigInteger, nullable=False, default=0),
    sa.Column("planned_at", sa.Text, nullable=False),
    sa.Column("done_at", sa.Text),
)
"""Batches that read quarantine instead of objects, see `lake.replay`."""
PURGES = sa.Table(
    "purges",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("open", sa.BigInteger, nullable=False),
    sa.Column("purged_at", sa.Text, nullable=False),
)
"""Files of quarantine that were removed on demand, with the number of entries in them and of those that were open."""


ABOUT = sa.Table(
    "about",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def _say_who_works(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN begun_at TEXT")
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN worker TEXT")


STEPS = (_say_who_works,)
"""How the tables became what they are; see `lake.database`. A new table needs no step, a new column does."""

WORKER = f"{socket.gethostname()}:{os.getpid()}"
"""Who this is, for people who look who works on what."""

ANALYZED_FROM = 10_000
"""After so many new objects the database is told that its tables have grown."""


class State(StrEnum):
    """How far an object or a batch has come.

    planned: in a batch that is not done. done: its batch is. failed: could not be opened (object), or raised (batch);
    tried again. skipped: of no known source; looked at again. set_aside: holds no records of the log it lies among.
    replaced: was never read, or of no known source, and its key has another content now, an object of its own.
    """

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    SET_ASIDE = "set_aside"
    REPLACED = "replaced"


SETTLED = (State.PLANNED, State.DONE, State.SET_ASIDE)
"""States in which an object is not planned again."""


@dataclass
class Counts:
    """What became of records: `read == events + quarantined + dropped`."""

    read: int = 0
    events: int = 0
    quarantined: int = 0
    dropped: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every record that was read is accounted for."""
        return self.read == self.events + self.quarantined + self.dropped

    def add(self, other: Counts) -> None:
        """Counts those of another as well."""
        self.read += other.read
        self.events += other.events
        self.quarantined += other.quarantined
        self.dropped += other.dropped


@dataclass(frozen=True)
class Batch:
    """Objects of one source that are mapped together.

    Args:
        id: Hash of the members' URIs and ETags, the mapper's version and the OCSF version.
        source: Name of the source.
        mapper_version: Fingerprint of the mapper.
        ocsf_version: OCSF version of the events.
        members: The objects, sorted.
        attempts: How often work on it was begun; of two workers the one with the higher number has it.
    """

    id: str
    source: str
    mapper_version: str
    ocsf_version: str
    members: tuple[ObjectRef, ...]
    attempts: int = 0

    @property
    def bytes_in(self) -> int:
        """Size of the members as they are stored."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True)
class BatchRow:
    """A batch without its members, as the ledger has it."""

    id: str
    source: str
    mapper_version: str
    ocsf_version: str
    state: State
    bytes_in: int


@dataclass
class Outcome:
    """What became of one object of a batch."""

    counts: Counts = field(default_factory=Counts)
    state: State = State.DONE
    reason: str | None = None


@dataclass
class Result:
    """What became of a batch.

    Args:
        outcomes: Of each member.
        files: What was written, in order.
        events_by_class: Events per class name.
        dropped: Dropped lines per reason.
        failed_casts: Failed casts per OCSF path.
        unmapped_keys: Events per key in `unmapped`.
        seconds: Time it took.
        duplicates: Events that the lake had already; those that were dropped are among the dropped.
        variants: Events with a key that the lake had, and other content.
        census: What its records held.
        news: What no earlier batch of the source had, and where it stands first; known once the batch is done.
    """

    outcomes: dict[ObjectRef, Outcome]
    files: list[FileInfo] = field(default_factory=list)
    events_by_class: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    failed_casts: dict[str, int] = field(default_factory=dict)
    unmapped_keys: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    duplicates: int = 0
    variants: int = 0
    census: Census = field(default_factory=Census)
    news: dict[News, Sighting] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """Of all members together."""
        total = Counts()
        for outcome in self.outcomes.values():
            total.add(outcome.counts)
        return total

    @property
    def bytes_out(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


class Ledger:
    """The ledger of one lake.

    Args:
        url: SQLAlchemy URL of the database; tables that are missing are made.
    """

    def __init__(self, url: str) -> None:
        self.engine = connect(url, METADATA, "ledger", STEPS)
        self._planned = 0

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()

    def belongs_to(self, lake: str) -> None:
        """Notes whose ledger this is, the first time; later it has to be the same lake.

        Raises:
            ConfigError: It is another one's: objects that one has would be missing in the other without a word.
        """
        with self.engine.begin() as connection:
            connection.execute(insert(connection, ABOUT).on_conflict_do_nothing(), {"key": "lake", "value": lake})
            owner = connection.scalar(sa.select(ABOUT.c.value).where(ABOUT.c.key == "lake"))
        if owner != lake:
            raise ConfigError(f"the ledger is that of the lake {owner!r}, not of {lake!r}; give each a database")

    def etags(self, refs: Sequence[ObjectRef]) -> dict[tuple[str, int, str], str]:
        """URI, size and stamp -> ETag, of those local files among these that have been seen before, as they are now."""
        wanted = {ref.uri for ref in refs if ref.stamp}
        query = sa.select(OBJECTS.c.uri, OBJECTS.c.size, OBJECTS.c.stamp, OBJECTS.c.etag).where(
            OBJECTS.c.stamp != "", OBJECTS.c.etag != ""
        )
        with self.engine.connect() as connection:
            rows = select_in(connection, query, OBJECTS.c.uri, sorted(wanted))
            return {(uri, size, stamp): etag for uri, size, stamp, etag in rows}

    def states(self, refs: Sequence[ObjectRef]) -> dict[tuple[str, str], tuple[State, str | None]]:
        """State and batch of the objects that the ledger knows."""
        with self.engine.connect() as connection:
            return _states(connection, refs)

    def plan(self, batches: Sequence[Batch]) -> list[Batch]:
        """Writes batches and their members; batches of which a member was planned meanwhile are left out.

        Returns:
            The batches written.
        """
        written = []
        with self.engine.begin() as connection:
            # Two that plan the same objects would not see each other's before both have ended.
            lock(connection, "plan")
            for batch in batches:
                known = _states(connection, batch.members)
                if any(state in SETTLED for state, _ in known.values()):
                    continue
                planned_at = now()
                _upsert(
                    connection, BATCHES, ("id",),
                    [{
                        "id": batch.id, "source": batch.source, "mapper_version": batch.mapper_version,
                        "ocsf_version": batch.ocsf_version, "state": State.PLANNED, "attempts": 0,
                        "objects": len(batch.members), "bytes_in": batch.bytes_in, "planned_at": planned_at,
                        "reason": None,
                    }],
                )  # fmt: skip
                self._put(connection, batch.members, State.PLANNED, batch.source, batch.id, None)
                _replace(connection, batch.members)
                written.append(batch)
                self._planned += len(batch.members)
            if self._planned >= ANALYZED_FROM:
                analyze(connection, OBJECTS, BATCHES)
                self._planned = 0
        return written

    def note(self, refs: Sequence[ObjectRef], state: State, reason: str, source: str | None = None) -> None:
        """Records objects that go into no batch."""
        with self.engine.begin() as connection:
            self._put(connection, refs, state, source, None, reason)

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
        _upsert(connection, OBJECTS, ("uri", "etag"), rows)

    def rows(self, ids: Iterable[str] | None = None) -> list[BatchRow]:
        """What the ledger says of batches, in the order of the ids.

        Args:
            ids: The batches; None for all that are not done, by id.
        """
        columns = [BATCHES.c[item.name] for item in fields(BatchRow)]
        with self.engine.connect() as connection:
            if ids is None:
                query = sa.select(*columns).where(BATCHES.c.state != State.DONE).order_by(BATCHES.c.id)
                return [_row(found) for found in connection.execute(query)]
            asked = list(ids)
            found = {row[0]: _row(row) for row in select_in(connection, sa.select(*columns), BATCHES.c.id, asked)}
            return [found[batch_id] for batch_id in asked if batch_id in found]

    def batch(self, batch_id: str) -> Batch | None:
        """A batch that is not done, with the members it was planned with; None when it is done or there is none."""
        with self.engine.connect() as connection:
            query = sa.select(BATCHES).where(BATCHES.c.id == batch_id, BATCHES.c.state != State.DONE)
            row = connection.execute(query).mappings().first()
            return None if row is None else _batch(connection, row)

    def rate(self, source: str) -> float | None:
        """Bytes of objects per second that one worker has dealt with so far; None without a batch done."""
        query = sa.select(sa.func.sum(BATCHES.c.bytes_in), sa.func.sum(BATCHES.c.seconds)).where(
            BATCHES.c.source == source, BATCHES.c.state == State.DONE
        )
        with self.engine.connect() as connection:
            size, seconds = connection.execute(query).one()
        return float(size) / float(seconds) if size and seconds else None

    def begin(self, batch: Batch) -> Batch:
        """Counts an attempt at a batch.

        Returns:
            The batch with the number of this attempt, from 1.

        Raises:
            LostError: It is done or discarded.
        """
        with self.engine.begin() as connection:
            changed = connection.execute(
                sa.update(BATCHES)
                .where(BATCHES.c.id == batch.id, BATCHES.c.state != State.DONE)
                .values(attempts=BATCHES.c.attempts + 1, begun_at=now(), worker=WORKER)
            )
            if not changed.rowcount:
                raise LostError("another worker has done the batch, or has planned it anew", batch=batch.id)
            number = connection.scalar(sa.select(BATCHES.c.attempts).where(BATCHES.c.id == batch.id))
            return replace(batch, attempts=int(number or 0))

    def finish(
        self, batch: Batch, result: Result, register: Callable[[], None],
        also: Callable[[sa.Connection], None] | None = None,
    ) -> None:  # fmt: skip
        """Makes a batch visible and marks it done, with its counts and files, in one transaction.

        Args:
            batch: The batch, as `begin` gave it.
            result: What became of it.
            register: Makes it visible; called when it is certain that the batch is still this worker's. In PostgreSQL
                nobody can take it over until this ends. In SQLite, where the kernel sees to that, it is called before.
            also: Writes what else belongs into that transaction.

        Raises:
            LostError: A later attempt was begun, or the batch was discarded; nothing is marked.
        """
        shared = self.engine.dialect.name == "postgresql"
        if not shared:
            register()
        with self.engine.begin() as connection:
            query = sa.select(BATCHES.c.attempts).where(BATCHES.c.id == batch.id, BATCHES.c.state != State.DONE)
            if connection.scalar(query.with_for_update()) != batch.attempts:
                raise LostError("another worker has taken the batch over", batch=batch.id)
            if shared:
                register()
            total = result.counts
            connection.execute(
                sa.update(BATCHES)
                .where(BATCHES.c.id == batch.id)
                .values(
                    state=State.DONE, read=total.read, events=total.events, quarantined=total.quarantined,
                    dropped=total.dropped, events_by_class=_json(result.events_by_class),
                    dropped_reasons=_json(result.dropped), failed_casts=_json(result.failed_casts),
                    unmapped_keys=_json(result.unmapped_keys), bytes_out=result.bytes_out, seconds=result.seconds,
                    done_at=now(), reason=None,
                )
            )  # fmt: skip
            rows = [
                {
                    "uri": ref.uri, "etag": ref.etag, "size": ref.size, "stamp": ref.stamp, "source": batch.source,
                    "batch_id": batch.id, "state": outcome.state, "reason": outcome.reason,
                    "read": outcome.counts.read, "events": outcome.counts.events,
                    "quarantined": outcome.counts.quarantined, "dropped": outcome.counts.dropped,
                }
                for ref, outcome in result.outcomes.items()
            ]  # fmt: skip
            _upsert(connection, OBJECTS, ("uri", "etag"), rows)
            connection.execute(sa.delete(FILES).where(FILES.c.batch_id == batch.id))
            if result.files:
                connection.execute(sa.insert(FILES), [_file_row(batch.id, file) for file in result.files])
            if also is not None:
                also(connection)

    def fail(self, batch_id: str, reason: str) -> None:
        """Notes why work on a batch stopped; it stays open."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.update(BATCHES)
                .where(BATCHES.c.id == batch_id, BATCHES.c.state != State.DONE)
                .values(state=State.FAILED, reason=reason)
            )

    def discard(self, batch_id: str) -> None:
        """Forgets an open batch, so that its members are planned anew."""
        with self.engine.begin() as connection:
            members = OBJECTS.c.batch_id == batch_id
            connection.execute(sa.delete(OBJECTS).where(members, OBJECTS.c.state == State.PLANNED))
            connection.execute(sa.delete(BATCHES).where(BATCHES.c.id == batch_id, BATCHES.c.state != State.DONE))

    # -- replays of quarantine, see `lake.replay` ---------------------------------------------------------------------
    def open_replays(self, source: str) -> list[str]:
        """Ids of a source's replays that were begun and not finished."""
        query = sa.select(REPLAYS.c.batch_id).where(REPLAYS.c.source == source, REPLAYS.c.state != State.DONE)
        with self.engine.connect() as connection:
            return sorted(connection.scalars(query))

    def plan_replay(self, batch: Batch, entries: int) -> None:
        """Notes a replay before any work."""
        row = {
            "batch_id": batch.id, "source": batch.source, "state": State.PLANNED, "entries": entries,
            "planned_at": now(),
        }  # fmt: skip
        with self.engine.begin() as connection:
            _upsert(connection, REPLAYS, ("batch_id",), [row])

    def discard_replay(self, batch_id: str) -> None:
        """Forgets a replay that was not finished."""
        with self.engine.begin() as connection:
            unfinished = REPLAYS.c.state != State.DONE
            connection.execute(sa.delete(REPLAYS).where(REPLAYS.c.batch_id == batch_id, unfinished))

    def finish_replay(self, batch: Batch, result: Result, also: Callable[[sa.Connection], None]) -> None:
        """Marks a replay done in one transaction: its batch, and what it changed in the counts of its objects."""
        with self.engine.begin() as connection:
            total, done_at = result.counts, now()
            ended = connection.execute(
                sa.update(REPLAYS)
                .where(REPLAYS.c.batch_id == batch.id, REPLAYS.c.state != State.DONE)
                .values(state=State.DONE, closed=-total.quarantined, done_at=done_at)
            )
            if not ended.rowcount:
                return
            connection.execute(
                sa.insert(BATCHES).values(
                    id=batch.id, source=batch.source, mapper_version=batch.mapper_version,
                    ocsf_version=batch.ocsf_version, state=State.DONE, attempts=1, objects=len(batch.members),
                    bytes_in=0, read=total.read, events=total.events, quarantined=total.quarantined,
                    dropped=total.dropped, events_by_class=_json(result.events_by_class),
                    dropped_reasons=_json(result.dropped), failed_casts=_json(result.failed_casts),
                    unmapped_keys=_json(result.unmapped_keys), bytes_out=result.bytes_out, seconds=result.seconds,
                    planned_at=done_at, done_at=done_at, reason="replay of records in quarantine",
                )
            )  # fmt: skip
            for ref, outcome in result.outcomes.items():
                counts = vars(outcome.counts)
                if any(counts.values()):
                    connection.execute(
                        sa.update(OBJECTS)
                        .where(OBJECTS.c.uri == ref.uri, OBJECTS.c.etag == ref.etag)
                        .values({name: OBJECTS.c[name] + number for name, number in counts.items()})
                    )
            if result.files:
                connection.execute(sa.insert(FILES), [_file_row(batch.id, file) for file in result.files])
            also(connection)

    def refs(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], ObjectRef]:
        """Objects by URI and ETag."""
        wanted = set(keys)
        query = sa.select(OBJECTS.c.uri, OBJECTS.c.etag, OBJECTS.c.size, OBJECTS.c.stamp)
        with self.engine.connect() as connection:
            rows = select_in(connection, query, OBJECTS.c.uri, sorted({uri for uri, _ in wanted}))
            return {ref.key: ref for ref in (ObjectRef(*row) for row in rows) if ref.key in wanted}

    def event_files(self, table: str, partitions: Iterable[Partition]) -> list[tuple[str, Partition, int | None]]:
        """Path, partition and class of the files that finished batches have in some partitions of a table."""
        query = sa.select(FILES.c.path, FILES.c.partition, FILES.c.class_uid).where(FILES.c.table_name == table)
        wanted = ["/".join(partition.values) for partition in partitions]
        with self.engine.connect() as connection:
            return [
                (path, Partition(table, tuple(values.split("/"))), class_uid)
                for path, values, class_uid in select_in(connection, query, FILES.c.partition, wanted)
            ]

    def duplicates(
        self, connection: sa.Connection, batch: Batch, policy: str, result: Result, key: Sequence[str]
    ) -> None:
        """Notes, in the transaction that ends a batch, which duplicates it had and what tells its events apart."""
        if policy != "keep":
            row = {
                "batch_id": batch.id, "source": batch.source, "policy": policy, "duplicates": result.duplicates,
                "variants": result.variants,
            }  # fmt: skip
            _upsert(connection, DUPLICATES, ("batch_id",), [row])
        names = {file.partition.table for file in result.files if file.class_uid is not None}
        rows = [{"table_name": name, "key": json.dumps(list(key))} for name in sorted(names)]
        if key:
            _upsert(connection, KEYS, ("table_name",), rows)

    def duplicate_keys(self) -> dict[str, list[str]]:
        """Table -> OCSF paths that tell its events apart."""
        with self.engine.connect() as connection:
            return {name: json.loads(key) for name, key in connection.execute(sa.select(KEYS))}

    def quarantine_files(self, table: str) -> list[tuple[str, str, str, str, int]]:
        """Path, source, batch, the time its batch was done and rows of each file of a table, by path."""
        query = (
            sa.select(FILES.c.path, BATCHES.c.source, FILES.c.batch_id, BATCHES.c.done_at, FILES.c.rows)
            .join(BATCHES, BATCHES.c.id == FILES.c.batch_id)
            .where(FILES.c.table_name == table)
            .order_by(FILES.c.path)
        )
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]

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

    def plan_purge(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Notes files of quarantine before they are removed; what was noted of a file first stays."""
        with self.engine.begin() as connection:
            if rows:
                noted = [{**row, "purged_at": now()} for row in rows]
                connection.execute(insert(connection, PURGES).on_conflict_do_nothing(), noted)

    def purged(self, paths: Iterable[str]) -> None:
        """Forgets files that are gone."""
        with self.engine.begin() as connection:
            for path in paths:
                connection.execute(sa.delete(FILES).where(FILES.c.path == path))

    def arrow(self, name: str) -> pa.Table:
        """One table of the ledger: `objects`, `batches` or `files`."""
        table = METADATA.tables[name]
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).all()
        columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
        arrays = [
            pa.array(values, _arrow_type(column.type)) for column, values in zip(table.columns, columns, strict=True)
        ]
        return pa.table(arrays, names=[column.name for column in table.columns])


def _arrow_type(kind: sa.types.TypeEngine[Any]) -> pa.DataType:
    if isinstance(kind, sa.Integer):
        return pa.int64()
    return pa.float64() if isinstance(kind, sa.Float) else pa.string()


def _states(connection: sa.Connection, refs: Sequence[ObjectRef]) -> dict[tuple[str, str], tuple[State, str | None]]:
    wanted = {ref.key for ref in refs}
    query = sa.select(OBJECTS.c.uri, OBJECTS.c.etag, OBJECTS.c.state, OBJECTS.c.batch_id)
    rows = select_in(connection, query, OBJECTS.c.uri, [ref.uri for ref in refs])
    return {(uri, etag): (State(state), batch) for uri, etag, state, batch in rows if (uri, etag) in wanted}


def _replace(connection: sa.Connection, members: Sequence[ObjectRef]) -> None:
    """Objects that failed or were skipped, and whose keys have another content now, will not come back."""
    etags = {ref.uri: ref.etag for ref in members}
    waiting = OBJECTS.c.state.in_([State.FAILED, State.SKIPPED])
    query = sa.select(OBJECTS.c.uri, OBJECTS.c.etag).where(waiting)
    gone = [(uri, etag) for uri, etag in select_in(connection, query, OBJECTS.c.uri, list(etags)) if etag != etags[uri]]
    if gone:
        connection.execute(
            sa.update(OBJECTS)
            .where(OBJECTS.c.uri == sa.bindparam("of_uri"), OBJECTS.c.etag == sa.bindparam("of_etag"))
            .values(state=State.REPLACED, reason="its key was given another content before it was read"),
            [{"of_uri": uri, "of_etag": etag} for uri, etag in gone],
        )


def _batch(connection: sa.Connection, row: sa.RowMapping) -> Batch:
    query = (
        sa.select(OBJECTS.c.uri, OBJECTS.c.etag, OBJECTS.c.size, OBJECTS.c.stamp)
        .where(OBJECTS.c.batch_id == row["id"])
        .order_by(OBJECTS.c.uri, OBJECTS.c.etag)
    )
    members = tuple(ObjectRef(*found) for found in connection.execute(query))
    return Batch(row["id"], row["source"], row["mapper_version"], row["ocsf_version"], members, row["attempts"])


def _row(found: sa.Row[Any]) -> BatchRow:
    row = BatchRow(*found)
    return replace(row, state=State(row.state))


def _file_row(batch_id: str, file: FileInfo) -> dict[str, object]:
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


def _upsert(connection: sa.Connection, table: sa.Table, key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    statement = insert(connection, table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changed), rows)


def _json(counts: Mapping[str, int]) -> str:
    return json.dumps(counts, sort_keys=True)


def now() -> str:
    """The time, UTC, as the ledger writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
