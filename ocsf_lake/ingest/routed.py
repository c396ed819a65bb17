"""Batches of records that stand among those of another source, see `ocsf_lake.ingest.routing`.

Such a batch has no objects of its own: its records are read with those of the batch in whose objects they stand, and
both are done in one transaction. Its id holds the fingerprint of its mapper, so that after a change of that mapper its
files have other names. Files, counts, mapping coverage and quarantine are those of its own source.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from ocsf_lake.inputs import discovery
from ocsf_lake.ledger import chain, containers, duplicated, mapping_coverage, redactions
from ocsf_lake.ledger.database import Connection
from ocsf_lake.ledger.ledger import put_done
from ocsf_lake.ledger.records import Facts
from ocsf_lake.ledger.results import ID_DIGITS, Batch, Kind, Result
from ocsf_mappers import Engine


def batch(of: Batch, engine: Engine) -> Batch:
    """The batch of records of another source in the objects of a batch; its members are that one's."""
    text = json.dumps(["routed", of.id, engine.fingerprint])
    number = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
    return Batch(number, engine.mapper.name, engine.fingerprint, engine.version, of.members, kind=Kind.ROUTED)


def record(connection: Connection, of: Batch, result: Result, facts: Facts) -> None:
    """Writes what became of records of other sources, inside the transaction that marks a batch done."""
    containers.keep(connection, of.id, [one.id for one, _ in result.routed])
    for one, one_result in result.routed:
        put(connection, of, one, one_result, facts.done_at)
        policy, key = facts.routed[one.source]
        duplicated.note(connection, one, duplicated.DuplicatePolicy(policy), one_result, key)
    for one, one_result in result.routed:
        chain.record_batch(connection, one, one_result)


def put(connection: Connection, of: Batch, one: Batch, result: Result, at: str) -> None:
    """Writes a batch of records of another source as done, with its files, and adds it to mapping coverage."""
    result.drift.update(mapping_coverage.record(connection, one, result, discovery.day_of, at))
    redactions.note(connection, one, result)
    put_done(connection, replace(one, attempts=of.attempts), result, at)
