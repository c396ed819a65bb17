"""The tables of a lake as catalogs and queries know them: those of events, and the three beside them.

`quarantine` holds records that became no event, `quarantine_outcomes` what replays made of them, `duplicates` events
that the lake had already.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ocsf_lake.catalogs.base import Definition
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_mappers import registry, sqltext
from ocsf_mappers.ocsf import tables

QUARANTINE, OUTCOMES, DUPLICATES = layout.QUARANTINE, layout.OUTCOMES, layout.DUPLICATES

QUARANTINE_SCHEMA = pa.schema(
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

OUTCOMES_SCHEMA = pa.schema(
    [
        pa.field("source_object", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_record", pa.int64()),
        pa.field("tries", pa.int64()),
        pa.field("state", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("batch_id", pa.string()),
        pa.field("mapper_version", pa.string()),
        pa.field("ocsf_version", pa.string()),
    ]
)
"""What a replay (its `batch_id`) made of an entry: `closed`, or `open` with the reason; `source` stands in the path."""

DUPLICATES_SCHEMA = pa.schema(
    [
        pa.field("table_name", pa.string()),
        pa.field("key", pa.string()),
        pa.field("action", pa.string()),
        pa.field("source_object", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_record", pa.int64()),
        pa.field("of_object", pa.string()),
        pa.field("of_record", pa.int64()),
        pa.field("batch_id", pa.string()),
    ]
)
"""A record (`source_...`) that equals an earlier one (`of_...`): `marked` is in the lake too, `dropped` is not."""

PLACE = "source_object, source_etag, source_record"
QUARANTINE_VIEW = f"""
    SELECT entry.* REPLACE (
               coalesce(last.reason, entry.reason) AS reason,
               coalesce(last.mapper_version, entry.mapper_version) AS mapper_version,
               coalesce(last.ocsf_version, entry.ocsf_version) AS ocsf_version
           ),
           coalesce(last.state, 'open') AS state, coalesce(last.tries, 0) AS tries, last.batch_id AS replay_id
    FROM quarantine_entries AS entry LEFT JOIN (
        SELECT source, {PLACE}, max(tries) AS tries, arg_max(state, tries) AS state, arg_max(reason, tries) AS reason,
               arg_max(batch_id, tries) AS batch_id, arg_max(mapper_version, tries) AS mapper_version,
               arg_max(ocsf_version, tries) AS ocsf_version
        FROM {OUTCOMES} GROUP BY ALL
    ) AS last USING (source, {PLACE})
"""
"""SQL of the table `quarantine`: entries as they were written, with what the last replay made of them."""

BESIDE = {
    QUARANTINE: Definition(QUARANTINE, layout.QUARANTINE_PREFIX, QUARANTINE_SCHEMA, ("source", "day")),
    OUTCOMES: Definition(OUTCOMES, layout.OUTCOMES_PREFIX, OUTCOMES_SCHEMA, ("source",)),
    DUPLICATES: Definition(DUPLICATES, layout.DUPLICATES_PREFIX, DUPLICATES_SCHEMA, ("source",)),
}


NO_SOURCE = (
    "the lake has files of it, and no source that can be used has such a table (`ocsf-lake sources` names those that"
    " cannot): bring its source back, in the folder that the setting mappers names or as a package"
)
"""The message about a table that the lake has and no source."""


def names() -> list[str]:
    """The names of all tables."""
    return [*registry.tables(), *BESIDE]


def definition(table: str) -> Definition:
    """What a catalog has to know of one of the lake's tables."""
    if table in BESIDE:
        return BESIDE[table]
    lake_table = registry.table(table)
    return Definition(lake_table.name, lake_table.prefix, lake_table.arrow, tables.PARTITION_KEYS)


def folder(table: str, values: Sequence[str]) -> str:
    """The folder of one partition, below the lake's root."""
    table_definition = definition(table)
    return layout.folder(table_definition.prefix, table_definition.keys, values)


def partition_of(folder: str) -> Partition | None:
    """The partition whose folder this is, of whichever generation; None where it is no partition's."""
    path = folder.removeprefix(f"{layout.COMPACTED}/")
    for table in map(definition, names()):
        if path.startswith(f"{table.prefix}/"):
            steps = path.removeprefix(f"{table.prefix}/").split("/")[: len(table.keys)]
            values = [step.partition("=")[2] for step in steps]
            return Partition(table.name, tuple(values)) if len(values) == len(table.keys) and all(values) else None
    return None


def key_text(path: str) -> str:
    """The SQL of an OCSF path that is part of a duplicate key, as text."""
    return "(" + ".".join(sqltext.name(step) for step in path.split(".")) + ")::VARCHAR"


def duplicate_views(table: str, key: Sequence[str]) -> dict[str, str]:
    """Views over a table whose events have a key: name -> SQL.

    `<table>_unique` has one event a key, the first by object and record, whatever the policy; an event without a key
    stays. `<table>_repeated` lists the keys that stand more than once, with the places.
    """
    keys = [f"({key_text(part)})" for part in key]
    groups = ", ".join(["eventday", "region", "accountid", "class_uid", *keys])
    keyless = " OR ".join(f"{sql} IS NULL" for sql in keys)
    order = "source_object, source_etag, source_record"
    key_columns = ", ".join(f'{sql} AS "{part}"' for sql, part in zip(keys, key, strict=True))
    keyed = " AND ".join(f"{sql} IS NOT NULL" for sql in keys)
    name = sqltext.name(table)
    return {
        f"{table}_unique": f"SELECT * FROM {name} QUALIFY {keyless} OR "
        f"row_number() OVER (PARTITION BY {groups} ORDER BY {order}) = 1",
        f"{table}_repeated": f"SELECT eventday, region, accountid, class_uid, {key_columns}, count(*) AS events, "
        f"list({{'object': source_object, 'record': source_record}} ORDER BY {order}) AS places "
        f"FROM {name} WHERE {keyed} GROUP BY {groups} HAVING count(*) > 1",
    }
