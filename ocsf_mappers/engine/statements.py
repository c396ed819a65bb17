"""Queries over a relation `batch` whose rows change from run to run, planned once.

DuckDB takes longer to plan a mapping than to map thousands of records, and plans a relation anew whenever it runs. So
`batch` is registered once as an object that stands for the records of the moment, and every query is prepared.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from ocsf_mappers import duck

MEMORY = "400MB"
"""Bound of a query's memory. Ordinary parts of a batch need less than 100 MB; one that does not fit is halved."""

TOO_MUCH = "mapping the record takes more memory than is allowed"


class BadDataError(Exception):
    """A value in the batch that the query cannot compute with, or more of them than memory allows."""


def connection() -> duckdb.DuckDBPyConnection:
    """An empty database in memory that works in the calling thread and loads nothing from outside."""
    database = duck.connect(threads=1, preserve_insertion_order=True, memory_limit=MEMORY, temp_directory="")
    database.execute("SET TimeZone = 'UTC'")
    # It turns a list of texts after IN into a hash join of whole records, which costs more than the comparison.
    database.execute("SET disabled_optimizers = 'in_clause'")
    return database


def another(of: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """A connection to the same database, with names of its own."""
    cursor = of.cursor()
    cursor.execute("SET TimeZone = 'UTC'")
    return cursor


class _Current:
    """The records of the moment, as DuckDB asks for them each time a query runs."""

    def __init__(self, records: pa.Table) -> None:
        self.records = records

    def __arrow_c_schema__(self) -> object:
        return self.records.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.records.__arrow_c_stream__(requested_schema)


class Statements:
    """Prepared queries over batches of the same columns.

    Args:
        columns: Names and types of the columns of every batch, in their order.
        own: A connection for these queries alone: whatever is registered makes DuckDB plan all its queries again.
    """

    def __init__(self, columns: pa.Schema, own: duckdb.DuckDBPyConnection) -> None:
        self._columns = columns
        self._current = _Current(columns.empty_table())
        self._connection = own
        self._connection.register("batch", self._current)
        self._names: dict[str, str] = {}

    def run(self, query: str, records: pa.Table) -> pa.Table:
        """A query's rows.

        Args:
            query: SQL that reads `batch`.
            records: What `batch` holds.

        Raises:
            BadDataError: Some value cannot be computed with, or all of them take too much memory. What fails while
                it is planned is our mistake instead.
        """
        name = self._planned(query)
        if records.schema != self._columns:
            raise TypeError(f"prepared for {self._columns.names}, given {records.schema.names}")
        self._current.records = records
        try:
            with duck.interruptible(over_logs=True):
                return self._connection.sql(f"EXECUTE {name}").to_arrow_table()
        except (duckdb.InvalidInputException, duckdb.DataError) as error:
            raise BadDataError(str(error).splitlines()[0]) from error
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise BadDataError(TOO_MUCH) from error
        finally:
            self._current.records = self._columns.empty_table()

    @duck.interruptible(over_logs=True)
    def _planned(self, query: str) -> str:
        """The name of the prepared query."""
        if query not in self._names:
            name = f"q{len(self._names)}"
            self._connection.execute(f"PREPARE {name} AS {query}")
            self._names[query] = name
        return self._names[query]
