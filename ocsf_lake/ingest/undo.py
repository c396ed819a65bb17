"""What an attempt that did not end has left, taken out of the lake."""

from __future__ import annotations

from ocsf_lake.lake import Lake
from ocsf_lake.ledger import orphans, records, replays
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.leases import Lease
from ocsf_lake.ledger.ledger import Undo, planned_at


def batch(lake: Lake, batch_id: str, lease: Lease) -> Undo:
    """Gives what takes an open batch out of the lake, in the transaction that forgets it.

    Args:
        lake: The lake.
        batch_id: The batch.
        lease: What keeps others from it. Nobody can begin it once the transaction is open; who has begun it before
            keeps it.
    """

    def undo(connection: Connection) -> None:
        lease.check()
        records.forget(lake.store, batch_id, planned_at(connection, batch_id))
        for written_by in orphans.ids(connection, batch_id):
            lake.catalog.drop(written_by)
        lake.store.remove(orphans.left(connection, lake.store, batch_id))

    return undo


def unfinished_replays(lake: Lake, source: str, lease: Lease) -> None:
    """Takes a source's replays that were not finished out of the lake.

    Args:
        lake: The lake.
        source: The source.
        lease: On its quarantine.
    """
    for batch_id in replays.unfinished(lake.ledger, source):
        lake.ledger.plan([], instead_of=(batch_id, batch(lake, batch_id, lease)))
