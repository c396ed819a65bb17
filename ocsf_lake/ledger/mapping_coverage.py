"""Mapping coverage: what became of records and of their members by source, batch and day, and what is new in a source.

Written in the transaction that ends a batch, so that a batch which is interrupted and done again counts once. The day
is the event's own; records in quarantine and dropped lines have none and stand under the day of delivery in their
object's name, or under `unknown`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger.database import add
from ocsf_lake.ledger.ledger import now
from ocsf_lake.ledger.results import Batch, Result
from ocsf_lake.ledger.tables import FAILED_CASTS, MAPPING_COVERAGE, MEMBERS, SCHEMA_DRIFT
from ocsf_lake.storage import layout
from ocsf_mappers.compiler.statistics import OTHER, DriftKind, FirstSeen, SchemaDrift

NAMES_A_DAY = 2_000
"""Of a source's members, so many names are counted apart on one day; later ones are together under `(other)`."""
DayOf = Callable[[str], str | None]

DRIFT_OF_SOURCE = 10_000
"""So much drift of a source is kept; what comes later is counted as one item, `(other)`."""


def record(
    connection: sa.Connection, batch: Batch, result: Result, day_of: DayOf, at: str | None = None
) -> dict[SchemaDrift, FirstSeen]:
    """Adds a batch to the mapping coverage, inside the transaction that marks it done.

    Args:
        connection: The ledger.
        batch: The batch.
        result: What became of it.
        day_of: Gives the day of delivery, `YYYYMMDD`, in an object's URI.
        at: When it was done; now without it.

    Returns:
        What no earlier batch of the source had; names inside open-ended members are not among it.
    """
    statistics = result.statistics
    fresh = _record_drift(connection, batch, statistics.drift, at or now())
    _add(connection, MAPPING_COVERAGE, ("batch_id", "day"), _days(batch, result, fresh, day_of))
    _add(connection, MEMBERS, ("source", "day", "name"), _members(connection, batch.source, result))
    failed = Counter({(day, _storable(name)): number for (day, name), number in statistics.failed.items()})
    rows = [
        {"source": batch.source, "day": day, "attribute": name, "events": number}
        for (day, name), number in failed.items()
    ]
    _add(connection, FAILED_CASTS, ("source", "day", "attribute"), rows)
    return {drift: seen for drift, seen in fresh.items() if drift.kind is not DriftKind.OPEN_MEMBER}


def _days(
    batch: Batch, result: Result, fresh: dict[SchemaDrift, FirstSeen], day_of: DayOf
) -> list[dict[str, Any]]:
    statistics = result.statistics
    kinds = ("events", "quarantined", "dropped", "members_mapped", "members_unmapped", "failed_casts", "news")
    days: dict[str, Counter[str]] = {}

    def count(day: str, kind: str, number: int) -> None:
        days.setdefault(day, Counter())[kind] += number

    for day, number in statistics.events.items():
        count(day, "events", number)
    for kind, counts in (
        ("members_mapped", statistics.mapped),
        ("members_unmapped", statistics.unmapped),
        ("failed_casts", statistics.failed),
    ):
        for (day, _), number in counts.items():
            count(day, kind, number)
    for ref, outcome in result.outcomes.items():
        day = day_of(ref.uri) or layout.UNKNOWN
        for kind, number in (("quarantined", outcome.counts.quarantined), ("dropped", outcome.counts.dropped)):
            if number:
                count(day, kind, number)
    for drift, seen in fresh.items():
        count(seen.day, "news", drift.kind is not DriftKind.OPEN_MEMBER)
    return [
        {"batch_id": batch.id, "source": batch.source, "day": day, **{kind: counts[kind] for kind in kinds}}
        for day, counts in days.items()
    ]


def _members(connection: sa.Connection, source: str, result: Result) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for kind, counted in (("mapped", result.statistics.mapped), ("unmapped", result.statistics.unmapped)):
        for (day, name), number in counted.items():
            counts.setdefault((day, _storable(name)), Counter())[kind] += number
    by_member: dict[tuple[str, str], Counter[str]] = {}
    for day in sorted({day for day, _ in counts}):
        query = sa.select(MEMBERS.c.name).where(MEMBERS.c.source == source, MEMBERS.c.day == day)
        names = set(connection.scalars(query))
        of_day = {name: kinds for (when, name), kinds in counts.items() if when == day}
        # The most frequent of the new names come first.
        for name in sorted(of_day, key=lambda name: (name not in names, -of_day[name].total(), name)):
            names.update([name] if len(names) < NAMES_A_DAY else [])
            by_member.setdefault((day, name if name in names else OTHER), Counter()).update(of_day[name])
    return [
        {"source": source, "day": day, "name": name, "mapped": kinds["mapped"], "unmapped": kinds["unmapped"]}
        for (day, name), kinds in by_member.items()
    ]


def _record_drift(
    connection: sa.Connection, batch: Batch, drift: dict[SchemaDrift, FirstSeen], at: str
) -> dict[SchemaDrift, FirstSeen]:
    """Adds to the table of drift; gives what is in it from now on and was not before."""
    if not drift:
        return {}
    key = (SCHEMA_DRIFT.c.kind, SCHEMA_DRIFT.c.name, SCHEMA_DRIFT.c.text)
    query = _of_source(key, batch.source)
    recorded = {SchemaDrift(DriftKind(kind), *texts) for kind, *texts in connection.execute(query)}
    first_seen: dict[SchemaDrift, FirstSeen] = {}
    for item, seen in drift.items():
        item = SchemaDrift(item.kind, _storable(item.name), _storable(item.text))
        if item not in recorded and len(recorded) >= DRIFT_OF_SOURCE:
            item = SchemaDrift(item.kind, OTHER)
        recorded.add(item)
        if item in first_seen:
            first_seen[item].records += seen.records
        else:
            first_seen[item] = FirstSeen(**vars(seen))
    rows = [
        {
            "source": batch.source, "kind": item.kind, "name": item.name, "text": item.text,
            "first_day": seen.day, "first_object": _storable(seen.object), "first_record": seen.record,
            "first_batch": batch.id, "noticed_at": at, "records": seen.records,
        }
        for item, seen in first_seen.items()
    ]  # fmt: skip
    _add(connection, SCHEMA_DRIFT, ("source", "kind", "name", "text"), rows)
    mine = query.where(SCHEMA_DRIFT.c.first_batch == batch.id)
    fresh = {SchemaDrift(DriftKind(kind), *texts) for kind, *texts in connection.execute(mine)}
    return {item: seen for item, seen in first_seen.items() if item in fresh}


def _of_source(columns: Iterable[sa.ColumnElement[Any]], source: str) -> sa.Select[Any]:
    return sa.select(*columns).where(SCHEMA_DRIFT.c.source == source)


def _add(connection: sa.Connection, table: sa.Table, key: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """Inserts rows; numbers are added to those of rows that are there, other columns of those stay."""
    if not rows:
        return
    # In one order for all: two batches that end at once must not wait for each other in a circle.
    rows = sorted(rows, key=lambda row: [row[name] for name in key])
    counted = [
        name for name in rows[0] if name not in key and name != "first_record" and isinstance(rows[0][name], int)
    ]
    add(connection, table, key, rows, counted)


def _storable(text: str) -> str:
    """Text that every database takes: PostgreSQL has no NUL."""
    return text.replace("\0", "\\u0000")


def message(drift: SchemaDrift, seen: FirstSeen) -> str:
    """What is new and where it stands first, in words; what came with the log is as it came."""
    where = f"first in {seen.object}, record {seen.record}"
    match drift.kind:
        case DriftKind.VALUE:
            return f"{drift.name} {drift.text}, which the mapper does not list; {where}"
        case DriftKind.ENUM_TEXT:
            return f"{drift.name} {drift.text}, which OCSF does not know: it is Other; {where}"
        case _:
            return f"member {drift.name}, which the mapper does not declare: it is in unmapped; {where}"
