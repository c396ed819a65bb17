"""What a catalog does, and several of them as one. What is not registered is not seen by its readers.

The lake's own queries read the files that the ledger knows. Glue and Iceberg get them before the ledger does.
Every call can be repeated, so a run that died between two of them is repaired by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import pyarrow as pa

from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_mappers.errors import SchemaError, WriteError
from ocsf_mappers.ocsf import tables

Columns = Sequence[tuple[str, str]]
"""Name and Hive type of each column, in order."""


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


@dataclass(frozen=True, order=True)
class HeldFile:
    """A file that a finished batch wrote, as the ledger knows it.

    Args:
        path: Below the lake's root.
        partition: The table and partition it belongs to.
        batch_id: The batch.
        rows: Number of rows.
        bytes: Size.
        sha256: Checksum of its bytes, in hex.
    """

    path: str
    partition: Partition
    batch_id: str
    rows: int
    bytes: int
    sha256: str


class Kind(StrEnum):
    """What storage, ledger and catalogs can disagree in."""

    FILE_MISSING = "file missing"
    FILE_CHANGED = "file changed"
    FILE_FOREIGN = "file nobody wrote"
    FILE_RETURNED = "file written off is there"
    FILE_UNFINISHED = "file of an unfinished batch"
    FILE_UNREGISTERED = "file not registered"
    FILE_UNKNOWN = "file registered, not in the ledger"
    TABLE_MISSING = "table missing"
    TABLE_SCHEMA = "schema of the table"
    TABLE_UNKNOWN = "table of no source"
    PARTITION_MISSING = "partition missing"
    PARTITION_EMPTY = "partition without files"
    PARTITION_PLACE = "partition elsewhere"
    PARTITION_SCHEMA = "schema of the partition"
    PARTITION_UNREACHABLE = "partition out of the projection"


@dataclass(frozen=True, order=True)
class Drift:
    """One disagreement of storage, ledger and catalogs.

    Args:
        where: `storage`, or the name of the catalog.
        table: The table concerned.
        kind: Its kind.
        item: File, partition or column concerned.
        says: What it means, and what a repair does.
        harmless: Whether queries return the right rows nevertheless.
    """

    where: str
    table: str
    kind: Kind
    item: str
    says: str
    harmless: bool = False


@dataclass(frozen=True)
class Expired:
    """What became, or would become, of a table's earlier moments.

    Args:
        table: Its name.
        snapshots: Snapshots that expired.
        files: Files of metadata that were removed, as no snapshot names them.
        bytes: Their size.
    """

    table: str
    snapshots: int
    files: int
    bytes: int


class ExpectedState(Protocol):
    """What storage and catalogs should hold."""

    def files(self, table: str) -> list[HeldFile]:
        """The files of a table that finished batches wrote, read anew from the ledger."""

    def is_open(self, path: str) -> bool:
        """Whether a file belongs to a batch that is not finished, so that it is not judged yet."""

    def is_open_partition(self, partition: Partition) -> bool:
        """Whether some file in a partition's folder belongs to a batch that is not finished."""


class Catalog(Protocol):
    """What a catalog does; each call can be repeated without effect."""

    name: str

    def create_or_evolve(self, definition: Definition) -> None:
        """Makes a table, or adds the columns and members of structs that it lacks.

        Raises:
            WriteError: Something has another type in the catalog.
            RetriableError: The catalog is busy or out of reach.
        """

    def register(
        self, batch_id: str, files: Sequence[FileInfo | HeldFile], earlier: Sequence[Partition] = ()
    ) -> None:
        """Adds files and the partitions they are in; files of the batch that are not among them are taken out.

        Args:
            batch_id: The batch.
            files: All of its files.
            earlier: Partitions that an earlier attempt at the batch may have registered files in.

        Raises:
            WriteError: The catalog refused.
            RetriableError: The catalog is busy or out of reach.
        """

    def drop(self, batch_id: str) -> None:
        """Takes a batch's files out."""

    def replace(self, batch_id: str, old: Sequence[HeldFile], new: Sequence[HeldFile]) -> None:
        """Shows new files of partitions instead of old ones with the same rows, never both and never neither.

        Args:
            batch_id: What replaces them; when it has done so already nothing is done.
            old: All files of the partitions that are registered, but for those of batches that are not done.
            new: The files instead of them.

        Raises:
            WriteError: The catalog refused.
            RetriableError: The catalog is busy or out of reach.
        """

    def empty(self, batch_id: str, partitions: Sequence[Partition]) -> None:
        """Shows no rows of partitions any more, those of each at one moment; later files are registered as ever.

        Args:
            batch_id: What empties them; when it has done so already nothing is done.
            partitions: The partitions, whoever wrote what is in them.

        Raises:
            WriteError: The catalog refused.
            RetriableError: The catalog is busy or out of reach.
        """

    def unemptiable(self, definition: Definition) -> str | None:
        """Why partitions of a table cannot be emptied in this catalog; None where they can."""

    def in_snapshots(self, table: str) -> set[str]:
        """URIs of the files that a reader of an earlier moment of a table is given; none where there is no such."""

    def expire(self, table: str, before: datetime, *, dry_run: bool = False) -> Expired | str | None:
        """Forgets the moments of a table before another one, so that files which only they read can be removed.

        Args:
            table: Its name.
            before: The moment, with a zone; what the table is now stays, however long ago it became so.
            dry_run: Only report what would be done.

        Returns:
            What was done; why it is not done; None where there is no table, or none with moments.
        """

    def irreplaceable(self, definition: Definition) -> str | None:
        """Why files of a table cannot be replaced in this catalog; None where they can."""

    def names(self) -> set[str] | None:
        """The names of all tables that are there; None where we may not ask for them."""

    def partitions(self, table: str) -> list[Partition]:
        """The partitions of a table, sorted; none when there is no such table."""

    def check(self, definition: Definition, expected: ExpectedState) -> list[Drift]:
        """In what one table is not as it should be.

        Args:
            definition: The table.
            expected: What it should hold; asked after the catalog was, so that work going on meanwhile is no finding.
        """

    def repair(self, definition: Definition, expected: ExpectedState) -> None:
        """Makes one table as it should be; takes what `check` takes. Nothing else is touched."""

    def close(self) -> None:
        """Closes connections."""


def described(partition: Partition) -> str:
    """A partition's values in one word."""
    return "/".join(partition.values)


def widened(current: pa.DataType, new: pa.DataType) -> pa.DataType:
    """The type that has all members of two types: those known first, in their order.

    Raises:
        ValueError: Some part of them is of different types.
    """
    if pa.types.is_struct(new) and pa.types.is_struct(current):
        members = {field.name: field.type for field in current}
        for field in new:
            members[field.name] = widened(members[field.name], field.type) if field.name in members else field.type
        return pa.struct([pa.field(name, kind) for name, kind in members.items()])
    if pa.types.is_list(new) and pa.types.is_list(current):
        return pa.list_(widened(current.value_type, new.value_type))
    if new != current:
        raise ValueError(f"{current} is not {new}")
    return current


def widened_columns(table: str, current: Columns, new: Columns) -> list[tuple[str, str]]:
    """Name and Hive type of the columns of both; known ones keep their place.

    Raises:
        WriteError: A column has another type already.
    """
    columns = dict(current)
    for name, kind in new:
        before = columns.get(name, kind)
        if before == kind:
            columns[name] = kind
            continue
        try:
            columns[name] = tables.hive_type(widened(tables.parse_hive_type(before), tables.parse_hive_type(kind)))
        except (ValueError, SchemaError) as error:
            raise WriteError(
                f"column {name} is {before} in the catalog and {kind} in the lake's schema; members and columns can be "
                "added, not changed; `ocsf-lake catalog sync` puts the lake's type back",
                table=table,
            ) from error
    return list(columns.items())


def covers(actual: str | None, expected: str) -> bool:
    """Whether a column's Hive type, as a catalog knows it, has all that is wanted of it."""
    if actual is None or actual == expected:
        return actual == expected
    try:
        actual_type, expected_type = tables.parse_hive_type(actual), tables.parse_hive_type(expected)
        return _members(widened(actual_type, expected_type)) == _members(actual_type)
    except (ValueError, SchemaError):
        return False


def _members(kind: pa.DataType) -> int:
    """How many members a type has, at all levels."""
    if pa.types.is_list(kind):
        return _members(kind.value_type)
    return sum(1 + _members(field.type) for field in kind) if pa.types.is_struct(kind) else 0


class Catalogs:
    """The catalogs beside the ledger, as one.

    Args:
        all: Each of them; they are updated before the ledger, so that it never knows more than they do.
    """

    def __init__(self, all: Sequence[Catalog] = ()) -> None:
        self.all = tuple(all)

    def create_or_evolve(self, definition: Definition) -> None:
        """See `Catalog`."""
        for catalog in self.all:
            catalog.create_or_evolve(definition)

    def register(
        self, batch_id: str, files: Sequence[FileInfo | HeldFile], earlier: Sequence[Partition] = ()
    ) -> None:
        """See `Catalog`; tables that are not there, or lack columns, are put right first."""
        from ocsf_lake.catalogs.definitions import definition  # which needs this module

        for name in sorted({file.partition.table for file in files}) if self.all else ():
            self.create_or_evolve(definition(name))
        for catalog in self.all:
            catalog.register(batch_id, files, earlier)

    def drop(self, batch_id: str) -> None:
        """See `Catalog`."""
        for catalog in self.all:
            catalog.drop(batch_id)

    def close(self) -> None:
        """Closes all of them."""
        for catalog in self.all:
            catalog.close()
