"""Records that became no event: one table, `quarantine`, with the reason and the text of each."""

from __future__ import annotations

from dataclasses import dataclass, fields

import duckdb
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



@dataclass(frozen=True)
class Group:
    """Rejects of one object for one reason.

    Args:
        source: Name of the source.
        reason: Why they became no event.
        source_object: URI of the object.
        records: How many there are.
        first_record: Number of the first one in the object.
        example: Its text.
    """

    source: str
    reason: str
    source_object: str
    records: int
    first_record: int
    example: str


@dataclass(frozen=True)
class Reject:
    """One record that became no event.

    Args:
        source: Name of the source.
        source_object: URI of the object.
        source_etag: Its ETag.
        source_record: Number of the record in the object.
        reason: Why it became no event.
        raw: Its text, at most a megabyte.
        batch_id: Batch it was read in.
        mapper_version: Mapper that refused it.
        ocsf_version: OCSF version it was mapped to.
    """

    source: str
    source_object: str
    source_etag: str
    source_record: int
    reason: str
    raw: str
    batch_id: str
    mapper_version: str
    ocsf_version: str


def listed(connection: duckdb.DuckDBPyConnection, source: str | None = None) -> list[Group]:
    """Rejects grouped by source, reason and object, the largest group first.

    Args:
        connection: A lake, see `lake.query.connect`.
        source: Only of this source.
    """
    return [
        Group(*row)
        for row in connection.execute(
            "SELECT source, reason, source_object, count(*) AS records, min(source_record), "
            "arg_min(raw, source_record) FROM quarantine WHERE $source IS NULL OR source = $source "
            "GROUP BY ALL ORDER BY records DESC, source, reason, source_object",
            {"source": source},
        ).fetchall()
    ]


def shown(
    connection: duckdb.DuckDBPyConnection,
    source: str | None = None,
    source_object: str | None = None,
    reason: str | None = None,
    limit: int = 100,
) -> list[Reject]:
    """Rejects themselves, by object and record.

    Args:
        connection: A lake, see `lake.query.connect`.
        source: Only of this source.
        source_object: Only of this object.
        reason: Only with this reason.
        limit: Not more than this many.
    """
    names = ", ".join(field.name for field in fields(Reject))
    return [
        Reject(*row)
        for row in connection.execute(
            f"SELECT {names} FROM quarantine WHERE ($source IS NULL OR source = $source) "
            "AND ($object IS NULL OR source_object = $object) AND ($reason IS NULL OR reason = $reason) "
            "ORDER BY source, source_object, source_record LIMIT $limit",
            {"source": source, "object": source_object, "reason": reason, "limit": limit},
        ).fetchall()
    ]


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
