"""Tables of events that went because their time was over or that were lost, and of what keeps some."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA, columns_of_a_file

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
WRITTEN_OFF = sa.Table(
    "written_off",
    METADATA,
    *columns_of_a_file(),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("written_off_by", sa.Text, nullable=False),
    sa.Column("written_off_at", sa.Text, nullable=False),
    sa.Column("taken_back_at", sa.Text),
    info={"since": "write-off"},
)
"""Files that were lost for good, and that somebody decided to do without, see `ocsf_lake.ledger.written_off`: why they
cannot be made again, and the reason and who gave it. Those with a time of return are in `files` again."""
