"""The ledger's tables as Arrow, for queries: streamed, and of the columns that are asked for alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import DBAPICursor

from ocsf_lake.ledger.database import has

BATCH_ROWS = 16_384


class Moment:
    """A ledger in SQLite as it is at one moment, for all who read it; it ends when nobody does any more.

    Args:
        engine: The ledger's database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._connection = engine.raw_connection()
        self._connection.detach()  # it may end after the engine
        self._connection.cursor().execute("BEGIN")

    def __del__(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()

    def cursor(self) -> DBAPICursor:
        """A cursor within the moment."""
        return self._connection.cursor()


class Rows:
    """One table of the ledger in SQLite, read anew each time somebody asks for it; memory holds some thousand rows.

    Args:
        moment: The ledger; tables of one query share it.
        table: The table.
        columns: Names of the columns that are wanted; None for all.
    """

    def __init__(self, moment: Moment, table: sa.Table, columns: Collection[str] | None = None) -> None:
        self._moment = moment
        selected = [column for column in table.columns if columns is None or column.name in columns]
        self._columns = selected or list(table.primary_key.columns)[:1]  # rows are counted by some column
        self.schema = pa.schema([pa.field(column.name, arrow_type(column.type)) for column in self._columns])

    def __arrow_c_schema__(self) -> object:
        """Arrow's protocol: the columns."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Arrow's protocol: the rows, from the first one on."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        # The driver's own rows: SQLAlchemy's cost twice as much as reading them.
        cursor = self._moment.cursor()
        try:
            cursor.execute(str(sa.select(*self._columns).compile(dialect=sqlite.dialect())))
            while rows := cursor.fetchmany(BATCH_ROWS):
                columns = zip(*rows, strict=True)
                arrays = [pa.array(values, field.type) for values, field in zip(columns, self.schema, strict=True)]
                yield pa.record_batch(arrays, schema=self.schema)
        finally:
            cursor.close()


def table_of(connection: sa.Connection, table: sa.Table, *, all_rows: bool = True) -> pa.Table:
    """All rows of a table of the ledger, by its key; without rows where only its columns count."""
    query = sa.select(table).order_by(*table.primary_key.columns)
    rows = connection.execute(query if all_rows else query.limit(0)).all() if has(connection, table) else []
    columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
    arrays = [pa.array(values, arrow_type(column.type)) for column, values in zip(table.columns, columns, strict=True)]
    return pa.table(arrays, names=[column.name for column in table.columns])


def arrow_type(kind: sa.types.TypeEngine[object]) -> pa.DataType:
    """The Arrow type of a column of the ledger."""
    if isinstance(kind, sa.Integer):
        return pa.int64()
    return pa.float64() if isinstance(kind, sa.Float) else pa.string()
