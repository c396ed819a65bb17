"""Which batch has the objects in which records of another source stand, see `ocsf_lake.ingest.routed`."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from ocsf_lake.ledger.database import insert_new
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import BATCHES, ROUTED


def note(engine: sa.Engine, of_batch: str, batch_id: str) -> None:
    """Notes whose records a batch has."""
    with engine.begin() as connection:
        insert_new(connection, ROUTED, [{"batch_id": batch_id, "of_batch": of_batch}])


def restore(connection: sa.Connection, of_batch: str, batch_id: str) -> None:
    """Notes the same in a ledger that is made anew, which knows nothing of the batch yet."""
    connection.execute(sa.insert(ROUTED), {"batch_id": batch_id, "of_batch": of_batch})


def keep(connection: sa.Connection, of_batch: str, batch_ids: Collection[str]) -> None:
    """Forgets what was noted of other batches than these."""
    connection.execute(sa.delete(ROUTED).where(ROUTED.c.of_batch == of_batch, ROUTED.c.batch_id.not_in(batch_ids)))


def open_ids(connection: sa.Connection) -> set[str]:
    """Batches that are not done, and those of records of other sources in their objects."""
    ids = set(connection.scalars(sa.select(BATCHES.c.id).where(BATCHES.c.state != State.DONE)))
    return ids | set(connection.scalars(sa.select(ROUTED.c.batch_id).where(ROUTED.c.of_batch.in_(ids))))


def of(engine: sa.Engine, batch_id: str) -> str | None:
    """The batch in whose objects the records of a batch stand; None when it has objects of its own."""
    with engine.connect() as connection:
        of_batch: str | None = connection.scalar(sa.select(ROUTED.c.of_batch).where(ROUTED.c.batch_id == batch_id))
    return of_batch
