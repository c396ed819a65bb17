"""Records that became no event, on their way into quarantine; what becomes of them there is in `upkeep.quarantine`."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs.definitions import OUTCOMES, OUTCOMES_SCHEMA, QUARANTINE, QUARANTINE_SCHEMA
from ocsf_lake.config import Settings
from ocsf_lake.inputs import discovery
from ocsf_lake.ledger.results import Batch
from ocsf_lake.storage import layout, parquet
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import FileInfo


def encoded(rejects: pa.Table, settings: Settings, batch: Batch, part: int) -> list[parquet.Encoded]:
    """The file of the rejects of one part of a batch, not written yet; no rejects, no file."""
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
    rows = pa.table(columns, schema=QUARANTINE_SCHEMA)
    path = f"{folder(batch)}/{layout.quarantine_file(batch.id, part)}"
    data = parquet.encode(rows, settings)
    partition = Partition(QUARANTINE, _values(batch))
    return [(FileInfo(path, partition, None, len(rows), data.size, parquet.checksum(data)), data)]


def folder(batch: Batch) -> str:
    """Where a batch's rejects go."""
    return definitions.folder(QUARANTINE, _values(batch))


def encoded_outcomes(
    rows: Sequence[tuple[object, ...]], settings: Settings, batch: Batch, part: int
) -> list[parquet.Encoded]:
    """The file with what a part of a replay made of entries, not written yet; no rows, no file.

    Args:
        rows: Object, ETag, record, tries, state and reason of each.
        settings: How files are written.
        batch: The replay.
        part: Number of the part.
    """
    if not rows:
        return []
    constant = (batch.id, batch.mapper_version, batch.ocsf_version)
    columns = zip(*(row + constant for row in rows), strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, OUTCOMES_SCHEMA, strict=True)]
    table = pa.table(arrays, schema=OUTCOMES_SCHEMA)
    path = f"{definitions.folder(OUTCOMES, (batch.source,))}/{layout.quarantine_file(batch.id, part)}"
    data = parquet.encode(table, settings)
    partition = Partition(OUTCOMES, (batch.source,))
    return [(FileInfo(path, partition, None, len(table), data.size, parquet.checksum(data)), data)]


def _values(batch: Batch) -> tuple[str, str]:
    return batch.source, batch_day(batch)


def batch_day(batch: Batch) -> str:
    """The latest day of delivery, `YYYYMMDD`, that the members' keys name: unlike the clock's it stays the same."""
    days = [day for ref in batch.members if (day := discovery.of_key(ref.uri).day)]
    return max(days, default=layout.UNKNOWN)
