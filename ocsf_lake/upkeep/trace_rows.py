"""Rows of a lake found by the event's `metadata.uid`, or by the record that they came from.

Values are parameters of queries, never part of them. By record, the ledger says in which partitions its rows can be:
those of the batch that read the object, of the batches of other sources' records in it, and of replays of its source.
Compaction moves rows within a partition only. By `metadata.uid` all files of the chosen tables and partitions are
looked through, some hundred at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from ocsf_lake.catalogs import definitions
from ocsf_lake.config import Settings
from ocsf_lake.lake import Lake
from ocsf_lake.ledger import traced
from ocsf_lake.ledger.files import Chosen, LakeFile
from ocsf_lake.query import query
from ocsf_lake.query.known_files import KnownFiles
from ocsf_lake.storage import layout
from ocsf_lake.storage.layout import Partition
from ocsf_mappers import duck, registry, sqltext

MOST_ROWS = 100
"""So many rows are shown; more of them are counted."""

FILES_AT_ONCE = 500
"""One query looks through so many files."""

_PLACE = "source_object, source_etag, source_record, mapper_version"


@dataclass(frozen=True)
class Narrowed:
    """Where to look.

    Args:
        table: Only in this table; None for all.
        first: First day of events, UTC; rows without a time are looked through always.
        last: Last day, included.
        accounts: Only these; empty for all.
        regions: Only these; empty for all.
    """

    table: str | None = None
    first: date | None = None
    last: date | None = None
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    def has(self, values: tuple[str, ...]) -> bool:
        """Whether rows of a partition with these values are looked through."""
        region, account, day = values
        first = f"{self.first:%Y%m%d}" if self.first else ""
        last = f"{self.last:%Y%m%d}" if self.last else "99999999"
        return (
            (day == layout.UNKNOWN or first <= day <= last)
            and (not self.accounts or account in self.accounts)
            and (not self.regions or region in self.regions)
        )


@dataclass(frozen=True)
class Row:
    """One row of a lake.

    Args:
        file: The file it is in.
        partition: Of the file.
        number: Of the row in the file, from 0.
        source_object: URI of the raw object.
        source_etag: Its ETag when it was read.
        source_record: Number of the record in it.
        mapper_version: By which it was mapped.
    """

    file: LakeFile
    partition: Partition
    number: int
    source_object: str
    source_etag: str
    source_record: int
    mapper_version: str

    @property
    def batch_id(self) -> str:
        """The batch, or merge, that wrote the file."""
        return layout.batch_of(self.file.path)


@dataclass
class Rows:
    """Rows that were found.

    Args:
        rows: The first of them, see `MOST_ROWS`.
        total: How many there are.
        files: Files that were looked through.
        tables: Tables that were looked through.
    """

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    files: int = 0
    tables: list[str] = field(default_factory=list)


def by_uid(lake: Lake, uid: str, where: Narrowed, searching: Callable[[int], None]) -> Rows:
    """The rows whose `metadata.uid` this is.

    Args:
        lake: The lake.
        uid: What is looked for.
        where: Where.
        searching: Called with the number of files that are about to be looked through.

    Raises:
        duckdb.Error: A file is gone or damaged.
    """
    files = lake.files.of(_tables(where, where.has))
    searching(sum(map(len, files.values())))
    return _matching_rows(lake, files, "metadata.uid = $uid", {"uid": uid})


def by_record(lake: Lake, uri: str, number: int, where: Narrowed) -> Rows:
    """The rows that came from this record.

    Raises:
        duckdb.Error: A file is gone or damaged.
    """
    chosen = _tables(where, where.has)
    partitions = traced.partitions(lake.ledger.engine, uri)
    if partitions is not None:
        chosen = {table: _among(partitions[table], where) for table in chosen if table in partitions}
    given = {"object": uri, "record": number}
    return _matching_rows(lake, lake.files.of(chosen), "source_object = $object AND source_record = $record", given)


def event(lake: Lake, row: Row) -> pa.Table:
    """One row with all of its columns."""
    with _connected(lake, [row.file]) as connection:
        return connection.sql(
            "SELECT * EXCLUDE (file_row_number) FROM read_parquet([$path], hive_partitioning = false, "
            "file_row_number = true) WHERE file_row_number = $number",
            params={"path": _place(lake, row.file), "number": row.number},
        ).to_arrow_table()


def asked(settings: Settings, sql: str, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of a query of the lake, with parameters."""
    with query.connected(settings, sql, parameters=given) as connection:
        return connection.execute(sql, given).fetchall()


# -- which partitions -------------------------------------------------------------------------------------------------
def _tables(where: Narrowed, chosen: Chosen) -> dict[str, Chosen]:
    names = registry.tables() if where.table is None else [where.table]
    return dict.fromkeys(names, chosen)


def _among(partitions: set[str], where: Narrowed) -> Chosen:
    return lambda values: "/".join(values) in partitions and where.has(values)


# -- looking through files --------------------------------------------------------------------------------------------
def _matching_rows(
    lake: Lake, files_by_table: Mapping[str, Sequence[LakeFile]], condition: str, given: Mapping[str, object]
) -> Rows:
    matched = Rows()
    for table, files in files_by_table.items():
        looked = [len(some) for some in _groups(files) if _look(lake, some, condition, given, matched)]
        if looked:
            matched.tables.append(table)
            matched.files += sum(looked)
    return matched


def _groups(files: Iterable[LakeFile]) -> Iterator[list[LakeFile]]:
    """Files of the same columns, not too many at once."""
    by_version: dict[str | None, list[LakeFile]] = {}
    for file in files:
        by_version.setdefault(file.version, []).append(file)
    for some in by_version.values():
        for start in range(0, len(some), FILES_AT_ONCE):
            yield some[start : start + FILES_AT_ONCE]


def _look(lake: Lake, files: list[LakeFile], condition: str, given: Mapping[str, object], matched: Rows) -> bool:
    """Looks through some files; False where their events have no such attribute."""
    by_name: dict[str, list[LakeFile]] = {}
    for file in files:
        by_name.setdefault(file.path.rpartition("/")[2], []).append(file)
    with _connected(lake, files) as connection:
        paths = sqltext.texts([_place(lake, file) for file in files])
        try:
            rows = connection.execute(
                f"SELECT filename, file_row_number, {_PLACE}, count(*) OVER () FROM read_parquet({paths}, "
                "hive_partitioning = false, filename = true, file_row_number = true) "
                f"WHERE {condition} ORDER BY filename, file_row_number LIMIT {MOST_ROWS}",
                dict(given),
            ).fetchall()
        except duckdb.BinderException:
            return False
    matched.total += rows[0][-1] if rows else 0
    for name, number, *facts, _ in rows[: MOST_ROWS - len(matched.rows)]:
        file = next(file for file in by_name[name.rpartition("/")[2]] if name.endswith(f"/{file.path}"))
        partition = definitions.partition_of(layout.folder_of(file.path))
        assert partition is not None
        matched.rows.append(Row(file, partition, number, *facts))
    return True


def _place(lake: Lake, file: LakeFile) -> str:
    return lake.store.path(file.path) if lake.store.is_local else lake.store.uri(file.path)


@contextmanager
def _connected(lake: Lake, files: Iterable[LakeFile]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duck.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if not lake.store.is_local:
            filesystem = KnownFiles(lake.store.fs)
            filesystem.add({lake.store.uri(file.path): file.bytes for file in files})
            connection.register_filesystem(filesystem)
        yield connection
