"""Records that became no event, on their way into quarantine; what becomes of them there is in `upkeep.quarantine`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ocsf_lake.catalogs.definitions import OUTCOMES, OUTCOMES_SCHEMA, QUARANTINE, QUARANTINE_SCHEMA
from ocsf_lake.inputs import discovery
from ocsf_lake.ledger.results import Batch
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import Slice


def slices(rejects: pa.Table, batch: Batch) -> list[Slice]:
    """Rejects of a batch as quarantine has them; none, no slice."""
    if not len(rejects):
        return []
    constant = {
        "batch_id": batch.id,
        "mapper_version": batch.mapper_version,
        "ocsf_version": batch.ocsf_version,
    }
    columns = [
        pa.repeat(pa.scalar(constant[name]), len(rejects)) if name in constant else rejects[name]
        for name in QUARANTINE_SCHEMA.names
    ]
    return [(Partition(QUARANTINE, _values(batch)), None, pa.table(columns, schema=QUARANTINE_SCHEMA))]


def outcomes(rows: Sequence[tuple[object, ...]], batch: Batch) -> list[Slice]:
    """What a replay made of entries; no rows, no slice.

    Args:
        rows: Object, ETag, record, tries, state and reason of each.
        batch: The replay.
    """
    if not rows:
        return []
    constant = (batch.id, batch.mapper_version, batch.ocsf_version)
    columns = zip(*(row + constant for row in rows), strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, OUTCOMES_SCHEMA, strict=True)]
    return [(Partition(OUTCOMES, (batch.source,)), None, pa.table(arrays, schema=OUTCOMES_SCHEMA))]


def _values(batch: Batch) -> tuple[str, str]:
    return batch.source, batch_day(batch)


def batch_day(batch: Batch) -> str:
    """The latest day of delivery, `YYYYMMDD`, that the members' keys name: unlike the clock's it stays the same."""
    days = [day for ref in batch.members if (day := discovery.of_key(ref.uri).day)]
    return max(days, default=layout.UNKNOWN)
