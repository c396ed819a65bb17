"""Tables of what was exported to custom sources."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA

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
