"""What the ledger knows of quarantine's later life: replays (`ocsf_lake.upkeep.replay`), and files purged."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger import marker, objects, orphans
from ocsf_lake.ledger.database import insert, upsert
from ocsf_lake.ledger.leases import Lease, Leases, LostError
from ocsf_lake.ledger.ledger import Ledger, file_row, now
from ocsf_lake.ledger.results import ID_DIGITS, Batch, Result, State
from ocsf_lake.ledger.tables import BATCHES, FILES, OBJECT_ROWS, PURGES, REPLAYS, ROUTED


@dataclass(frozen=True)
class Attempt:
    """A replay that was planned.

    Args:
        batch: The batch that its events belong to.
        token: Tells this attempt from others at the same batch.
        planned_at: When it was planned.
        number: Of its record, see `ocsf_lake.ledger.marker`.
    """

    batch: Batch
    token: str
    planned_at: str
    number: int


def held(leases: Leases, source: str) -> AbstractContextManager[Lease | None]:
    """Holds a source's quarantine for one worker, which replays or purges it; gives None when another one holds it."""
    return leases.held(hashlib.sha256(f"replay of {source}".encode()).hexdigest()[:ID_DIGITS])


def unfinished(ledger: Ledger, source: str) -> list[str]:
    """Ids of a source's replays that were begun and not finished."""
    query = sa.select(REPLAYS.c.batch_id).where(REPLAYS.c.source == source, REPLAYS.c.state != State.DONE)
    with ledger.engine.connect() as connection:
        return sorted(connection.scalars(query))


def plan(ledger: Ledger, batch: Batch, entries: int) -> Attempt:
    """Notes a replay before any work."""
    token, at = uuid.uuid4().hex, now()
    row = {
        "batch_id": batch.id, "source": batch.source, "state": State.PLANNED, "entries": entries, "planned_at": at,
        "token": token,
    }  # fmt: skip
    with ledger.engine.begin() as connection:
        upsert(connection, REPLAYS, ("batch_id",), [row])
        return Attempt(batch, token, at, marker.next_number(connection))


def take_back(ledger: Ledger, batch_id: str, undo: Callable[[sa.Connection], None]) -> None:
    """Forgets a replay that was not finished.

    Args:
        ledger: The ledger.
        batch_id: The replay.
        undo: Removes what it wrote; not called when it is finished after all. Nobody can finish it meanwhile.
    """
    with ledger.engine.begin() as connection:
        row = REPLAYS.c.batch_id == batch_id, REPLAYS.c.state != State.DONE
        if connection.scalar(sa.select(REPLAYS.c.batch_id).where(*row).with_for_update()) is not None:
            undo(connection)
            connection.execute(sa.delete(REPLAYS).where(*row))
            orphans.forget(connection, batch_id)
            connection.execute(sa.delete(ROUTED).where(ROUTED.c.of_batch == batch_id))


def finish(
    ledger: Ledger, attempt: Attempt, result: Result, register: Callable[[], None],
    also: Callable[[sa.Connection], None], done_at: str,
) -> None:  # fmt: skip
    """Marks a replay done in one transaction: its batch, and what it changed in the counts of its objects.

    Args:
        ledger: The ledger.
        attempt: As `plan` gave it.
        result: What became of it.
        register: Makes it visible; called when it is certain that nobody has begun it anew. In PostgreSQL nobody can
            until this ends; in SQLite, where the kernel sees to that, it is called before.
        also: Writes what else belongs into that transaction.
        done_at: When it was done.

    Raises:
        LostError: Another worker took it back, or began it anew; nothing is marked.
    """
    batch = attempt.batch
    shared = ledger.engine.dialect.name == "postgresql"
    if not shared:
        register()
    with ledger.engine.begin() as connection:
        query = sa.select(REPLAYS.c.token).where(REPLAYS.c.batch_id == batch.id, REPLAYS.c.state != State.DONE)
        if connection.scalar(query.with_for_update()) != attempt.token:
            raise LostError("another worker has taken the replay over", batch=batch.id)
        if shared:
            register()
        connection.execute(
            sa.update(REPLAYS)
            .where(REPLAYS.c.batch_id == batch.id)
            .values(state=State.DONE, closed=-result.counts.quarantined, done_at=done_at)
        )
        put_result(connection, batch, result, done_at)
        orphans.forget(connection, batch.id)
        also(connection)


def put_result(connection: sa.Connection, batch: Batch, result: Result, done_at: str) -> None:
    """Writes a replay's batch and files, and what it changed in the counts of its objects."""
    connection.execute(sa.insert(BATCHES).values(_batch_row(batch, result, done_at)))
    for ref in result.outcomes:
        counts = vars(result.counts_of(ref))
        if any(counts.values()):
            objects.change(connection, [ref.key], {name: OBJECT_ROWS.c[name] + n for name, n in counts.items()})
    if result.files:
        connection.execute(sa.insert(FILES), [file_row(batch.id, file) for file in result.files])


def _batch_row(batch: Batch, result: Result, done_at: str) -> dict[str, Any]:
    return {
        "id": batch.id, "source": batch.source, "mapper_version": batch.mapper_version,
        "ocsf_version": batch.ocsf_version, "state": State.DONE, "attempts": 1, "objects": len(batch.members),
        "bytes_in": 0, "planned_at": done_at, "done_at": done_at, "reason": "replay of records in quarantine",
        **result.columns,
    }  # fmt: skip


# -- purges -----------------------------------------------------------------------------------------------------------
def quarantine_files(ledger: Ledger, table: str) -> list[tuple[str, str, str, str, int]]:
    """Path, source, batch, the time its batch was done and rows of each file of a table, by path."""
    query = (
        sa.select(FILES.c.path, BATCHES.c.source, FILES.c.batch_id, BATCHES.c.done_at, FILES.c.rows)
        .join(BATCHES, BATCHES.c.id == FILES.c.batch_id)
        .where(FILES.c.table_name == table)
        .order_by(FILES.c.path)
    )
    with ledger.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def plan_purge(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> None:
    """Notes files of quarantine before they are removed; what was noted of a file first stays."""
    with ledger.engine.begin() as connection:
        if rows:
            noted = [{**row, "purged_at": now()} for row in rows]
            connection.execute(insert(connection, PURGES).on_conflict_do_nothing(), noted)


def purged(ledger: Ledger, paths: Iterable[str]) -> None:
    """Forgets files that are gone."""
    with ledger.engine.begin() as connection:
        for path in paths:
            connection.execute(sa.delete(FILES).where(FILES.c.path == path))
