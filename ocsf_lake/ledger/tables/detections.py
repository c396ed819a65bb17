"""Tables of what rules found."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA

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
