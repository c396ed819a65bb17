"""What was hidden of a batch's records, and the policy that hid it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from ocsf_lake.ledger.database import insert_new, select_in, upsert
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import Batch, Result
from ocsf_lake.ledger.tables import FILES, REDACTED, REDACTION_BATCHES, REDACTION_POLICIES


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
    insert_new(connection, REDACTION_POLICIES, [{"id": policy, "text": text}])
    upsert(connection, REDACTION_BATCHES, ("batch_id",), [{"batch_id": batch_id, "policy": policy}])


def note_remap(ledger: Ledger, merge_ids: Sequence[str], policy: str, text: str) -> None:
    """Notes the policy under which rows are about to be mapped once more; again is a no-op."""
    with ledger.engine.begin() as connection:
        for merge_id in merge_ids:
            note_policy(connection, merge_id, policy, text)


def policies_of_files(ledger: Ledger, paths: Sequence[str]) -> set[str | None]:
    """Ids of the policies under which the rows of files were mapped; None for those without."""
    query = sa.select(REDACTION_BATCHES.c.policy).select_from(
        FILES.outerjoin(REDACTION_BATCHES, REDACTION_BATCHES.c.batch_id == FILES.c.batch_id)
    )
    with ledger.engine.connect() as connection:
        return {policy for (policy,) in select_in(connection, query, FILES.c.path, paths)}


def of_merges(
    connection: sa.Connection, merges: Mapping[str, Iterable[str]]
) -> dict[str, list[dict[str, str]]]:
    """Table -> rows with the policies of merges: the one that is noted, else that of all batches whose rows it has.

    Args:
        connection: The ledger.
        merges: Id of each merge -> the batches whose rows it has as they were.
    """
    batches = sorted({*merges, *(batch for inputs in merges.values() for batch in inputs)})
    query = sa.select(REDACTION_BATCHES.c.batch_id, REDACTION_BATCHES.c.policy)
    policies = dict(map(tuple, select_in(connection, query, REDACTION_BATCHES.c.batch_id, batches)))
    rows = []
    for merge_id, inputs in merges.items():
        of_inputs = {policies.get(batch) for batch in inputs}
        policy = policies.get(merge_id) or (of_inputs.pop() if len(of_inputs) == 1 else None)
        rows += [{"batch_id": merge_id, "policy": policy}] if policy else []
    texts = select_in(
        connection, sa.select(REDACTION_POLICIES), REDACTION_POLICIES.c.id, sorted({row["policy"] for row in rows})
    )
    return {
        REDACTION_BATCHES.name: rows, REDACTION_POLICIES.name: [dict(row._mapping) for row in texts]
    } if rows else {}  # fmt: skip


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
