"""Records that became no event: one table, `quarantine`, with the reason and the text of each."""

from __future__ import annotations

import pyarrow as pa

from lake import discovery, layout, writer
from lake.config import Settings
from lake.layout import Partition
from lake.ledger import Batch
from lake.store import Store
from lake.writer import FileInfo

TABLE, PREFIX = layout.QUARANTINE, layout.QUARANTINE_PREFIX
PARTITION_KEYS = ("source", "day")
SCHEMA = pa.schema(
    [
        pa.field("source_object", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_record", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.string()),
        pa.field("batch_id", pa.string()),
        pa.field("mapper_version", pa.string()),
        pa.field("ocsf_version", pa.string()),
    ]
)
"""Columns in the files; `source` and `day`, the batch's latest day of delivery, stand in the path."""



def write(rejects: pa.Table, store: Store, settings: Settings, batch: Batch, part: int) -> list[FileInfo]:
    """Writes the rejects of one part of a batch; no rejects, no file.

    Raises:
        WriteError: The lake refused.
    """
    if not len(rejects):
        return []
    constant = {
        "batch_id": batch.id,
        "mapper_version": batch.mapper_version,
        "ocsf_version": batch.ocsf_version,
    }
    columns = [
        pa.repeat(pa.scalar(constant[name]), len(rejects)) if name in constant else rejects[name]
        for name in SCHEMA.names
    ]
    rows = pa.table(columns, schema=SCHEMA)
    values = (batch.source, batch_day(batch))
    path = f"{layout.folder(PREFIX, PARTITION_KEYS, values)}/{layout.quarantine_file(batch.id, part)}"
    data = writer.encode(rows, settings)
    store.put(path, data)
    return [FileInfo(path, Partition(TABLE, values), None, len(rows), data.size, writer.checksum(data))]


def batch_day(batch: Batch) -> str:
    """The latest day of delivery, `YYYYMMDD`, that the members' keys name: unlike the clock's it stays the same."""
    days = [day for ref in batch.members if (day := discovery.of_key(ref.uri).day)]
    return max(days, default=layout.UNKNOWN)
