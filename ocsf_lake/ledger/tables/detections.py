"""Tables of what rules found."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import BYTEWISE, METADATA

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
BASELINES = sa.Table(
    "baselines",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, nullable=False, index=True),
    sa.Column("missed", sa.BigInteger, nullable=False),
    sa.Column("asked_at", sa.Text, nullable=False),
)
"""Rules of what was not seen before: how many batches were looked at without each since it was made, or made whole."""
FIRST_SEEN = sa.Table(
    "first_seen",
    METADATA,
    sa.Column("baseline", sa.Text, primary_key=True),
    sa.Column("about", BYTEWISE, primary_key=True),
    sa.Column("value", BYTEWISE, primary_key=True),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("event", BYTEWISE, nullable=False),
    sa.Column("account", sa.Text),
    sa.Column("region", sa.Text),
    sa.Column("finding", sa.Text),
)
"""When a value was first there, of whom or what: in milliseconds since 1970, the event, and the finding of it."""
