"""Batches of records that stand among those of another source, see `ocsf_lake.ingest.routing`.

Such a batch has no objects of its own: its records are read with those of the batch in whose objects they stand, and
both are done in one transaction. Its id holds the fingerprint of its mapper, so that after a change of that mapper its
files have other names. Files, counts, loss meter and quarantine are those of its own source.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import sqlalchemy as sa

from ocsf_lake.ingest import duplicates
from ocsf_lake.inputs import discovery
from ocsf_lake.ledger import chain, meter, redactions
from ocsf_lake.ledger.database import insert_new
from ocsf_lake.ledger.ledger import Ledger, put_done
from ocsf_lake.ledger.records import Facts
from ocsf_lake.ledger.results import ID_DIGITS, Batch, Kind, Result
from ocsf_lake.ledger.tables import ROUTED
from ocsf_mappers import Engine


def batch(of: Batch, engine: Engine) -> Batch:
    """The batch of records of another source in the objects of a batch; its members are that one's."""
    text = json.dumps(["routed", of.id, engine.fingerprint])
    number = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
    return Batch(number, engine.mapper.name, engine.fingerprint, engine.version, of.members, kind=Kind.ROUTED)


def note(ledger: Ledger, of: Batch, routed: Batch) -> None:
    """Notes whose records a batch has, before anything of it is written."""
    with ledger.engine.begin() as connection:
        insert_new(connection, ROUTED, [{"batch_id": routed.id, "of_batch": of.id}])


def record(connection: sa.Connection, of: Batch, result: Result, facts: Facts) -> None:
    """Writes what became of records of other sources, inside the transaction that marks a batch done."""
    written = [routed.id for routed, _ in result.routed]
    stale = (ROUTED.c.of_batch == of.id) & ROUTED.c.batch_id.not_in(written)
    connection.execute(sa.delete(ROUTED).where(stale))
    for routed, routed_result in result.routed:
        put(connection, of, routed, routed_result, facts.done_at)
        policy, key = facts.routed[routed.source]
        duplicates.note(connection, routed, duplicates.Policy(policy), routed_result, key)
    for routed, routed_result in result.routed:
        chain.record_batch(connection, routed, routed_result)


def put(connection: sa.Connection, of: Batch, routed: Batch, result: Result, at: str) -> None:
    """Writes a batch of records of another source as done, with its files, and adds it to the loss meter."""
    result.news.update(meter.record(connection, routed, result, discovery.day_of, at))
    redactions.note(connection, routed, result)
    put_done(connection, replace(routed, attempts=of.attempts), result, at)


def containing_batch(ledger: Ledger, batch_id: str) -> str | None:
    """The batch in whose objects the records of a batch stand; None when it has objects of its own."""
    with ledger.engine.connect() as connection:
        of_batch: str | None = connection.scalar(sa.select(ROUTED.c.of_batch).where(ROUTED.c.batch_id == batch_id))
    return of_batch
