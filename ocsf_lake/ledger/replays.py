"""What the ledger knows of quarantine's later life: replays (`ocsf_lake.upkeep.replay`), and files purged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger import chain, holds, records, versions
from ocsf_lake.ledger.database import insert_new
from ocsf_lake.ledger.holds import Hold
from ocsf_lake.ledger.leases import Lease, Leases
from ocsf_lake.ledger.ledger import Ledger, now
from ocsf_lake.ledger.results import ID_DIGITS, Kind, State
from ocsf_lake.ledger.tables import BATCHES, FILES, PURGES
from ocsf_lake.storage.s3 import Version
from ocsf_lake.storage.store import Store


def held(leases: Leases, source: str) -> AbstractContextManager[Lease | None]:
    """Holds a source's quarantine for one worker, which replays or purges it; gives None when another one holds it."""
    return leases.held(hashlib.sha256(f"replay of {source}".encode()).hexdigest()[:ID_DIGITS])


def unfinished(ledger: Ledger, source: str) -> list[str]:
    """Ids of a source's replays that were begun and not finished."""
    row = BATCHES.c
    query = sa.select(row.id).where(row.source == source, row.kind == Kind.REPLAY, row.state != State.DONE)
    with ledger.engine.connect() as connection:
        return sorted(connection.scalars(query))


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


def plan_purge(
    ledger: Ledger, rows: Sequence[Mapping[str, Any]], is_kept: Callable[[Sequence[Hold], str], bool]
) -> list[str]:  # fmt: skip
    """Notes files of quarantine before they are removed; what was noted of a file first stays.

    Args:
        ledger: The ledger.
        rows: The files.
        is_kept: Whether one of these holds keeps a source's quarantine.

    Returns:
        Paths of those that no hold keeps.
    """
    with ledger.engine.begin() as connection:
        standing = holds.keep(connection)
        noted = [{**row, "purged_at": now()} for row in rows if not is_kept(standing, row["source"])]
        insert_new(connection, PURGES, noted)
    return [row["path"] for row in noted]


def begun_purges(ledger: Ledger) -> list[dict[str, Any]]:
    """Files that were noted for a purge and that the ledger still has: who purged them died, or a hold keeps them."""
    query = sa.select(*(column for column in PURGES.c if column.name != "purged_at")).join(
        FILES, FILES.c.path == PURGES.c.path
    )
    with ledger.engine.connect() as connection:
        return [dict(row) for row in connection.execute(query.order_by(PURGES.c.path)).mappings()]


def write_purge(ledger: Ledger, store: Store, paths: Sequence[str]) -> chain.Beside:
    """Writes into the lake that files which were noted go; gives the record's entry for the chain.

    Raises:
        WriteError: The lake refused.
        RetriableError: The store or the database does not answer.
    """
    noted = sa.select(PURGES).where(PURGES.c.path.in_(paths))
    return records.write_rows(store, ledger.engine, "purge", [noted], paths)


Remove = Callable[[Sequence[str]], Mapping[str, Sequence[Version]]]
"""Removes files from the store; gives their versions that stay behind a marker."""


def purged(
    ledger: Ledger, rows: Sequence[Mapping[str, Any]], is_kept: Callable[[Sequence[Hold], str], bool],
    remove: Remove, record: chain.Beside, lock_days: int,
) -> list[str]:  # fmt: skip
    """Removes files that were noted, and forgets them; until that is done no hold is placed.

    Args:
        ledger: The ledger.
        rows: The files.
        is_kept: Whether one of these holds, which may have been placed since, keeps a source's quarantine.
        remove: Called with the paths.
        record: The chain's entry for the record in the lake.
        lock_days: How long files are locked.

    Returns:
        Paths of those that no hold keeps.
    """
    with ledger.engine.begin() as connection:
        standing = holds.keep(connection)
        free = [row["path"] for row in rows if not is_kept(standing, row["source"])]
        gone = chain.listed(connection, free)
        hidden = remove(free)
        for file in gone:
            connection.execute(sa.delete(FILES).where(FILES.c.path == file.path))
        if gone:
            versions.note(connection, versions.PURGED, hidden, lock_days, now())
            detail = {"beside": [record], "versions": versions.ids(hidden)}
            chain.append(connection, kind="purge", removed=gone, detail=detail)
    return free
