"""What the ledger's tables are made with, and what it knows of itself."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
"""All tables, once `ocsf_lake.ledger.tables` is imported, which each of its modules is a part of."""
BYTEWISE = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text in the order of its bytes, whatever the database's locale."""


class Bytes(sa.LargeBinary):
    """Bytes as both drivers take them."""

    def bind_processor(self, dialect: sa.Dialect) -> None:
        """Nothing is done to them: SQLAlchemy's way takes longer than the database."""


def columns_of_a_file() -> list[sa.Column[Any]]:
    """What is known of a file of the lake, wherever it is noted."""
    return [
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("batch_id", sa.Text, nullable=False, index=True),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("class_uid", sa.Integer),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
    ]


def index_where(name: str, table: sa.Table, column: str, condition: str) -> None:
    """Makes an index of some of a table's rows with it, in both databases.

    SQLAlchemy's `Index` loads the dialect of each database that its condition names, for whoever opens a ledger.
    """
    statement = sa.DDL(f"CREATE INDEX {name} ON {table.name} ({column}) WHERE {condition}")  # type: ignore[no-untyped-call]
    sa.event.listen(table, "after_create", statement)


ABOUT = sa.Table(
    "about",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""What the ledger notes of itself, and of the lake that it belongs to; see `ocsf_lake.ledger.marker`."""
