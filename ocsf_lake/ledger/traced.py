"""What the ledger has of a record that somebody follows: the batches that may have its rows, and where those can be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from ocsf_lake.ledger import objects
from ocsf_lake.ledger.database import select_in
from ocsf_lake.ledger.results import Kind
from ocsf_lake.ledger.tables import BATCHES, FILES, OBJECTS, RETIRED, ROUTED


@dataclass(frozen=True)
class TracedBatch:
    """The batch that brought a row into the lake, or the merge that wrote its file.

    Args:
        id: Its id.
        kind: `ingest`, `replay`, `routed`, `merge`.
        source: Name of the source.
        done_at: When it was done, ISO 8601, UTC.
        mapper_version: The mapper it was planned for.
        ocsf_version: OCSF version of its events.
    """

    id: str
    kind: str
    source: str
    done_at: str | None
    mapper_version: str
    ocsf_version: str


@dataclass(frozen=True)
class ReadAs:
    """The batch that read an object, and the source as which; None where there is none."""

    batch_id: str | None
    source: str | None


def is_known(engine: sa.Engine, uri: str) -> bool:
    """Whether there is an object of this URI, with whatever content."""
    with engine.connect() as connection:
        return next(objects.select(connection, sa.select(OBJECTS.c.uri), [uri]), None) is not None


def read_as(engine: sa.Engine, uri: str, etag: str) -> ReadAs:
    """How an object was read."""
    row = OBJECTS.c
    with engine.connect() as connection:
        query = sa.select(row.batch_id, row.source, row.etag)
        rows = list(objects.select(connection, query, [uri]))
    return next((ReadAs(batch_id, source) for batch_id, source, own in rows if own == etag), ReadAs(None, None))


def batch(engine: sa.Engine, batch_id: str) -> TracedBatch | None:
    """A batch, as far as it was begun."""
    return _batch(engine, BATCHES.c.id == batch_id)


def batch_of_object(engine: sa.Engine, batch_id: str | None, source: str) -> TracedBatch | None:
    """The batch of a source that read an object's records: that of the object itself, or of other records in it.

    Args:
        engine: The ledger's.
        batch_id: The batch that read the object.
        source: Name of the source.
    """
    row = BATCHES.c
    routed = sa.select(ROUTED.c.batch_id).where(ROUTED.c.of_batch == batch_id)
    own = _batch(engine, row.id == batch_id, row.source == source)
    return own or _batch(engine, row.id.in_(routed), row.source == source)


def _batch(engine: sa.Engine, *conditions: sa.ColumnElement[bool]) -> TracedBatch | None:
    row = BATCHES.c
    query = sa.select(row.id, row.kind, row.source, row.done_at, row.mapper_version, row.ocsf_version)
    with engine.connect() as connection:
        columns = connection.execute(query.where(*conditions).limit(1)).first()
    return None if columns is None else TracedBatch(*columns)


def has_replays(engine: sa.Engine, source: str) -> bool:
    """Whether entries of a source's quarantine were ever replayed."""
    row = BATCHES.c
    query = sa.select(row.id).where(row.kind == Kind.REPLAY, row.source == source).limit(1)
    with engine.connect() as connection:
        return connection.scalar(query) is not None


def partitions(engine: sa.Engine, uri: str) -> dict[str, set[str]] | None:
    """The partitions, by table, in which rows of an object can be; None where the ledger does not have the object."""
    query = sa.select(OBJECTS.c.batch_id, OBJECTS.c.source)
    with engine.connect() as connection:
        rows = [row._tuple() for row in objects.select(connection, query, [uri])]
        if not rows:
            return None
        ids = {batch_id for batch_id, _ in rows if batch_id is not None}
        ids |= _texts(connection, ROUTED.c.batch_id, ROUTED.c.of_batch, ids)
        sources = {source for _, source in rows if source is not None}
        sources |= _texts(connection, BATCHES.c.source, BATCHES.c.id, ids)
        replays = _texts(connection, BATCHES.c.id, BATCHES.c.source, sources, BATCHES.c.kind == Kind.REPLAY)
        ids |= replays | _texts(connection, ROUTED.c.batch_id, ROUTED.c.of_batch, replays)
        by_table: dict[str, set[str]] = {}
        for files in (FILES, RETIRED):
            query = sa.select(files.c.table_name, files.c.partition).distinct()
            for table, values in select_in(connection, query, files.c.batch_id, sorted(ids)):
                by_table.setdefault(table, set()).add(values)
    return by_table


def _texts(
    connection: sa.Connection, selected: sa.Column[str], column: sa.Column[str], values: Iterable[str],
    *conditions: sa.ColumnElement[bool],
) -> set[str]:  # fmt: skip
    query = sa.select(selected).where(*conditions).distinct()
    return {text for (text,) in select_in(connection, query, column, sorted(values))}
