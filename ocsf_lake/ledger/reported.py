"""Numbers of a ledger by day, for a report; no file of the lake is read. Days are `YYYYMMDD`, times ISO 8601."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from ocsf_lake.ledger.database import select_in
from ocsf_lake.ledger.overview import event_day
from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import BATCHES, FILES, LISTINGS, OBJECTS, RETIRED, SCHEMA_DRIFT
from ocsf_lake.storage import layout

_ASIDE = (layout.QUARANTINE, layout.OUTCOMES, layout.DUPLICATES)
"""Tables that hold no events."""
_HAS_DAY = FILES.c.partition.like("%/%/%") & FILES.c.partition.not_like(f"%/{layout.UNKNOWN}")
_BATCHES_AT_ONCE = 200


@dataclass(frozen=True)
class Stored:
    """What a table takes.

    Args:
        table: Its name.
        rows: Its rows.
        files: Its files.
        bytes: Their size.
        first_day: The earliest event day; None where none is known.
        last_day: The latest.
    """

    table: str
    rows: int
    files: int
    bytes: int
    first_day: str | None
    last_day: str | None


@dataclass(frozen=True)
class Spent:
    """What batches took that were done in a time.

    Args:
        objects: Objects that they read.
        batches: How many batches.
        bytes_in: Size of the objects.
        bytes_out: Size of the files they wrote.
        files: How many files they wrote, those merged since among them.
        seconds: Seconds that workers took, each counted.
        records: Records that they read.
        quarantined: Of them in quarantine.
    """

    objects: int = 0
    batches: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    files: int = 0
    seconds: float = 0.0
    records: int = 0
    quarantined: int = 0


@dataclass(frozen=True)
class New:
    """Something that a mapper does not know, and the day it was seen first."""

    source: str
    kind: str
    name: str
    text: str
    noticed_at: str
    records: int


def days(engine: sa.Engine) -> tuple[str, str] | None:
    """The first and the last event day of the lake; None where there is none."""
    day = event_day(engine)
    query = sa.select(sa.func.min(day), sa.func.max(day)).where(_HAS_DAY, FILES.c.table_name.not_in(_ASIDE))
    with engine.connect() as connection:
        first, last = connection.execute(query).one()
    return (first, last) if first and last else None


def volume(engine: sa.Engine, first: str, last: str) -> list[tuple[str, int | None, int]]:
    """Event day, class and number of events."""
    day_column = event_day(engine)
    query = (
        sa.select(day_column.label("day"), FILES.c.class_uid, sa.func.sum(FILES.c.rows))
        .where(_HAS_DAY, FILES.c.table_name.not_in(_ASIDE), day_column.between(first, last))
        .group_by(sa.text("day"), FILES.c.class_uid)
        .order_by(sa.text("day"), FILES.c.class_uid)
    )
    with engine.connect() as connection:
        return [(day, uid, int(rows)) for day, uid, rows in connection.execute(query)]


def places(engine: sa.Engine, first: str, last: str) -> Iterator[tuple[str, str, str, int]]:
    """Source, account, event day and number of events, of each region apart."""
    day_column = event_day(engine)
    query = (
        sa.select(BATCHES.c.source, FILES.c.partition, sa.func.sum(FILES.c.rows))
        .join_from(FILES, BATCHES, BATCHES.c.id == FILES.c.batch_id)
        .where(_HAS_DAY, FILES.c.table_name.not_in(_ASIDE), day_column.between(first, last))
        .group_by(BATCHES.c.source, FILES.c.partition)
    )
    with engine.connect() as connection:
        for source, partition, rows in connection.execute(query):
            _, account, day = partition.split("/")
            yield source, account, day, int(rows)


def stored(engine: sa.Engine) -> list[Stored]:
    """Every table that has files, the largest first."""
    day = sa.case((_HAS_DAY, event_day(engine)))
    size = sa.func.sum(FILES.c.bytes)
    query = (
        sa.select(
            FILES.c.table_name, sa.func.sum(FILES.c.rows), sa.func.count(), size, sa.func.min(day), sa.func.max(day)
        )
        .group_by(FILES.c.table_name)
        .order_by(size.desc(), FILES.c.table_name)
    )
    with engine.connect() as connection:
        return [
            Stored(name, int(rows), files, int(total), first, last)
            for name, rows, files, total, first, last in connection.execute(query)
        ]


def retired_bytes(engine: sa.Engine) -> int:
    """Size of files that were merged, or whose time is over, and that are still there."""
    query = sa.select(sa.func.coalesce(sa.func.sum(RETIRED.c.bytes), 0)).where(RETIRED.c.removed_at.is_(None))
    with engine.connect() as connection:
        return int(connection.scalar(query) or 0)


def spent(engine: sa.Engine, since: str) -> dict[str, Spent]:
    """Source -> what its batches took that were done from one time on."""
    row = BATCHES.c
    done = (row.state == State.DONE, row.done_at >= since)
    sums = [sa.func.sum(sa.case((row.kind == Kind.INGEST, row.objects), else_=0)), sa.func.count()]
    sums += [sa.func.sum(row[name]) for name in ("bytes_in", "bytes_out", "seconds", "read", "quarantined")]
    files: dict[str, int] = {}
    by_source: dict[str, Spent] = {}
    with engine.connect() as connection:
        for table in (FILES, RETIRED):
            count = (
                sa.select(row.source, sa.func.count())
                .join_from(table, BATCHES, row.id == table.c.batch_id)
                .where(*done)
                .group_by(row.source)
            )
            for source, number in connection.execute(count):
                files[source] = files.get(source, 0) + number
        query = sa.select(row.source, *sums).where(*done).group_by(row.source).order_by(row.source)
        for source, objects, batches, bytes_in, bytes_out, seconds, read, refused in connection.execute(query):
            by_source[source] = Spent(
                int(objects), batches, int(bytes_in), int(bytes_out), files.get(source, 0), float(seconds), int(read),
                int(refused),
            )  # fmt: skip
    return by_source


def drift(engine: sa.Engine, since: str, limit: int, without: str = "") -> tuple[list[New], int]:
    """What was noticed from one time on, the most frequent first; and how much there is of it.

    Args:
        engine: The ledger.
        since: The first moment.
        limit: So much is given.
        without: A kind that does not count.
    """
    row = SCHEMA_DRIFT.c
    taken = (row.noticed_at >= since, row.kind != without)
    query = (
        sa.select(row.source, row.kind, row.name, row.text, row.noticed_at, row.records)
        .where(*taken)
        .order_by(row.records.desc(), row.source, row.kind, row.name, row.text)
        .limit(limit)
    )
    with engine.connect() as connection:
        number = connection.scalar(sa.select(sa.func.count()).select_from(SCHEMA_DRIFT).where(*taken)) or 0
        return [New(*columns) for columns in connection.execute(query)], number


def arrivals(engine: sa.Engine, since: str, limit: int) -> Iterator[tuple[str, str, str]]:
    """Source, URI and time of commit of objects whose batches were done from one time on, the latest batches first.

    Args:
        engine: The ledger.
        since: The first moment.
        limit: Batches that are done earlier are left out once there are so many objects.
    """
    row = BATCHES.c
    query = (
        sa.select(row.id, row.source, row.done_at, row.objects)
        .where(row.state == State.DONE, row.kind == Kind.INGEST, row.done_at >= since)
        .order_by(row.done_at.desc(), row.id)
    )
    with engine.connect() as connection:
        chosen: dict[str, tuple[str, str]] = {}
        number = 0
        for batch, source, done_at, objects in connection.execute(query):
            chosen[batch] = source, done_at
            number += objects
            if number >= limit:
                break
        ids = list(chosen)
        each = sa.select(OBJECTS.c.uri, OBJECTS.c.batch_id).where(OBJECTS.c.state == State.DONE)
        for start in range(0, len(ids), _BATCHES_AT_ONCE):
            some = ids[start : start + _BATCHES_AT_ONCE]
            for uri, batch in select_in(connection, each, OBJECTS.c.batch_id, some):
                source, done_at = chosen[batch]
                yield source, uri, done_at


def listed(engine: sa.Engine) -> dict[str, str]:
    """Source -> a URI at which it was looked for by name, the latest one."""
    row = LISTINGS.c
    query = sa.select(row.source, row.uri).where(row.source != "", row.what == "whole").order_by(row.begun_at)
    with engine.connect() as connection:
        return dict(connection.execute(query).tuples().all())
