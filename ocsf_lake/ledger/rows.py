"""The ledger's tables as Arrow, for queries: streamed, and of the columns that are asked for alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa
import sqlalchemy as sa

BATCH_ROWS = 16_384


class Rows:
    """One table of the ledger in SQLite, read anew each time somebody asks for it; memory holds some thousand rows.

    Each time is a moment of its own: while a run writes, two scans of one query may see different rows.

    Args:
        engine: The ledger's database.
        table: The table.
        columns: Names of the columns that are wanted; None for all.
    """

    def __init__(self, engine: sa.Engine, table: sa.Table, columns: Collection[str] | None = None) -> None:
        self._engine = engine
        wanted = [column for column in table.columns if columns is None or column.name in columns]
        self._columns = wanted or list(table.primary_key.columns)[:1]  # rows are counted by some column
        self.schema = pa.schema([pa.field(column.name, arrow_type(column.type)) for column in self._columns])

    def __arrow_c_schema__(self) -> object:
        """Arrow's protocol: the columns."""
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Arrow's protocol: the rows, from the first one on."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        query = str(sa.select(*self._columns).compile(self._engine))
        connection = self._engine.raw_connection()
        try:
            # The driver's own rows: SQLAlchemy's cost twice as much as reading them.
            cursor = connection.cursor()
            cursor.execute(query)
            while rows := cursor.fetchmany(BATCH_ROWS):
                columns = zip(*rows, strict=True)
                arrays = [pa.array(values, field.type) for values, field in zip(columns, self.schema, strict=True)]
                yield pa.record_batch(arrays, schema=self.schema)
        finally:
            connection.close()


def table_of(connection: sa.Connection, table: sa.Table, *, all_rows: bool = True) -> pa.Table:
    """All rows of a table of the ledger, by its key; without rows where only its columns count."""
    query = sa.select(table).order_by(*table.primary_key.columns)
    rows = connection.execute(query if all_rows else query.limit(0)).all()
    columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
    arrays = [pa.array(values, arrow_type(column.type)) for column, values in zip(table.columns, columns, strict=True)]
    return pa.table(arrays, names=[column.name for column in table.columns])


def arrow_type(kind: sa.types.TypeEngine[object]) -> pa.DataType:
    """The Arrow type of a column of the ledger."""
    if isinstance(kind, sa.Integer):
        return pa.int64()
    return pa.float64() if isinstance(kind, sa.Float) else pa.string()
