"""Tables of what became of records and of their members."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA

MAPPING_COVERAGE = sa.Table(
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
SCHEMA_DRIFT = sa.Table(
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
