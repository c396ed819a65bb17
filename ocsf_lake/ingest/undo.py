"""What an attempt that did not end has left, taken out of the lake."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.lake import Lake
from ocsf_lake.ledger import orphans, records, replays
from ocsf_lake.ledger.ledger import Undo
from ocsf_lake.ledger.tables import BATCHES


def batch(lake: Lake, batch_id: str) -> Undo:
    """Gives what takes an open batch out of the lake, in the transaction that forgets it."""

    def undo(connection: sa.Connection) -> None:
        planned_at = connection.scalar(sa.select(BATCHES.c.planned_at).where(BATCHES.c.id == batch_id)) or ""
        records.forget(lake.store, batch_id, planned_at)
        for written_by in orphans.ids(connection, batch_id):
            lake.catalog.drop(written_by)
        lake.store.remove(orphans.left(connection, lake.store, batch_id))

    return undo


def unfinished_replays(lake: Lake, source: str) -> None:
    """Takes a source's replays that were not finished out of the lake; who calls this holds its quarantine."""
    for batch_id in replays.unfinished(lake.ledger, source):
        lake.ledger.plan([], instead_of=(batch_id, batch(lake, batch_id)))
