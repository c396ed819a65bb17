"""Tables of batches: the files of each, where unfinished ones may have left some, and what is unlike the others."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA, Bytes, columns_of_a_file

BATCHES = sa.Table(
    "batches",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("mapper_version", sa.Text, nullable=False),
    sa.Column("ocsf_version", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, default="ingest"),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("objects", sa.BigInteger, nullable=False),
    sa.Column("bytes_in", sa.BigInteger, nullable=False),
    sa.Column("read", sa.BigInteger, nullable=False, default=0),
    sa.Column("events", sa.BigInteger, nullable=False, default=0),
    sa.Column("quarantined", sa.BigInteger, nullable=False, default=0),
    sa.Column("dropped", sa.BigInteger, nullable=False, default=0),
    sa.Column("events_by_class", sa.Text, nullable=False, default="{}"),
    sa.Column("dropped_reasons", sa.Text, nullable=False, default="{}"),
    sa.Column("failed_casts", sa.Text, nullable=False, default="{}"),
    sa.Column("unmapped_keys", sa.Text, nullable=False, default="{}"),
    sa.Column("bytes_out", sa.BigInteger, nullable=False, default=0),
    sa.Column("seconds", sa.Float, nullable=False, default=0.0),
    sa.Column("planned_at", sa.Text, nullable=False),
    sa.Column("begun_at", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("done_at", sa.Text),
    sa.Column("reason", sa.Text),
)
FILES = sa.Table(
    "files",
    METADATA,
    *columns_of_a_file(),
    sa.Index("files_of_partition", "table_name", "partition"),
)
"""The files that finished batches wrote: what queries of the lake read."""
ORPHANS = sa.Table(
    "traces",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, primary_key=True),
)
"""Folders in which a batch that is not done may have left files; the empty one is the whole lake."""
WRITTEN = sa.Table(
    "written_batches",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("record", Bytes, nullable=False),
    info={"since": "abandoned batches"},
)
"""Batches that are not done, and all of whose files were written: the record that each gets in the lake."""
ROUTED = sa.Table(
    "routed",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("of_batch", sa.Text, nullable=False, index=True),
)
"""Batches of records that stood among those of another source: each, and the batch in whose objects they stand. Until
that one is done they have no row of their own."""
DUPLICATES = sa.Table(
    "duplicates",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("variants", sa.BigInteger, nullable=False),
)
"""Of batches that looked for them: events that the lake had already, and events with a key it had and other content."""
KEYS = sa.Table(
    "duplicate_keys",
    METADATA,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
)
"""OCSF paths, as JSON, that identify the events of a table."""
PURGES = sa.Table(
    "purges",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False),
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("open", sa.BigInteger, nullable=False),
    sa.Column("purged_at", sa.Text, nullable=False),
)
"""Files of quarantine that were removed on demand, with the number of entries in them and of those that were open."""
