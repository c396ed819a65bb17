"""Which tables, partitions and files a lake has. What is not registered is not seen by queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import sqlalchemy as sa

from lake.database import connect, insert
from lake.layout import Partition
from lake.store import Store
from lake.writer import FileInfo
from ocsf_mappers import tables
from ocsf_mappers.errors import WriteError


@dataclass(frozen=True)
class Definition:
    """A table as a catalog knows it.

    Args:
        name: Its name.
        prefix: Its folder below the lake's root.
        schema: Columns of its files.
        keys: Partition keys; those that are columns too have the partition's value in every row.
    """

    name: str
    prefix: str
    schema: pa.Schema
    keys: tuple[str, ...]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Name and Hive type of each column that is no partition key."""
        return [(field.name, tables.hive_type(field.type)) for field in self.schema if field.name not in self.keys]


class Catalog(Protocol):
    """What a catalog does; each call can be repeated without effect."""

    def create_or_evolve(self, definition: Definition) -> None:
        """Makes a table, or adds the columns and members of structs that it lacks.

        Raises:
            WriteError: Something has another type in the catalog.
        """

    def register(self, batch_id: str, files: Sequence[FileInfo]) -> None:
        """Adds files and the partitions they are in; files of the batch that are not among them are taken out."""

    def drop(self, batch_id: str) -> None:
        """Takes a batch's files out, and partitions that have none left."""

    def partitions(self, table: str) -> list[Partition]:
        """The partitions of a table, sorted."""

    def files(self, table: str) -> list[str]:
        """Paths of a table's files below the lake's root, sorted."""

    def check(self, store: Store) -> list[str]:
        """What is wrong: files that are missing or have another size."""

    def close(self) -> None:
        """Closes connections."""


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


class LocalCatalog:
    """A catalog in SQLite or PostgreSQL.

    Args:
        url: SQLAlchemy URL of the database.
    """

    def __init__(self, url: str) -> None:
        self.engine = connect(url, METADATA, "catalog")

    def close(self) -> None:
        """Closes connections."""
        self.engine.dispose()

    def create_or_evolve(self, definition: Definition) -> None:
        """See `Catalog`."""
        with self.engine.begin() as connection:
            row = connection.execute(sa.select(TABLES).where(TABLES.c.name == definition.name)).mappings().first()
            columns = dict(json.loads(row["columns"])) if row else {}
            for name, kind in definition.columns:
                known = columns.get(name, kind)
                if known != kind and not _extends(tables.parse_hive_type(kind), tables.parse_hive_type(known)):
                    raise WriteError(
                        f"column {name} is {known} in the catalog and {kind} in the lake's schema; members and "
                        "columns can be added, not changed",
                        table=definition.name,
                    )
                columns[name] = kind
            values = {
                "name": definition.name,
                "prefix": definition.prefix,
                "columns": json.dumps(list(columns.items())),
                "keys": json.dumps(definition.keys),
            }
            statement = insert(connection, TABLES).values(values)
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def register(self, batch_id: str, files: Sequence[FileInfo]) -> None:
        """See `Catalog`."""
        with self.engine.begin() as connection:
            _take_out(connection, batch_id)
            if not files:
                return
            partitions = {(file.partition.table, "/".join(file.partition.values)) for file in files}
            rows: list[dict[str, Any]] = [
                {"table_name": table, "partition": values} for table, values in sorted(partitions)
            ]
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
                for file in files
            ]
            connection.execute(insert(connection, FILES).on_conflict_do_nothing(), rows)

    def drop(self, batch_id: str) -> None:
        """See `Catalog`."""
        with self.engine.begin() as connection:
            _take_out(connection, batch_id)

    def partitions(self, table: str) -> list[Partition]:
        """See `Catalog`."""
        values = PARTITIONS.c.partition
        query = sa.select(values).where(PARTITIONS.c.table_name == table).order_by(values)
        with self.engine.connect() as connection:
            return [Partition(table, tuple(found.split("/"))) for found in connection.scalars(query)]

    def files(self, table: str) -> list[str]:
        """See `Catalog`."""
        query = sa.select(FILES.c.path).where(FILES.c.table_name == table).order_by(FILES.c.path)
        with self.engine.connect() as connection:
            return list(connection.scalars(query))

    def check(self, store: Store) -> list[str]:
        """See `Catalog`."""
        problems = []
        with self.engine.connect() as connection:
            for path, size in connection.execute(sa.select(FILES.c.path, FILES.c.bytes).order_by(FILES.c.path)):
                found = store.size(path)
                if found is None:
                    problems.append(f"{path}: the file is missing")
                elif found != size:
                    problems.append(f"{path}: has {found} bytes, {size} were written")
        return problems


def _extends(new: pa.DataType, known: pa.DataType) -> bool:
    """Whether a type has all that another one has; structs may have gained members."""
    if pa.types.is_struct(new) and pa.types.is_struct(known):
        members = {field.name: field.type for field in new}
        return all(field.name in members and _extends(members[field.name], field.type) for field in known)
    if pa.types.is_list(new) and pa.types.is_list(known):
        return _extends(new.value_type, known.value_type)
    return bool(new == known)


def _take_out(connection: sa.Connection, batch_id: str) -> None:
    gone = set(connection.scalars(sa.select(FILES.c.table_name).where(FILES.c.batch_id == batch_id)))
    connection.execute(sa.delete(FILES).where(FILES.c.batch_id == batch_id))
    if gone:
        held = sa.exists().where(
            FILES.c.table_name == PARTITIONS.c.table_name, FILES.c.partition == PARTITIONS.c.partition
        )
        connection.execute(sa.delete(PARTITIONS).where(PARTITIONS.c.table_name.in_(gone), ~held))


