"""What a ledger has of the last days, by source, for `ocsf_lake.upkeep.health`; times are as the ledger writes them."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.results import Kind, State
from ocsf_lake.ledger.tables import BATCHES, FILES, OBJECTS, RETIRED, SCHEMA_DRIFT
from ocsf_lake.storage import layout
from ocsf_mappers.compiler.statistics import DriftKind


def open_batches(engine: sa.Engine, planned_before: str) -> list[tuple[str, str, int, str | None]]:
    """Source, state, number and a reason of batches with objects to read that failed, or that wait since long."""
    row = BATCHES.c
    query = sa.select(row.source, row.state, sa.func.count(), sa.func.max(row.reason)).where(
        row.kind == Kind.INGEST,
        (row.state == State.FAILED) | ((row.state == State.PLANNED) & (row.planned_at < planned_before)),
    )
    with engine.connect() as connection:
        return [tuple(item) for item in connection.execute(query.group_by(row.source, row.state))]


def failed_objects(engine: sa.Engine) -> list[tuple[str, int, str | None]]:
    """Source, number and a reason of objects that could not be read."""
    row = OBJECTS.c
    query = sa.select(sa.func.coalesce(row.source, layout.UNKNOWN), sa.func.count(), sa.func.max(row.reason))
    with engine.connect() as connection:
        grouped = query.where(row.state == State.FAILED).group_by(row.source)
        return [tuple(item) for item in connection.execute(grouped)]


def partitions_filled(engine: sa.Engine, since: str) -> list[tuple[str, str, str]]:
    """Source, time of planning and partition's values of what batches wrote that were planned since."""
    # Of files that were merged since, too.
    parts = (sa.select(table.c.batch_id, table.c.partition) for table in (FILES, RETIRED))
    files = sa.union_all(*parts).subquery()
    query = (
        sa.select(BATCHES.c.source, BATCHES.c.planned_at, files.c.partition)
        .join_from(BATCHES, files, files.c.batch_id == BATCHES.c.id)
        .where(BATCHES.c.planned_at >= since)
        .distinct()
    )
    with engine.connect() as connection:
        return [tuple(item) for item in connection.execute(query)]


def counts_read(engine: sa.Engine, since: str) -> list[tuple[str, int, int]]:
    """Source, records read and those of them in quarantine, of batches that were done since."""
    row = BATCHES.c
    query = (
        sa.select(row.source, sa.func.sum(row.read), sa.func.sum(row.quarantined))
        .where(row.state == State.DONE, row.done_at >= since)
        .group_by(row.source)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    return [(source, int(read or 0), int(quarantined or 0)) for source, read, quarantined in rows]


def drift_counts(engine: sa.Engine, since: str) -> list[tuple[str, int, str]]:
    """Source, number and one name of what was noticed in schemas since, but in open-ended members and new sources."""
    old = sa.select(BATCHES.c.source).where(BATCHES.c.state == State.DONE, BATCHES.c.done_at < since)
    row = SCHEMA_DRIFT.c
    query = (
        sa.select(row.source, sa.func.count(), sa.func.min(row.name))
        .where(row.noticed_at >= since, row.kind != DriftKind.OPEN_MEMBER, row.source.in_(old))
        .group_by(row.source)
    )
    with engine.connect() as connection:
        return [tuple(item) for item in connection.execute(query)]
