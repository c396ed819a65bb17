"""What became of duplicates in each batch, and what a batch is compared with: events of batches that were done before.

See `ocsf_lake.ingest.duplicates`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from ocsf_lake.ledger import objects
from ocsf_lake.ledger.database import select_in, upsert
from ocsf_lake.ledger.files import VERSION
from ocsf_lake.ledger.results import Batch, Kind, Result, State
from ocsf_lake.ledger.tables import BATCHES, DUPLICATES, FILES, KEYS, OBJECTS, RETIRED
from ocsf_lake.storage.layout import Partition


class DuplicatePolicy(StrEnum):
    """What is done with a duplicate."""

    KEEP = "keep"
    MARK = "mark"
    DROP = "drop"


def note(connection: sa.Connection, batch: Batch, policy: DuplicatePolicy, result: Result, key: Sequence[str]) -> None:
    """Notes, in the transaction that ends a batch, which duplicates it had and the key of its events."""
    if policy is not DuplicatePolicy.KEEP:
        row = {
            "batch_id": batch.id, "source": batch.source, "policy": policy, "duplicates": result.duplicates,
            "variants": result.variants,
        }  # fmt: skip
        upsert(connection, DUPLICATES, ("batch_id",), [row])
    names = {file.partition.table for file in result.files if file.class_uid is not None}
    if key:
        rows = [{"table_name": name, "key": json.dumps(list(key))} for name in sorted(names)]
        upsert(connection, KEYS, ("table_name",), rows)


def policy_of(engine: sa.Engine, batch_id: str) -> DuplicatePolicy:
    """The policy that was in force when a batch was done."""
    with engine.connect() as connection:
        value = connection.scalar(sa.select(DUPLICATES.c.policy).where(DUPLICATES.c.batch_id == batch_id))
    return DuplicatePolicy(value or DuplicatePolicy.KEEP)


@dataclass(frozen=True)
class EarlierFile:
    """A file with events of batches that were finished before.

    Args:
        path: Below the lake's root.
        partition: Of a table.
        class_uid: Class of its events.
        version: What its columns go by.
        is_retired: Whether its rows are in a merged file by now; it may be gone.
        is_merged: Whether it is a merged file, which may have rows of later batches too.
    """

    path: str
    partition: Partition
    class_uid: int | None
    version: str
    is_retired: bool = False
    is_merged: bool = False


def earlier_files(
    engine: sa.Engine, batch_id: str, table: str, partitions: Iterable[Partition]
) -> list[EarlierFile]:  # fmt: skip
    """The files with events of batches that were finished before this one, in partitions of a table.

    A batch that is rebuilt to get a lost file back finds the same files as the first time.
    """
    partition_texts = ["/".join(partition.values) for partition in partitions]
    is_done = BATCHES.c.state == State.DONE
    merged = BATCHES.c.kind == Kind.MERGE
    earlier = []
    with engine.connect() as connection:
        first_done = connection.scalar(sa.select(BATCHES.c.done_at).where(BATCHES.c.id == batch_id, is_done))
        for files in (FILES, RETIRED):
            query = (
                sa.select(files.c.path, files.c.partition, files.c.class_uid, VERSION, merged)
                .join(BATCHES, BATCHES.c.id == files.c.batch_id)
                .where(files.c.table_name == table, is_done)
            )
            if files is RETIRED:
                # What was copied is among the files under its new name.
                query = query.where(RETIRED.c.merge_id.is_not(None), ~merged)
            if first_done is not None:
                query = query.where(merged | (BATCHES.c.done_at < first_done))
            rows = select_in(connection, query, files.c.partition, partition_texts)
            for path, values, class_uid, version, is_merged in rows:
                partition = Partition(table, tuple(values.split("/")))
                again = bool(is_merged) and first_done is not None
                earlier.append(EarlierFile(path, partition, class_uid, version, files is RETIRED, again))
            if first_done is None:
                break  # all that was retired is in a merged file
    return earlier


def earlier_objects(engine: sa.Engine, batch_id: str, keys: Sequence[objects.Key]) -> list[objects.Key]:
    """Those of some objects that a batch read which was finished before this one."""
    first_done = sa.select(BATCHES.c.done_at).where(BATCHES.c.id == batch_id).scalar_subquery()
    query = (
        sa.select(OBJECTS.c.uri, OBJECTS.c.etag)
        .join(BATCHES, BATCHES.c.id == OBJECTS.c.batch_id)
        .where(BATCHES.c.done_at < first_done)
    )
    key_set = set(keys)
    with engine.connect() as connection:
        rows = objects.select(connection, query, sorted({uri for uri, _ in keys}))
        return [(uri, etag) for uri, etag in rows if (uri, etag) in key_set]
