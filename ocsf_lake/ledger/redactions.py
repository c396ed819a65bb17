"""What was hidden of a batch's records, and the policy that hid it."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.database import insert, upsert
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import Batch, Result
from ocsf_lake.ledger.tables import REDACTED, REDACTION_BATCHES, REDACTION_POLICIES


def note(connection: sa.Connection, batch: Batch, result: Result) -> None:
    """Notes a batch's policy and what it hid, inside the transaction that marks the batch done."""
    if result.redaction is None:
        return
    note_policy(connection, batch.id, *result.redaction)
    rows = [
        {"batch_id": batch.id, "rule": rule, "source": batch.source, "hidden": number}
        for rule, number in sorted(result.redacted.items())
    ]
    upsert(connection, REDACTED, ("batch_id", "rule"), rows)


def note_policy(connection: sa.Connection, batch_id: str, policy: str, text: str) -> None:
    """Notes the policy under which the rows of a batch were mapped."""
    row = {"id": policy, "text": text}
    connection.execute(insert(connection, REDACTION_POLICIES).on_conflict_do_nothing(), row)
    upsert(connection, REDACTION_BATCHES, ("batch_id",), [{"batch_id": batch_id, "policy": policy}])


def policy_of(ledger: Ledger, batch_id: str) -> str | None:
    """The text of the policy under which a batch was mapped; None where nothing was hidden."""
    query = (
        sa.select(REDACTION_POLICIES.c.text)
        .join(REDACTION_BATCHES, REDACTION_BATCHES.c.policy == REDACTION_POLICIES.c.id)
        .where(REDACTION_BATCHES.c.batch_id == batch_id)
    )
    with ledger.engine.connect() as connection:
        text: str | None = connection.scalar(query)
    return text
