"""Tables of objects: how each stands, its hash, and which folders were listed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import BYTEWISE, METADATA, Bytes, index_where

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
    sa.Column("etag", Bytes, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("stamp", sa.Text, nullable=False, default=""),
    sa.Column("reason", sa.Text),
    sa.Column("tried_at", sa.Text),
    sa.Column("tried_with", sa.Text),
)
"""Objects as they are stored, the concern of `ocsf_lake.ledger.objects` alone: beginning, source and batch are ids in
`NAMES`, a URI is its beginning and its rest, an ETag is bytes."""
OBJECT_ROWS.add_is_dependent_on(NAMES)
index_where("object_rows_not_done", OBJECT_ROWS, "state", "state <> 'done'")


def columns_of_objects() -> list[sa.Column[Any]]:
    """Columns of the view that people see, new ones each time: a column belongs to one table."""
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
    "objects", sa.MetaData(), *columns_of_objects(), sa.Column("beginning", sa.Integer), sa.Column("rest", sa.Text)
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
OBJECT_HASHES = sa.Table(
    "object_hashes",
    METADATA,
    sa.Column("beginning", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rest", BYTEWISE, primary_key=True),
    sa.Column("etag", Bytes, primary_key=True),
    sa.Column("sha256", Bytes, nullable=False),
    sqlite_with_rowid=False,
)
"""SHA-256 of the decompressed content of objects as they were read, where the settings ask for it; the key is that of
`OBJECT_ROWS`."""
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
