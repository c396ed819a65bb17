"""Tables of alerts: who receives them, and of which findings."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA

ALERT_RECEIVERS = sa.Table(
    "alert_receivers",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("since", sa.Text, nullable=False),
)
"""Who receives alerts, by the names of the settings; of what was found before `since` they get none."""
ALERTS = sa.Table(
    "alerts",
    METADATA,
    sa.Column("receiver", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("findings", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("due_at", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("planned_at", sa.Text, nullable=False),
    sa.Column("ended_at", sa.Text),
    sa.Index("alerts_due", "state", "due_at"),
)
"""Alerts to each receiver: planned until it took them (done), or refused them too often (failed). An alert of one
finding has its id."""
ALERTED_FINDINGS = sa.Table(
    "alerted_findings",
    METADATA,
    sa.Column("receiver", sa.Text, primary_key=True),
    sa.Column("finding_id", sa.Text, primary_key=True),
    sa.Column("alert_id", sa.Text, index=True),
)
"""Findings that were decided on for a receiver, and the alert of each; none where it got none: it was there
before, is of less severity, or suppressed."""
