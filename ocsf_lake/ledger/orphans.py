"""Where batches and replays that are not done may have left files: so nobody has to list the lake to find them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from ocsf_lake.ledger.database import insert_new
from ocsf_lake.ledger.tables import ORPHANS, ROUTED, WRITTEN
from ocsf_lake.storage import layout
from ocsf_lake.storage.store import Store


class Orphans:
    """What one attempt at a batch leaves.

    Args:
        engine: The ledger's database.
        batch_id: The batch or replay.
    """

    def __init__(self, engine: sa.Engine, batch_id: str) -> None:
        self.engine = engine
        self.batch_id = batch_id
        self._noted: set[str] = set()

    def note(self, folders: Iterable[str]) -> None:
        """Notes where files will be written, before they are."""
        if new := sorted(set(folders) - self._noted):
            with self.engine.begin() as connection:
                self.note_in(connection, self.batch_id, new)
            self._noted.update(new)

    @staticmethod
    def note_in(connection: sa.Connection, batch_id: str, folders: Iterable[str]) -> None:
        """Notes, in a transaction, in which folders files of a batch are."""
        insert_new(connection, ORPHANS, [{"batch_id": batch_id, "folder": folder} for folder in folders])


def ids(connection: sa.Connection, batch_id: str) -> list[str]:
    """A batch, and those of the records of other sources among its own."""
    return [batch_id, *connection.scalars(sa.select(ROUTED.c.batch_id).where(ROUTED.c.of_batch == batch_id))]


def folders(connection: sa.Connection, batch_id: str) -> list[str]:
    """Folders that a batch's attempts so far may have written into."""
    of_batch = ORPHANS.c.batch_id.in_(ids(connection, batch_id))
    query = sa.select(ORPHANS.c.folder).where(of_batch).distinct().order_by(ORPHANS.c.folder)
    return list(connection.scalars(query))


def own_folders(connection: sa.Connection, batch_id: str) -> list[str]:
    """The same, without those of records of other sources."""
    return list(connection.scalars(sa.select(ORPHANS.c.folder).where(ORPHANS.c.batch_id == batch_id)))


def all_folders(connection: sa.Connection) -> set[tuple[str, str]]:
    """Every batch with a folder that it may have left files in."""
    return {(batch_id, folder) for batch_id, folder in connection.execute(sa.select(ORPHANS))}


def left(connection: sa.Connection, store: Store, batch_id: str) -> list[str]:
    """Names of a batch's files where its attempts so far may have left some, finished or half written."""
    written_by = ids(connection, batch_id)
    names = {name for folder in folders(connection, batch_id) for name in store.sizes(folder)}
    ours = {name for name in names if layout.batch_of(name) in written_by}
    return sorted(name for name in ours if not name.startswith(f"{layout.FOREIGN}/"))


def cleaned(connection: sa.Connection, batch_ids: Collection[str]) -> None:
    """Notes that nothing is left of batches that are done, or forgotten."""
    connection.execute(sa.delete(ORPHANS).where(ORPHANS.c.batch_id.in_(batch_ids)))


def forget(connection: sa.Connection, batch_id: str) -> None:
    """In the transaction that ends a batch, or takes it back: nothing is left that is not registered."""
    connection.execute(sa.delete(ORPHANS).where(ORPHANS.c.batch_id.in_(ids(connection, batch_id))))
    connection.execute(sa.delete(WRITTEN).where(WRITTEN.c.batch_id == batch_id))
