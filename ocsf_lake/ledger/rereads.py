"""Objects that leave the batch they were read in, to be read once more: see `ocsf_lake.ingest.reread`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ocsf_lake.ledger import chain, objects, records
from ocsf_lake.ledger.ledger import file_row
from ocsf_lake.ledger.objects import Key
from ocsf_lake.ledger.records import Record, Reduced
from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import BATCHES, DUPLICATES, FILES, MAPPING_COVERAGE, OBJECTS, ORPHANS, ROUTED
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import RetriableError


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


@dataclass(frozen=True)
class Taken:
    """Records of an object, or of a part of it, that are taken out of a batch's counts."""

    read: int
    quarantined: int
    dropped: int


def earlier_reads(engine: sa.Engine, refs: Sequence[ObjectRef]) -> dict[Key, Read]:
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
    with engine.connect() as connection:
        rows = list(objects.select(connection, query, (ref.uri for ref in refs)))
    return {(uri, etag): Read(*facts) for uri, etag, *facts in rows if (uri, etag) in keys}


def sources(engine: sa.Engine, batch_ids: Sequence[str]) -> list[str]:
    """Sources of batches, sorted."""
    with engine.connect() as connection:
        return sorted(set(connection.scalars(sa.select(BATCHES.c.source).where(BATCHES.c.id.in_(batch_ids)))))


def take_out(connection: sa.Connection, refs: Iterable[ObjectRef], batch_id: str | None) -> dict[Key, Taken]:
    """Forgets objects of a batch, or of none, of which no record is an event; gives what each was counted with.

    Raises:
        RetriableError: Another run has planned one of them meanwhile, or a replay has made events of its records.
    """
    columns = OBJECTS.c
    counted: dict[Key, Taken] = {}
    for ref in refs:
        query = sa.select(columns.read, columns.quarantined, columns.dropped, columns.events).where(
            columns.etag == ref.etag, columns.batch_id.is_not_distinct_from(batch_id)
        )
        row = next(objects.select(connection, query, [ref.uri]), None)
        if row is None:
            raise RetriableError("another run has planned the object meanwhile; run it again", object=ref.uri)
        *taken, events = row
        if events:
            why = "a replay has made events of the object's records meanwhile; run it again"
            raise RetriableError(why, object=ref.uri)
        counted[ref.key] = Taken(*taken)
        objects.remove(connection, [ref.key])
    return counted


def objects_of(connection: sa.Connection, batch_id: str) -> set[Key]:
    """The objects of a batch."""
    columns = OBJECTS.c
    query = sa.select(columns.uri, columns.etag).where(columns.batch_id == batch_id)
    return {(uri, etag) for uri, etag in connection.execute(query)}


def listed_files(connection: sa.Connection, batch_ids: Sequence[str]) -> list[chain.Listed]:
    """The files of batches, as the chain lists them."""
    paths = connection.scalars(sa.select(FILES.c.path).where(FILES.c.batch_id.in_(batch_ids)))
    return chain.listed(connection, paths.all())


def put_files(connection: sa.Connection, files: Mapping[str, Sequence[FileInfo]]) -> None:
    """Replaces the files of batches, by the batches' ids."""
    for batch_id, of_batch in files.items():
        connection.execute(sa.delete(FILES).where(FILES.c.batch_id == batch_id))
        if rows := [file_row(batch_id, file) for file in of_batch]:
            connection.execute(sa.insert(FILES), rows)


def forget(connection: sa.Connection, batch_ids: Sequence[str]) -> None:
    """Forgets batches that have no objects any more."""
    for table in (FILES, MAPPING_COVERAGE, DUPLICATES, ROUTED):
        connection.execute(sa.delete(table).where(table.c.batch_id.in_(batch_ids)))
    connection.execute(sa.delete(BATCHES).where(BATCHES.c.id.in_(batch_ids)))


def subtract(connection: sa.Connection, batch_id: str, taken: Taken, day: str) -> None:
    """Takes records out of the counts of a batch.

    Args:
        connection: The transaction.
        batch_id: The batch.
        taken: How many.
        day: The day that they are counted on, see `ocsf_lake.ledger.mapping_coverage`.
    """
    row = BATCHES.c
    values = {"read": taken.read, "quarantined": taken.quarantined, "dropped": taken.dropped}
    less = {name: row[name] - number for name, number in values.items()}
    connection.execute(sa.update(BATCHES).where(row.id == batch_id).values(less))
    less = {name: MAPPING_COVERAGE.c[name] - values[name] for name in ("quarantined", "dropped")}
    of_day = MAPPING_COVERAGE.c.batch_id == batch_id, MAPPING_COVERAGE.c.day == day
    connection.execute(sa.update(MAPPING_COVERAGE).where(*of_day).values(less))


def subtract_objects(connection: sa.Connection, batch_id: str, refs: Sequence[ObjectRef]) -> None:
    """Takes objects out of the counts of a batch."""
    row = BATCHES.c
    less = {"objects": row.objects - len(refs), "bytes_in": row.bytes_in - sum(ref.size for ref in refs)}
    connection.execute(sa.update(BATCHES).where(row.id == batch_id).values(less))


def write_reduced(engine: sa.Engine, store: Store, batch_ids: Sequence[str]) -> None:
    """Writes into the lake what is left of a batch that has no record, for a ledger that is made anew.

    Args:
        engine: The ledger.
        store: The lake's files.
        batch_ids: The batch, and those of records of other sources among its own.

    Raises:
        WriteError: The lake refused.
        RetriableError: The store or the database does not answer.
    """
    with engine.connect() as connection:
        left = frozenset(objects_of(connection, batch_ids[0]))
    without_events = FILES.c.batch_id.in_(batch_ids) & FILES.c.class_uid.is_(None)
    queries = [
        sa.select(BATCHES).where(BATCHES.c.id.in_(batch_ids)),
        sa.select(FILES).where(without_events),
        sa.select(MAPPING_COVERAGE).where(MAPPING_COVERAGE.c.batch_id.in_(batch_ids)),
    ]
    records.write_rows(store, engine, "reread", queries, reduced=Reduced(tuple(batch_ids), left))


def restore(connection: sa.Connection, record: Record) -> None:
    """Takes out of a ledger that is made anew what had left a batch that has no record, see `write_reduced`.

    What the record has of rows is written already.
    """
    if record.reduced is None:
        return
    batch_ids, left = record.reduced.batches, record.reduced.objects
    objects.remove(connection, objects_of(connection, batch_ids[0]) - left)
    if not left:
        forget(connection, batch_ids)
        return
    paths = [row["path"] for row in (record.put or {}).get(FILES.name, [])]
    row = FILES.c
    is_old = row.batch_id.in_(batch_ids) & row.class_uid.is_(None) & row.path.not_in(paths)
    connection.execute(sa.delete(FILES).where(is_old))


# -- what an interrupted run has left ---------------------------------------------------------------------------------
def interrupted(engine: sa.Engine) -> list[str]:
    """Batches that were done, or are forgotten, and of which files may lie there that nothing names."""
    done = sa.select(BATCHES.c.id).where(BATCHES.c.state == State.DONE)
    all_ids = sa.union(sa.select(BATCHES.c.id), sa.select(ROUTED.c.batch_id))
    named = ORPHANS.c.batch_id
    with engine.connect() as connection:
        query = sa.select(named).where(named.in_(done) | named.not_in(all_ids))
        return list(connection.scalars(query.distinct()))


def may_have_been_left(connection: sa.Connection, batch_id: str) -> bool:
    """Whether objects may have left a batch: those that are no ingests have none, and what is forgotten lost all."""
    kind = connection.scalar(sa.select(BATCHES.c.kind).where(BATCHES.c.id == batch_id))
    return kind in (Kind.INGEST, None)
