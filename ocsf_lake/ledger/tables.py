"""The ledger's tables, and how they became what they are."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
_NOT_DONE = sa.text("state <> 'done'")

BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text in the order of its bytes, whatever the database's locale."""


class _Bytes(sa.LargeBinary):
    """Bytes as both drivers take them."""

    def bind_processor(self, dialect: sa.Dialect) -> None:
        """Nothing is done to them: SQLAlchemy's way takes longer than the database."""


NAMES = sa.Table(
    "names",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", BYTEWISE, nullable=False, unique=True),
)
"""Texts that many objects share, each once: beginnings of URIs, ids of batches, sources."""
OBJECT_ROWS = sa.Table(
    "object_rows",
    METADATA,
    sa.Column("beginning", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("source", sa.Integer),
    sa.Column("batch", sa.Integer, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("read", sa.BigInteger, nullable=False, default=0),
    sa.Column("events", sa.BigInteger, nullable=False, default=0),
    sa.Column("quarantined", sa.BigInteger, nullable=False, default=0),
    sa.Column("dropped", sa.BigInteger, nullable=False, default=0),
    sa.Column("rest", BYTEWISE, primary_key=True),
    sa.Column("etag", _Bytes, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("stamp", sa.Text, nullable=False, default=""),
    sa.Column("reason", sa.Text),
    sa.Column("tried_at", sa.Text),
    sa.Column("tried_with", sa.Text),
    sa.Index("object_rows_not_done", "state", sqlite_where=_NOT_DONE, postgresql_where=_NOT_DONE),
)
"""Objects as they are stored, the concern of `ocsf_lake.ledger.objects` alone: beginning, source and batch are ids in
`NAMES`, a URI is its beginning and its rest, an ETag is bytes."""
OBJECT_ROWS.add_is_dependent_on(NAMES)

def _of_objects() -> list[sa.Column[Any]]:
    return [
        sa.Column("uri", sa.Text, primary_key=True),
        sa.Column("etag", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("stamp", sa.Text, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("batch_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("read", sa.BigInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("quarantined", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("tried_at", sa.Text),
        sa.Column("tried_with", sa.Text),
    ]


OBJECTS = sa.Table(
    "objects", sa.MetaData(), *_of_objects(), sa.Column("beginning", sa.Integer), sa.Column("rest", sa.Text)
)
"""Objects as they are read: a view. Those of some URIs are found by `ocsf_lake.ledger.objects.select`, which knows the
index; a condition on the URI looks through all.

Of an object that fails: how often it was tried, when last, and with which mapper and program; without those the failure
is one of the store, and may pass."""
NOT_DONE = OBJECTS.c.state != sa.literal_column("'done'")
"""Spelt out, not as a parameter: so the index of objects that are not done is found."""

_ETAGS = {
    "sqlite": "CASE substr(o.etag, 1, 1) WHEN x'01' THEN lower(hex(substr(o.etag, 2))) "
    "ELSE CAST(substr(o.etag, 2) AS TEXT) END",
    "postgresql": "CASE get_byte(o.etag, 0) WHEN 1 THEN encode(substr(o.etag, 2), 'hex') "
    "ELSE convert_from(substr(o.etag, 2), 'UTF8') END",
}
"""See `ocsf_lake.ledger.objects.packed`."""
for _dialect, _etag in _ETAGS.items():
    # Outer joins: a database leaves out those of which a query has no column.
    _view = sa.DDL(  # type: ignore[no-untyped-call]
        f"CREATE VIEW objects AS SELECT b.name || o.rest AS uri, {_etag} AS etag, o.size, o.stamp, s.name AS source, "
        "i.name AS batch_id, o.state, o.read, o.events, o.quarantined, o.dropped, o.reason, o.attempts, o.tried_at, "
        "o.tried_with, o.beginning, o.rest FROM object_rows o LEFT JOIN names b ON b.id = o.beginning "
        "LEFT JOIN names s ON s.id = o.source LEFT JOIN names i ON i.id = o.batch"
    )
    sa.event.listen(OBJECT_ROWS, "after_create", _view.execute_if(dialect=_dialect))
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
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Text, nullable=False, index=True),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("partition", sa.Text, nullable=False),
    sa.Column("class_uid", sa.Integer),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Index("files_of_partition", "table_name", "partition"),
)
"""The files that finished batches wrote: what queries of the lake read."""
METER = sa.Table(
    "meter",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False, index=True),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("quarantined", sa.BigInteger, nullable=False),
    sa.Column("dropped", sa.BigInteger, nullable=False),
    sa.Column("members_mapped", sa.BigInteger, nullable=False),
    sa.Column("members_unmapped", sa.BigInteger, nullable=False),
    sa.Column("failed_casts", sa.BigInteger, nullable=False),
    sa.Column("news", sa.BigInteger, nullable=False),
)
"""What became of records and their members, by batch and day."""
MEMBERS = sa.Table(
    "members",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("mapped", sa.BigInteger, nullable=False),
    sa.Column("unmapped", sa.BigInteger, nullable=False),
)
"""Records with a value in a source's member, by day: carried by an attribute, and left over in `unmapped`."""
FAILED_CASTS = sa.Table(
    "failed_casts",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("attribute", sa.Text, primary_key=True),
    sa.Column("events", sa.BigInteger, nullable=False),
)
"""Events in which an attribute's text could not be read as its type, by day."""
NEWS = sa.Table(
    "news",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, primary_key=True),
    sa.Column("first_day", sa.Text, nullable=False),
    sa.Column("first_object", sa.Text, nullable=False),
    sa.Column("first_record", sa.BigInteger, nullable=False),
    sa.Column("first_batch", sa.Text, nullable=False),
    sa.Column("noticed_at", sa.Text, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False),
)
"""What no release knows, and where it was met first; see `ocsf_mappers.compiler.statistics.DriftKind` for the kinds."""
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
REDACTION_POLICIES = sa.Table(
    "redaction_policies",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
)
"""What was to be hidden of logs, as JSON; of keys it has the ids."""
REDACTION_BATCHES = sa.Table(
    "redaction_batches",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("policy", sa.Text, nullable=False, index=True),
)
"""The policy under which a batch was mapped. Without a row, nothing was hidden."""
REDACTED = sa.Table(
    "redacted",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False, index=True),
    sa.Column("hidden", sa.BigInteger, nullable=False),
)
"""Values of a batch's events and records in quarantine in which a rule hid something."""
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
TRACES = sa.Table(
    "traces",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("folder", sa.Text, primary_key=True),
)
"""Folders in which a batch that is not done may have left files; the empty one is the whole lake."""
ROUTED = sa.Table(
    "routed",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("of_batch", sa.Text, nullable=False, index=True),
)
"""Batches of records that stood among those of another source: each, and the batch in whose objects they stand. Until
that one is done they have no row of their own."""
EXPORTS = sa.Table(
    "exports",
    METADATA,
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("class_uid", sa.Integer, nullable=False),
    sa.Column("begun_at", sa.Text, nullable=False),
)
"""Custom sources by the URI of their folder, and what each takes."""
SHIPMENTS = sa.Table(
    "export_shipments",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, nullable=False, index=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("planned_at", sa.Text, nullable=False),
    sa.Column("shipped_at", sa.Text),
)
"""Files of one partition of a custom source that are sent together."""
SHIPPED_FILES = sa.Table(
    "export_files",
    METADATA,
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("shipment_id", sa.Text, nullable=False, index=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
)
"""Files of the lake that are in a shipment, planned or done."""
SHIPPED_OBJECTS = sa.Table(
    "export_objects",
    METADATA,
    sa.Column("shipment_id", sa.Text, primary_key=True),
    sa.Column("first_row", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("written_at", sa.Text),
)
"""Objects of shipments: which of the shipment's rows, in their order, each has. Without a time it may not be there."""


GENERATIONS = sa.Table(
    "generations",
    METADATA,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("fence", sa.Text),
)
"""Partitions that were compacted: how often, which is where their files are; and the compaction that is about to move
them, while which no batch is done in the partition. A partition without a row is of generation 0."""
COMPACTIONS = sa.Table(
    "compactions",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False, default=0),
    sa.Column("partitions", sa.BigInteger, nullable=False),
    sa.Column("files_in", sa.BigInteger, nullable=False),
    sa.Column("bytes_in", sa.BigInteger, nullable=False),
    sa.Column("files_out", sa.BigInteger, nullable=False, default=0),
    sa.Column("bytes_out", sa.BigInteger, nullable=False, default=0),
    sa.Column("planned_at", sa.Text, nullable=False),
    sa.Column("done_at", sa.Text),
)
"""Compactions, see `ocsf_lake.upkeep.compact`; the plan, as JSON, of those that are not done."""
COMPACTING = sa.Table(
    "compacting_files",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("compaction_id", sa.Text, nullable=False, index=True),
)
"""Files that a compaction which is not done is about to retire: no export takes them up."""
RETIRED = sa.Table(
    "retired_files",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Text, nullable=False, index=True),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("partition", sa.Text, nullable=False),
    sa.Column("class_uid", sa.Integer),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("merge_id", sa.Text, index=True),
    sa.Column("compaction_id", sa.Text, nullable=False),
    sa.Column("retired_at", sa.Text, nullable=False),
    sa.Column("removed_at", sa.Text),
)
"""Files as batches wrote them whose rows are in other files now: in those of a merge, which are made again from them or
from what they were made of, or in a copy, where no merge is named. Without a time of removal they are still there."""
RETAINED = sa.Table(
    "retained",
    METADATA,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
    sa.Column("retention_id", sa.Text, primary_key=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("retained_at", sa.Text, nullable=False),
    info={"since": "retention"},
)
"""Partitions whose events went because their time was over, and by which rule; one may go again, with events that came
late. Their files are among those retired, with the retention's id for that of a merge."""
HOLDS = sa.Table(
    "holds",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text),
    sa.Column("table_name", sa.Text),
    sa.Column("first_day", sa.Text),
    sa.Column("last_day", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("placed_by", sa.Text, nullable=False),
    sa.Column("placed_at", sa.Text, nullable=False),
    sa.Column("released_by", sa.Text),
    sa.Column("released_at", sa.Text),
    sa.Column("release_reason", sa.Text),
    info={"since": "retention"},
)
"""Legal holds, see `ocsf_lake.ledger.holds`, and those that were; what is null in one is open. Days are `YYYYMMDD`."""
VERSIONS = sa.Table(
    "hidden_versions",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("hidden_at", sa.Text, nullable=False),
    sa.Column("due_at", sa.Text, nullable=False, index=True),
    sa.Column("removed_at", sa.Text),
    info={"since": "versions"},
)
"""Versions of files that were removed under Object Lock, see `ocsf_lake.ledger.versions`. Without a time of removal
they are still there, behind a marker, and may go when they are due."""
LISTINGS = sa.Table(
    "listings",
    METADATA,
    sa.Column("uri", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("mapper", sa.Text, nullable=False),
    sa.Column("begun_at", sa.Text, nullable=False),
    sa.Column("calls", sa.BigInteger, nullable=False, default=0),
)
"""When a folder was last listed without a gap, see `ocsf_lake.ingest.relisting`, and how many calls it took when it was
listed whole; the source is empty for any."""
DETECTED_BATCHES = sa.Table(
    "detected_batches",
    METADATA,
    sa.Column("batch_id", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, nullable=False),
)
"""Batches that rules were asked of, and the run that did."""
DETECTION_RUNS = sa.Table(
    "detection_runs",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("findings", sa.BigInteger, nullable=False),
    sa.Column("begun_at", sa.Text, nullable=False),
)
"""Runs of detections, and how many findings each was the first to make; those that are not done have to be written."""
FINDINGS = sa.Table(
    "findings",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, nullable=False, index=True),
    sa.Column("run", sa.Text, nullable=False, index=True),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)
"""What rules found, once: times in milliseconds since 1970, how many events, and the record as it was written."""

CHAIN = sa.Table(
    "chain",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("in_lake", sa.Integer, nullable=False),
    sa.Index("chain_waiting", "number", sqlite_where=sa.text("in_lake = 0"), postgresql_where=sa.text("in_lake = 0")),
    info={"since": "chain"},
)
"""Records of what changed which files the lake has, see `ocsf_lake.ledger.chain`: that they are in the lake too is
known some time after they are written here."""


OBJECT_HASHES = sa.Table(
    "object_hashes",
    METADATA,
    sa.Column("beginning", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rest", BYTEWISE, primary_key=True),
    sa.Column("etag", _Bytes, primary_key=True),
    sa.Column("sha256", _Bytes, nullable=False),
    sqlite_with_rowid=False,
)
"""SHA-256 of the decompressed content of objects as they were read, where the settings ask for it; the key is that of
`OBJECT_ROWS`."""
DIGEST_PROOFS = sa.Table(
    "digest_proofs",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("region", sa.Text, primary_key=True),
    sa.Column("trail", sa.Text, primary_key=True),
    sa.Column("home_region", sa.Text, primary_key=True),
    sa.Column("start", sa.Text, primary_key=True),
    sa.Column("end", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("digests", sa.BigInteger, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("verified_at", sa.Text, nullable=False),
)
"""What `verify` found of digests the last time, see `ocsf_lake.ledger.proofs`: `proved`, `fault` or `unchecked`. Proved
ones without log files that follow each other are one row."""
DIGEST_FAULTS = sa.Table(
    "digest_faults",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("region", sa.Text, primary_key=True),
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("object", sa.Text, primary_key=True),
    sa.Column("start", sa.Text, primary_key=True),
    sa.Column("end", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text),
    sa.Column("in_lake", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("verified_at", sa.Text, nullable=False),
)
"""The faults that it found; of log files the hash that their digest says, and whether the lake has that content."""
ABOUT = sa.Table(
    "about",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)


def _say_who_works(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN begun_at TEXT")
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN worker TEXT")


def _tell_attempts_at_replays_apart(connection: sa.Connection) -> None:
    if "replays" in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql("ALTER TABLE replays ADD COLUMN token TEXT")


def _say_where_files_may_be_left(connection: sa.Connection) -> None:
    TRACES.create(connection, checkfirst=True)
    connection.exec_driver_sql("INSERT INTO traces SELECT id, '' FROM batches WHERE state <> 'done' AND attempts > 0")
    if "replays" in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql("INSERT INTO traces SELECT batch_id, '' FROM replays WHERE state <> 'done'")


def _count_failures(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN failures INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE objects ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0")
    connection.exec_driver_sql("ALTER TABLE objects ADD COLUMN tried_at TEXT")
    connection.exec_driver_sql("ALTER TABLE objects ADD COLUMN tried_with TEXT")


def _be_the_catalog(connection: sa.Connection) -> None:
    """The ledger is what queries read; before, a catalog beside it repeated what it has of files.

    In PostgreSQL that one is left in its schema, `ocsf_catalog`: somebody may have built on it.
    """
    connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS files_of_partition ON files (table_name, partition)")
    connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS objects_not_done ON objects (state) WHERE state <> 'done'")


def _remember_listings(connection: sa.Connection) -> None:
    LISTINGS.create(connection, checkfirst=True)


def _store_objects_in_fewer_bytes(connection: sa.Connection) -> None:
    """Moves the objects into the table they are in now, and leaves a view where they were; a thousand at a time."""
    from ocsf_lake.ledger import objects  # which knows how they are stored, and these tables

    if connection.dialect.name == "postgresql":
        # Another program that still writes into the old table must not do so behind our back.
        connection.exec_driver_sql("LOCK TABLE objects IN ACCESS EXCLUSIVE MODE")
    connection.exec_driver_sql("ALTER TABLE objects RENAME TO old_objects")
    NAMES.create(connection)
    OBJECT_ROWS.create(connection)
    if connection.dialect.name == "postgresql":
        _grant_again(connection, "old_objects")
    objects.take_over(connection, "old_objects")
    connection.exec_driver_sql("DROP TABLE old_objects")


def _grant_again(connection: sa.Connection, table: str) -> None:
    """Lets those do with the tables of objects what they were let do with another one."""
    query = sa.text(
        "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, privilege_type "
        "FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(:name) AND grantee <> relowner "
        "AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')"
    )
    for role, privilege in connection.execute(query, {"name": table}).all():
        connection.exec_driver_sql(f"GRANT {privilege} ON object_rows, names, objects TO {role}")
        if privilege == "INSERT":
            connection.exec_driver_sql(f"GRANT USAGE ON SEQUENCE names_id_seq TO {role}")


def tell_kinds(connection: sa.Connection) -> None:
    """Tells the kinds of finished batches by the reasons that earlier versions gave them."""
    row = BATCHES.c
    reasons = {
        "replay of records in quarantine": "replay",
        "records that stood among those of another source": "routed",
        "compaction of files of other batches": "merge",
    }
    for reason, kind in reasons.items():
        connection.execute(sa.update(BATCHES).where(row.state == "done", row.reason == reason).values(kind=kind))


def _have_kinds_of_batches(connection: sa.Connection) -> None:
    """A replay is a batch from its plan on; before, one that was not done stood in a table of its own.

    What an unfinished one had written is found by its traces, and taken out by the next replay of the source. A process
    of an earlier version that is amid one finds its table gone, and cannot finish it.
    """
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN kind TEXT NOT NULL DEFAULT 'ingest'")
    tell_kinds(connection)
    if "replays" in sa.inspect(connection).get_table_names():
        connection.exec_driver_sql(
            "INSERT INTO batches (id, source, mapper_version, ocsf_version, kind, state, attempts, failures, objects, "
            "bytes_in, read, events, quarantined, dropped, events_by_class, dropped_reasons, failed_casts, "
            "unmapped_keys, bytes_out, seconds, planned_at) "
            "SELECT batch_id, source, '', '', 'replay', 'planned', 1, 0, 0, 0, 0, 0, 0, 0, '{}', '{}', '{}', '{}', 0, "
            "0, planned_at FROM replays WHERE state <> 'done'"
        )
        connection.exec_driver_sql("DROP TABLE replays")


STEPS = (
    _say_who_works,
    _tell_attempts_at_replays_apart,
    _say_where_files_may_be_left,
    _count_failures,
    _be_the_catalog,
    _remember_listings,
    _store_objects_in_fewer_bytes,
    _have_kinds_of_batches,
)
"""How the tables became what they are; see `database`. A new table needs no step, a new column does."""

SHOWN: dict[str, sa.Table] = {
    OBJECTS.name: sa.Table(OBJECTS.name, sa.MetaData(), *_of_objects()),
    **{
        name: table
        for name, table in METADATA.tables.items()
        if table not in (NAMES, OBJECT_ROWS, OBJECT_HASHES, CHAIN)
    },
}
"""Tables of a ledger by the names that queries use; `objects` is a view, and the tables behind it are not here. Nor is
the chain, which reading commands have to do without in a ledger that no writer has opened since there is one."""
