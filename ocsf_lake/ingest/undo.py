"""What an attempt that did not end has left, taken out of the lake."""

from __future__ import annotations

from ocsf_lake.lake import Lake
from ocsf_lake.ledger import orphans, records, replays
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.ledger import Undo, planned_at


def batch(lake: Lake, batch_id: str) -> Undo:
    """Gives what takes an open batch out of the lake, in the transaction that forgets it."""

    def undo(connection: Connection) -> None:
        records.forget(lake.store, batch_id, planned_at(connection, batch_id))
        for written_by in orphans.ids(connection, batch_id):
            lake.catalog.drop(written_by)
        lake.store.remove(orphans.left(connection, lake.store, batch_id))

    return undo


def unfinished_replays(lake: Lake, source: str) -> None:
    """Takes a source's replays that were not finished out of the lake; who calls this holds its quarantine."""
    for batch_id in replays.unfinished(lake.ledger, source):
        lake.ledger.plan([], instead_of=(batch_id, batch(lake, batch_id)))
