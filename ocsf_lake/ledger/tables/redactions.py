"""Tables of what was hidden of logs, and by which policy."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA

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
