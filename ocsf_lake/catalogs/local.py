"""The catalog that `ocsf-lake query` reads: tables, partitions and files in SQLite, or in the ledger's PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from ocsf_lake.catalogs.base import Definition, Finding, HeldFile, Kind, Truth, covers, described, widened_columns
from ocsf_lake.ledger.database import connect, insert
from ocsf_lake.ledger.sqlite_reading import memory_engine
from ocsf_lake.storage import permissions
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import FileInfo

METADATA = sa.MetaData()
TABLES = sa.Table(
    "tables",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("keys", sa.Text, nullable=False),
)
PARTITIONS = sa.Table(
    "partitions",
    METADATA,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("partition", sa.Text, primary_key=True),
)
FILES = sa.Table(
    "files",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("partition", sa.Text, nullable=False),
    sa.Column("batch_id", sa.Text, nullable=False, index=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Index("files_of_partition", "table_name", "partition"),
)


class SqlCatalog:
    """A catalog in a small SQL database.

    Args:
        url: SQLAlchemy URL of the database; None for an empty one in memory.
        umask: Permissions that a new file of SQLite does not get.
        reading: Nothing is made or changed, see `ocsf_lake.ledger.database.connect`.
    """

    name = "local"

    def __init__(self, url: str | sa.URL | None, umask: int = permissions.UMASK, *, reading: bool = False) -> None:
        if url is None:
            self.engine = memory_engine()
            METADATA.create_all(self.engine)
        else:
            self.engine = connect(url, METADATA, "catalog", umask=umask, reading=reading)

    def close(self) -> None:
        """Closes connections."""
        self.engine.dispose()

    def create_or_evolve(self, definition: Definition) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        with self.engine.begin() as connection:
            known = _columns(connection, definition.name)
            _put_table(connection, definition, widened_columns(definition.name, known, definition.columns))

    def register(self, batch_id: str, files: Sequence[FileInfo | HeldFile]) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        with self.engine.begin() as connection:
            _take_out(connection, batch_id)
            _put_files(connection, [(batch_id, file) for file in files])

    def drop(self, batch_id: str) -> None:
        """Takes a batch's files out, and partitions that have none left."""
        with self.engine.begin() as connection:
            _take_out(connection, batch_id)

    def replace(self, batch_id: str, old: Sequence[HeldFile], new: Sequence[HeldFile]) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        with self.engine.begin() as connection:
            for file in old:
                connection.execute(sa.delete(FILES).where(FILES.c.path == file.path))
            _put_files(connection, [(file.batch_id, file) for file in new])

    def in_snapshots(self, table: str) -> set[str]:
        """None."""
        return set()

    def irreplaceable(self, definition: Definition) -> str | None:
        """Nothing stands against it."""
        return None

    def partitions(self, table: str) -> list[Partition]:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        values = PARTITIONS.c.partition
        query = sa.select(values).where(PARTITIONS.c.table_name == table).order_by(values)
        with self.engine.connect() as connection:
            return [Partition(table, tuple(found.split("/"))) for found in connection.scalars(query)]

    def files(self, table: str) -> dict[str, int]:
        """Path below the lake's root -> bytes of a table's files, by path."""
        return self.all_files([table])[table]

    def all_files(self, names: Collection[str]) -> dict[str, dict[str, int]]:
        """`files` of several tables at one moment, by table."""
        query = sa.select(FILES.c.table_name, FILES.c.path, FILES.c.bytes).where(FILES.c.table_name.in_(names))
        found: dict[str, dict[str, int]] = {name: {} for name in names}
        with self.engine.connect() as connection:
            for name, path, size in connection.execute(query.order_by(FILES.c.path)):
                found[name][path] = size
        return found

    def number_of_files(self) -> int:
        """How many files it knows."""
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(FILES)) or 0

    def check(self, definition: Definition, truth: Truth) -> list[Finding]:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        table, here = definition.name, (self.name, definition.name)
        with self.engine.connect() as connection:
            columns = dict(_columns(connection, table))
        files, partitions = set(self.files(table)), set(self.partitions(table))
        held = truth.held(table)
        found: list[Finding] = []
        if held and not columns:
            found.append(Finding(*here, Kind.TABLE_MISSING, table, "queries do not know the table; sync makes it"))
        for name, kind in definition.columns if columns else ():
            if not covers(columns.get(name), kind):
                says = f"{columns.get(name, 'missing')} instead of {kind}; sync puts the lake's type back"
                found.append(Finding(*here, Kind.TABLE_SCHEMA, name, says))
        wanted, filled = {file.path for file in held}, {file.partition for file in held}
        says = "queries do not see its rows; sync registers it"
        found += [Finding(*here, Kind.FILE_UNREGISTERED, path, says) for path in wanted - files]
        says = "queries see rows that no finished batch has counted; sync takes it out"
        unknown = [path for path in files - wanted if not truth.is_open(path)]
        found += [Finding(*here, Kind.FILE_UNKNOWN, path, says) for path in unknown]
        says = "queries by partition miss its rows; sync registers it"
        found += [Finding(*here, Kind.PARTITION_MISSING, described(item), says) for item in filled - partitions]
        return found

    def repair(self, definition: Definition, truth: Truth) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        files = set(self.files(definition.name))
        held = truth.held(definition.name)
        unknown = files - {file.path for file in held}
        gone = [path for path in sorted(unknown) if not truth.is_open(path)]
        with self.engine.begin() as connection:
            known = dict(_columns(connection, definition.name))
            _put_table(connection, definition, list({**known, **dict(definition.columns)}.items()))
            for path in gone:
                connection.execute(sa.delete(FILES).where(FILES.c.path == path))
            _put_files(connection, [(file.batch_id, file) for file in held])
            _take_out_empty(connection, {definition.name})


def _columns(connection: sa.Connection, table: str) -> list[tuple[str, str]]:
    text = connection.scalar(sa.select(TABLES.c.columns).where(TABLES.c.name == table))
    return [(name, kind) for name, kind in json.loads(text)] if text else []


def _put_table(connection: sa.Connection, definition: Definition, columns: Sequence[tuple[str, str]]) -> None:
    values = {
        "name": definition.name,
        "prefix": definition.prefix,
        "columns": json.dumps(columns),
        "keys": json.dumps(definition.keys),
    }
    statement = insert(connection, TABLES).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def _put_files(connection: sa.Connection, files: Sequence[tuple[str, FileInfo | HeldFile]]) -> None:
    if not files:
        return
    partitions = {(file.partition.table, "/".join(file.partition.values)) for _, file in files}
    rows: list[dict[str, Any]] = [{"table_name": table, "partition": values} for table, values in sorted(partitions)]
    connection.execute(insert(connection, PARTITIONS).on_conflict_do_nothing(), rows)
    rows = [
        {
            "path": file.path,
            "table_name": file.partition.table,
            "partition": "/".join(file.partition.values),
            "batch_id": batch_id,
            "rows": file.rows,
            "bytes": file.bytes,
        }
        for batch_id, file in files
    ]
    connection.execute(insert(connection, FILES).on_conflict_do_nothing(), rows)


def _take_out(connection: sa.Connection, batch_id: str) -> None:
    gone = set(connection.scalars(sa.select(FILES.c.table_name).where(FILES.c.batch_id == batch_id)))
    connection.execute(sa.delete(FILES).where(FILES.c.batch_id == batch_id))
    _take_out_empty(connection, gone)


def _take_out_empty(connection: sa.Connection, names: Collection[str]) -> None:
    held = sa.exists().where(FILES.c.table_name == PARTITIONS.c.table_name, FILES.c.partition == PARTITIONS.c.partition)
    connection.execute(sa.delete(PARTITIONS).where(PARTITIONS.c.table_name.in_(names), ~held))
