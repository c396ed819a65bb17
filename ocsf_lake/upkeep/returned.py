"""Files that were written off as lost and are there again: the lake takes them back."""

from __future__ import annotations

from contextlib import ExitStack

from ocsf_lake.catalogs.definitions import BESIDE
from ocsf_lake.ingest import moving
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import generations, written_off
from ocsf_lake.upkeep import compact


def take_back(lake: Lake, table: str, path: str) -> str | None:
    """Gives the lake such a file back; gives the reason where that cannot be done.

    Where its partition has moved meanwhile, the file moves there too. Catalogs have to be repaired after it.

    Args:
        lake: The lake.
        table: Its table.
        path: The file, which is as it was.

    Raises:
        WriteError: The lake or the ledger refused; running again continues.
        RetriableError: A store, catalog or database does not answer.
    """
    with ExitStack() as stack:
        if (lease := stack.enter_context(lake.leases.held(moving.lease(table)))) is None:
            return moving.BUSY
        if (file := written_off.file(lake.ledger.engine, path)) is None:
            return "another run has taken it back meanwhile"
        new_path = path
        if table not in BESIDE:
            compact.settle_open(lake, table, lease)
            folder = generations.folders(lake.ledger.engine, [file.partition])[file.partition]
            new_path = f"{folder}/{path.rpartition('/')[2]}"
        if new_path != path:
            lake.store.copy(path, new_path)
        written_off.take_back(lake.ledger.engine, lake.store, path, new_path)
        if new_path != path:
            lake.store.remove([path])
        lake.publish_chain()
    return None
