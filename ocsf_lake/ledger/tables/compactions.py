"""Tables of where the files of partitions are, and of files that have left them."""

from __future__ import annotations

import sqlalchemy as sa

from ocsf_lake.ledger.tables.base import METADATA, columns_of_a_file

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
    *columns_of_a_file(),
    sa.Column("merge_id", sa.Text, index=True),
    sa.Column("compaction_id", sa.Text, nullable=False),
    sa.Column("retired_at", sa.Text, nullable=False),
    sa.Column("removed_at", sa.Text),
)
"""Files as batches wrote them whose rows are in other files now: in those of a merge, which are made again from them or
from what they were made of, or in a copy, where no merge is named. Without a time of removal they are still there."""
