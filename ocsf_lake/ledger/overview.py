"""What a ledger comes to, source by source: the numbers behind `ocsf-lake status`; no file of the lake is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import BATCHES, FILES, NAMES, NOT_DONE, OBJECT_ROWS, OBJECTS
from ocsf_lake.storage import layout
from ocsf_mappers import registry

EXAMPLES = 3
_NOT_READ = (State.FAILED, State.SKIPPED, State.SET_ASIDE, State.REPLACED)
_DAY_DIGITS = 8


@dataclass(frozen=True)
class SourceRow:
    """One source.

    Args:
        source: Its name.
        objects: Objects that were read whole; None where there are none.
        records: Records of finished batches.
        events: Events of them.
        quarantined: Records of them in quarantine.
        dropped: Records of them that are dropped by design.
        bytes_in: Size of the objects.
        bytes_out: Size of the files.
        batches: State -> number of batches.
    """

    source: str
    objects: int | None
    records: int | None
    events: int | None
    quarantined: int | None
    dropped: int | None
    bytes_in: int | None
    bytes_out: int | None
    batches: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NotRead:
    """Objects that are in no finished batch, of one state and for one reason, with a few of them."""

    state: str
    reason: str | None
    objects: int
    attempts: int
    examples: list[str]


@dataclass(frozen=True)
class Failing:
    """A batch that is not done after an attempt. See `BATCHES`."""

    batch: str
    source: str
    objects: int
    failures: int
    reason: str | None


@dataclass(frozen=True)
class TableRow:
    """One table of the lake.

    Args:
        table: Its name.
        rows: Its rows.
        first_day: The earliest event day, `YYYYMMDD`; None where no file is of a known one.
        last_day: The latest.
        sources: Names of the sources that it has rows of.
    """

    table: str
    rows: int
    first_day: str | None
    last_day: str | None
    sources: list[str]


def sources(engine: sa.Engine) -> list[SourceRow]:
    """Every source that has a batch, by name."""
    row = BATCHES.c
    columns = [row[name] for name in ("read", "events", "quarantined", "dropped", "bytes_in", "bytes_out")]
    sums = [sa.func.sum(column) for column in columns]
    counted = (row.state == State.DONE) | (row.kind == Kind.INGEST)  # a replay that died is not there to be resumed
    query = sa.select(row.source, row.state, sa.func.count(), *sums).where(counted).group_by(row.source, row.state)
    batches: dict[str, dict[str, int]] = {}
    counts: dict[str, list[int | None]] = {}
    with engine.connect() as connection:
        read = _read_whole(connection)
        for source, state, number, *totals in connection.execute(query.order_by(row.source, row.state)):
            batches.setdefault(source, {})[state] = number
            if state == State.DONE:
                counts[source] = [int(value) for value in totals]
    rows = []
    for source, states in batches.items():
        records, events, quarantined, dropped, bytes_in, bytes_out = counts.get(source, [None] * len(columns))
        rows.append(
            SourceRow(
                source, read[source] or None, records, events, quarantined, dropped, bytes_in, bytes_out, states
            )
        )
    return rows


def _read_whole(connection: sa.Connection) -> Counter[str]:
    """Source -> number of objects that are done: members of finished batches, less those of another state.

    Both come from indexes; the table of objects is too large to be looked through.
    """
    row = OBJECT_ROWS.c
    members = sa.select(row.batch, sa.func.count().label("number")).group_by(row.batch)
    numbers: Counter[str] = Counter()
    for sign, counted in ((1, members), (-1, members.where(row.state != sa.literal_column("'done'")))):
        each = counted.subquery()
        query = (
            sa.select(BATCHES.c.source, sa.func.sum(each.c.number))
            .join_from(each, NAMES, NAMES.c.id == each.c.batch)
            .join(BATCHES, BATCHES.c.id == NAMES.c.name)
            .where(BATCHES.c.state == State.DONE)
            .group_by(BATCHES.c.source)
        )
        for source, number in connection.execute(query):
            numbers[source] += sign * int(number)
    return numbers


def not_read(engine: sa.Engine) -> list[NotRead]:
    """Objects that were not read, by state and reason."""
    row = OBJECTS.c
    left = NOT_DONE & row.state.in_(_NOT_READ)
    groups = (
        sa.select(row.state, row.reason, sa.func.count(), sa.func.max(row.attempts))
        .where(left)
        .group_by(row.state, row.reason)
        .order_by(row.state, row.reason)
    )
    with engine.connect() as connection:
        return [
            NotRead(state, reason, number, attempts, _examples(connection, left, state, reason))
            for state, reason, number, attempts in connection.execute(groups).all()
        ]


def _examples(
    connection: sa.Connection, left: sa.ColumnElement[bool], state: str, reason: str | None
) -> list[str]:
    query = sa.select(OBJECTS.c.uri).where(left, OBJECTS.c.state == state)
    query = query.where(OBJECTS.c.reason.is_not_distinct_from(reason))
    # Those that failed are few, and shown; of what is set aside there may be millions.
    ordered = query.order_by(OBJECTS.c.uri) if state == State.FAILED else query
    return sorted(connection.scalars(ordered.limit(EXAMPLES)))


def failing(engine: sa.Engine) -> list[Failing]:
    """Batches that are not done after an attempt, those with most attempts first."""
    row = BATCHES.c
    query = (
        sa.select(row.id, row.source, row.objects, row.failures, row.reason)
        .where(row.state != State.DONE, row.kind == Kind.INGEST, row.failures > 0)
        .order_by(row.failures.desc(), row.id)
    )
    with engine.connect() as connection:
        return [Failing(*columns) for columns in connection.execute(query)]


def replaced_after_reading(engine: sa.Engine) -> int:
    """Keys of which more than one content was read."""
    row = OBJECT_ROWS.c
    uri = row.beginning, row.rest
    # The key of the table shows which URIs stand twice; only those are looked at.
    twice = sa.select(*uri).group_by(*uri).having(sa.func.count() > 1)
    read = (
        sa.select(*uri)
        .where(sa.tuple_(*uri).in_(twice), row.state == State.DONE)
        .group_by(*uri)
        .having(sa.func.count() > 1)
    )
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(read.subquery())) or 0


def tables(engine: sa.Engine) -> list[TableRow]:
    """Every table that has rows, by name."""
    has_day = FILES.c.partition.like("%/%/%") & FILES.c.partition.not_like(f"%/{layout.UNKNOWN}")
    day = sa.case((has_day, event_day(engine)))
    query = (
        sa.select(
            FILES.c.table_name, BATCHES.c.source, sa.func.sum(FILES.c.rows), sa.func.min(day), sa.func.max(day)
        )
        .join_from(FILES, BATCHES, BATCHES.c.id == FILES.c.batch_id)
        .group_by(FILES.c.table_name, BATCHES.c.source)
        .order_by(FILES.c.table_name, BATCHES.c.source)
    )
    by_name: dict[str, TableRow] = {}
    with engine.connect() as connection:
        for name, source, rows, first, last in connection.execute(query):
            before = by_name.get(name, TableRow(name, 0, None, None, []))
            days = [value for value in (before.first_day, before.last_day, first, last) if value is not None]
            by_name[name] = TableRow(
                name, before.rows + int(rows), min(days, default=None), max(days, default=None),
                [*before.sources, source],
            )  # fmt: skip
    return list(by_name.values())


def without_source(engine: sa.Engine) -> set[str]:
    """Tables that the lake has files of and no source that can be used: nothing is known of their columns."""
    with engine.connect() as connection:
        names = set(connection.scalars(sa.select(FILES.c.table_name).distinct()))
    return names - registry.tables().keys() - {layout.QUARANTINE, layout.OUTCOMES, layout.DUPLICATES}


def event_day(engine: sa.Engine) -> sa.ColumnElement[str]:
    """The event day of a file's partition, where it is known."""
    partition = FILES.c.partition
    if engine.dialect.name == "postgresql":
        return sa.func.right(partition, _DAY_DIGITS)
    return sa.func.substr(partition, -_DAY_DIGITS)


def last_days(engine: sa.Engine) -> list[tuple[str, str, str]]:
    """Source, table, and the latest event day, `YYYYMMDD`, of which the table has files of the source."""
    partition = FILES.c.partition
    query = (
        sa.select(BATCHES.c.source, FILES.c.table_name, sa.func.max(event_day(engine)))
        .join_from(FILES, BATCHES, BATCHES.c.id == FILES.c.batch_id)
        .where(partition.like("%/%/%"), partition.not_like(f"%/{layout.UNKNOWN}"))
        .where(FILES.c.table_name.not_like(f"{layout.QUARANTINE}%"))
        .group_by(BATCHES.c.source, FILES.c.table_name)
        .order_by(BATCHES.c.source, FILES.c.table_name)
    )
    with engine.connect() as connection:
        return [(source, table, day) for source, table, day in connection.execute(query)]
