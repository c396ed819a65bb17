"""Apache Iceberg where the catalog decides where tables lie, as Amazon S3 Tables does: rows are copied there.

Each row has one column more than in the lake: the name of the lake's file that it is a copy of, which begins with the
id of its batch. So what a table has of a batch is seen in its rows, whoever has rewritten its files since, and whatever
has become of the snapshot that added them: S3 Tables merges files, and forgets snapshots after some days.

What is written has names that derive from the lake's file. A run that repeats what another one died over overwrites
what that one has left, with the same rows, and adds it once.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg import expressions as pyiceberg_expressions
from pyiceberg.catalog import Catalog as PyIcebergCatalog
from pyiceberg.expressions import BooleanExpression
from pyiceberg.io.pyarrow import ArrowScan, pyarrow_to_schema, write_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionFieldValue, PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table, WriteTask
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import NestedField, StringType

from ocsf_lake.catalogs.base import Definition, Drift, ExpectedState, HeldFile, Kind, described
from ocsf_lake.catalogs.iceberg import BATCH, IcebergCatalog, _has_snapshot, _partition, commit
from ocsf_lake.storage import fetched, layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.parquet import STATISTICS
from ocsf_lake.storage.store import Store
from ocsf_mappers import registry, temporary
from ocsf_mappers.errors import WriteError
from ocsf_mappers.ocsf import tables

expressions: Any = pyiceberg_expressions
"""Made of a column and a value; mypy takes their other, pydantic's, signatures for theirs."""

LAKE_FILE = "lake_file"
"""The column beside the lake's own: name, without its folder, of the file that a row is a copy of."""

PIECE_BYTES = 64 << 20
"""Rows that are in memory for one file of a table, before compression."""
COPIED_AT_ONCE, ROWS_AT_ONCE = 8, 1 << 17
"""Files that are copied at the same time, and their rows altogether, so that memory holds them."""
READ_AT_ONCE = 8
"""Files whose column of names is read at the same time."""
FILES_PER_COMMIT = 100
"""Files that a repair copies before it commits them."""

ITSELF = "S3 Tables, or what is like it, compacts its tables itself, and has copies of the rows of the lake's files"
EXPIRES_ITSELF = "S3 Tables, or what is like it, forgets snapshots of its tables itself"

_METRICS = "write.metadata.metrics.column."
PROPERTIES = {
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "write.parquet.compression-codec": "zstd",
    # Bounds of hundreds of columns, most of unsorted text, would make the metadata larger than what it saves.
    "write.metadata.metrics.default": "none",
    **{f"{_METRICS}{name}": "full" for name in sorted({LAKE_FILE, *STATISTICS})},
}

_NAME = re.compile(r"[0-9a-f]{32}-\d{5}-\d+\.parquet")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY, _LAST_DAY = ((day - _EPOCH.date()).days for day in (date.min, date.max))

EVERY: BooleanExpression = expressions.AlwaysTrue()

Place = tuple[Partition, str]
"""A partition, and the name of a file of the lake in it; the empty one stands for rows that somebody else wrote."""


class CopiedCatalog(IcebergCatalog):
    """The lake's tables in Iceberg, as copies; see `IcebergCatalog`."""

    def __init__(
        self, catalog: PyIcebergCatalog, namespace: str, store: Store, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(catalog, namespace, store, sleep)
        self._copied: dict[object, list[DataFile]] = {}

    def _retried(self, table: str, act: Callable[[], None]) -> None:
        """Rows that one attempt has copied are not copied by the next, which would lose to quicker writers again."""
        try:
            super()._retried(table, act)
        finally:
            self._copied.clear()

    # -- tables -------------------------------------------------------------------------------------------------------
    def _columns(self, definition: Definition) -> pa.Schema:
        return definition.schema.append(pa.field(LAKE_FILE, pa.string()))

    def _create(self, definition: Definition) -> None:
        columns = Schema.model_validate(tables.iceberg_schema(registry.table(definition.name)))
        schema = Schema(
            *columns.fields, NestedField(columns.highest_field_id + 1, LAKE_FILE, StringType(), required=False)
        )
        keys: list[tuple[str, Any, str]] = [
            ("region", IdentityTransform(), "region"),
            ("accountid", IdentityTransform(), "accountid"),
            ("time_dt", DayTransform(), "day"),
        ]
        spec = PartitionSpec(
            *(
                PartitionField(schema.find_field(column).field_id, 1000 + number, transform, name)
                for number, (column, transform, name) in enumerate(keys)
            )
        )
        self.catalog.create_table(
            (self.namespace, definition.name), schema, partition_spec=spec, properties=PROPERTIES
        )

    def _folder(self, name: str) -> str:
        return f"{self.catalog.properties.get('warehouse', '')}/{self.namespace}/{name}"

    # -- rows ---------------------------------------------------------------------------------------------------------
    def _set_batch(
        self, name: str, batch_id: str, files: Sequence[FileInfo | HeldFile], earlier: Sequence[Partition] = ()
    ) -> None:
        table = self._loaded(name)
        start = f"{batch_id}-"
        where: BooleanExpression = expressions.StartsWith(LAKE_FILE, start)
        partitions = [*(file.partition for file in files), *earlier]
        if partitions and not _has_snapshot(table, batch_id):
            where = expressions.And(where, _within(partitions))
        actual = {place: rows for place, rows in _rows(table, where).items() if place[1].startswith(start)}
        self._put(table, {BATCH: batch_id}, actual, files)

    def _put(
        self, table: Table, properties: dict[str, str], actual: Mapping[Place, int],
        files: Sequence[FileInfo | HeldFile],
    ) -> None:  # fmt: skip
        """One commit, after which a table has the rows of these files and none of others that are there.

        Args:
            table: The table.
            properties: Of the snapshot.
            actual: How many rows it has of which files, as far as these may change.
            files: The files.
        """
        target = {_place(file): file.rows for file in files}
        wrong = {place for place in actual.keys() | target.keys() if actual.get(place, 0) != target.get(place, 0)}
        if not wrong:
            return
        outdated = wrong & actual.keys()
        removed, added = _without(table, outdated) if outdated else ([], [])
        missing = [file for file in files if _place(file) in wrong]
        largest = max((file.rows for file in missing), default=1)
        at_once = min(COPIED_AT_ONCE, max(1, ROWS_AT_ONCE // max(1, largest)))
        with ThreadPoolExecutor(at_once, thread_name_prefix="ocsf-lake") as pool:
            for copies in pool.map(lambda file: self._copies(table, file, instead=_place(file) in outdated), missing):
                added += copies
        commit(table, properties, removed, added)

    def _copies(self, table: Table, file: FileInfo | HeldFile, *, instead: bool = False) -> list[DataFile]:
        """Writes the rows of a file to where the table's are, under names that are the same each time.

        Args:
            table: The table.
            file: The file.
            instead: The table has other rows of it; its readers may be at files of these names, so they get others.

        Raises:
            LakeFileError: The file is gone or is not what was written.
            WriteError: The table lacks columns of the file.
        """
        metadata = table.metadata
        source = f"{file.path}#{file.sha256}" + (f"#{metadata.current_snapshot_id}" if instead else "")
        key = (metadata.table_uuid, metadata.current_schema_id, metadata.default_spec_id, source)
        if key not in self._copied:
            self._copied[key] = list(self._copy(table, file, uuid.uuid5(uuid.NAMESPACE_URL, source)))
        return self._copied[key]

    def _copy(self, table: Table, file: FileInfo | HeldFile, written: uuid.UUID) -> Iterator[DataFile]:
        name = _place(file)[1]
        with temporary.directory("iceberg") as folder:
            (path,) = fetched.fetch(self.store, [(file.path, file.sha256)], Path(folder))
            number = 0
            for rows in _pieces(path):
                rows = rows.append_column(LAKE_FILE, pa.repeat(pa.scalar(name, pa.string()), len(rows)))
                for key, day_rows in _by_day(table, file.partition, rows):
                    yield _written(table, key, day_rows, written, number)
                    number += 1

    def _replace(self, name: str, batch_id: str, old: Sequence[HeldFile], new: Sequence[HeldFile]) -> None:
        """For a compaction that began before the table was copied; none begins after it, see `irreplaceable`."""
        table = self._loaded(name)
        places = {_place(file) for file in (*old, *new) if file.partition.table == name}
        actual = {place: rows for place, rows in _rows(table, _of(places)).items() if place in places}
        self._put(table, {BATCH: batch_id}, actual, [file for file in new if file.partition.table == name])

    def irreplaceable(self, definition: Definition) -> str | None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        return ITSELF if self.holds(definition) else None

    def in_snapshots(self, table: str) -> set[str]:
        """None: what a table reads are copies."""
        return set()

    def expire(self, table: str, before: datetime, *, dry_run: bool = False) -> str:
        """Nothing: the service does it."""
        return EXPIRES_ITSELF

    # -- drift --------------------------------------------------------------------------------------------------------
    def _check_rows(self, table: Table, name: str, expected: ExpectedState) -> list[Drift]:
        ids = (self.name, name)
        result = []
        wrong = self._wrong(table, expected)
        # Looked at again: to read names takes a while, and batches that were done meanwhile are as they should be.
        actual = _rows(self._loaded(name), _of(wrong)) if wrong else Counter()
        file_by_place = {_place(file): file for file in expected.files(name)}
        for place in wrong:
            rows, file = actual[place], file_by_place.get(place)
            if file is None:
                if rows and not expected.is_open(place[1]):
                    item = f"{described(place[0])}/{place[1] or 'rows of no file of the lake'}"
                    reason = f"engines see {rows:,} rows that no finished batch has counted; sync takes them out"
                    result.append(Drift(*ids, Kind.FILE_UNKNOWN, item, reason))
            elif rows < file.rows:
                reason = f"engines see {rows:,} of its {file.rows:,} rows; sync copies it"
                result.append(Drift(*ids, Kind.FILE_UNREGISTERED, file.path, reason))
            elif rows > file.rows:
                reason = f"engines see {rows:,} rows of its {file.rows:,}; sync copies it again"
                result.append(Drift(*ids, Kind.FILE_UNKNOWN, file.path, reason))
        return result

    def _wrong(self, table: Table, expected: ExpectedState) -> list[Place]:
        """Places of which a table has other rows than it should have; what is not done yet may be among them."""
        actual = _rows(table)
        target = {_place(file): file.rows for file in expected.files(table.name()[-1])}
        return sorted(place for place in actual.keys() | target.keys() if actual[place] != target.get(place, 0))

    def _repair_rows(self, name: str, expected: ExpectedState) -> None:
        wrong = self._wrong(self._loaded(name), expected)
        for start in range(0, len(wrong), FILES_PER_COMMIT):
            self._repair_places(name, wrong[start : start + FILES_PER_COMMIT], expected)

    def _repair_places(self, name: str, places: Sequence[Place], expected: ExpectedState) -> None:
        try:
            self._retried(name, lambda: self._repair_some(name, places, expected))
        except fetched.LakeFileError:
            # One is gone for good, which the check of storage reports; the others can be repaired.
            half = len(places) // 2
            for part in (places[:half], places[half:]) if half else ():
                self._repair_places(name, part, expected)

    def _repair_some(self, name: str, places: Sequence[Place], expected: ExpectedState) -> None:
        # What should be there is asked after what is there: a batch that is done in between is not taken out.
        table = self._loaded(name)
        actual = _rows(table, _of(places))
        file_by_place = {_place(file): file for file in expected.files(name)}
        places = [place for place in places if place in file_by_place or not expected.is_open(place[1])]
        files = [file_by_place[place] for place in places if place in file_by_place]
        actual = Counter({place: actual[place] for place in places if place in actual})
        self._put(table, {"ocsf-lake.repair": "true"}, actual, files)


def _place(file: FileInfo | HeldFile) -> Place:
    return file.partition, file.path.rpartition("/")[2]


def _of(places: Iterable[Place]) -> BooleanExpression:
    """The rows of files of these names, in whichever partition."""
    names = {name for _, name in places}
    rows: BooleanExpression = expressions.In(LAKE_FILE, sorted(names))
    return expressions.Or(rows, expressions.IsNull(LAKE_FILE)) if "" in names else rows


def _within(partitions: Sequence[Partition]) -> BooleanExpression:
    """A condition that all rows of these partitions meet, and few others."""
    where: BooleanExpression
    regions, accounts, days = (sorted({partition.values[key] for partition in partitions}) for key in range(3))
    where = expressions.And(expressions.In("region", regions), expressions.In("accountid", accounts))
    if layout.UNKNOWN in days:
        return where
    first, last = (datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) for day in (days[0], days[-1]))
    # To the day's last moment: there is no day after that of 9999.
    last = last.replace(hour=23, minute=59, second=59, microsecond=999_999)
    where = expressions.And(where, expressions.GreaterThanOrEqual("time_dt", first.isoformat()))
    where = expressions.And(where, expressions.LessThanOrEqual("time_dt", last.isoformat()))
    return where


def _rows(table: Table, where: BooleanExpression = EVERY) -> Counter[Place]:
    """How many rows of which of the lake's files are in those files of a table that may have rows of a kind.

    The table's files are read only where metadata does not have it.
    """
    columns = table.schema()
    name = table.name()[-1]
    field = next((field.field_id for field in columns.fields if field.name == LAKE_FILE), None)
    scan = None
    if field is not None:
        # A name stands in very many rows.
        scan = ArrowScan(table.metadata, table.io, columns.select(LAKE_FILE), EVERY, dictionary_columns=(LAKE_FILE,))

    def count(task: FileScanTask) -> Counter[Place]:
        partition = _partition(name, task.file)
        if field is None or scan is None:
            return Counter({(partition, ""): task.file.record_count})
        if (only := _only(task, field)) is not None:
            return Counter({(partition, only): task.file.record_count})
        counts: Counter[Place] = Counter()
        for batch in scan.to_record_batches([task]):
            for value in pc.value_counts(batch.column(0)).to_pylist():
                counts[partition, value["values"] or ""] += value["counts"]
        return counts

    files = table.scan(row_filter=where if field is not None else EVERY).plan_files()
    with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="ocsf-lake") as pool:
        total: Counter[Place] = Counter()
        for counts in pool.map(count, files):
            total.update(counts)
        return total


def _only(task: FileScanTask, field: int) -> str | None:
    """The file of the lake that all rows of a table's file are of, where its bounds show it."""
    file = task.file
    least, most = ((bounds or {}).get(field) for bounds in (file.lower_bounds, file.upper_bounds))
    if task.delete_files or least is None or least != most or (file.null_value_counts or {}).get(field, 1):
        return None
    value = least.decode()
    return value if _NAME.fullmatch(value) else None


def _pieces(path: Path) -> Iterator[pa.Table]:
    """The rows of a file, so many row groups at a time that memory holds them."""
    with pq.ParquetFile(path) as file:
        groups: list[int] = []
        size = 0
        for number in range(file.metadata.num_row_groups):
            group_bytes = file.metadata.row_group(number).total_byte_size
            if groups and size + group_bytes > PIECE_BYTES:
                yield file.read_row_groups(groups)
                groups, size = [], 0
            groups.append(number)
            size += group_bytes
        if groups:
            yield file.read_row_groups(groups)


def _by_day(table: Table, partition: Partition, rows: pa.Table) -> Iterator[tuple[PartitionKey, pa.Table]]:
    """Rows by their day, each with the partition that Iceberg puts it into; those of one partition mostly have one."""
    region, account, day = partition.values
    if day != layout.UNKNOWN:
        number = (datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC) - _EPOCH).days
        yield _key(table, region, account, number), rows
        return
    days = rows["time_dt"].cast(pa.date32()).cast(pa.int32())
    # A folder is named after the day, and Python has no name for one before the year 1 or after 9999.
    days = pc.if_else(pc.and_(pc.greater_equal(days, _FIRST_DAY), pc.less_equal(days, _LAST_DAY)), days, None)
    for one in pc.unique(days).to_pylist():
        day_rows = rows.filter(pc.is_null(days) if one is None else pc.equal(days, one))
        yield _key(table, region, account, one), day_rows


def _key(table: Table, region: str, account: str, day: int | None) -> PartitionKey:
    values = zip(table.spec().fields, (region, account, day), strict=True)
    return PartitionKey([PartitionFieldValue(field, value) for field, value in values], table.spec(), table.schema())


def _without(table: Table, places: set[Place]) -> tuple[list[DataFile], list[DataFile]]:
    """The table's files that have rows of these, and new files of their other rows."""
    columns = table.schema()
    field = columns.find_field(LAKE_FILE).field_id
    scan = ArrowScan(table.metadata, table.io, columns, EVERY)
    by_partition: dict[Partition, set[str]] = {}
    for partition, name in places:
        by_partition.setdefault(partition, set()).add(name)
    removed, others = [], []
    for task in table.scan(row_filter=_of(places)).plan_files():
        names = by_partition.get(_partition(table.name()[-1], task.file), set())
        only = _only(task, field)
        if only in names:
            removed.append(task.file)
        if not names or only is not None:
            continue
        rows = scan.to_table([task])
        is_removed = pc.is_in(pc.fill_null(rows[LAKE_FILE], ""), pa.array(sorted(names), rows[LAKE_FILE].type))
        remaining = rows.filter(pc.invert(is_removed))
        if len(remaining) == len(rows):
            continue
        removed.append(task.file)
        if len(remaining):
            region, account, day = (task.file.partition[number] for number in range(3))
            written = uuid.uuid5(uuid.NAMESPACE_URL, f"{task.file.file_path}#{sorted(names)}")
            others.append(_written(table, _key(table, region, account, day), remaining, written, 0))
    return removed, others


def _written(table: Table, key: PartitionKey, rows: pa.Table, written: uuid.UUID, number: int) -> DataFile:
    """Writes one of the table's files; the same identifier and number give the same name."""
    try:
        schema = pyarrow_to_schema(rows.schema, name_mapping=table.schema().name_mapping)
    except ValueError as error:
        raise WriteError(f"the table in Iceberg lacks columns of the lake's file: {error}") from error
    task = WriteTask(written, number, schema, rows.to_batches(), partition_key=key)
    metadata = table.metadata
    if key.field_values[2].value is None:
        # pyiceberg fails at bounds that Python has no date for.
        timeless = {name: value for name, value in metadata.properties.items() if not name.startswith(_METRICS)}
        properties = {**timeless, f"{_METRICS}{LAKE_FILE}": "full"}
        metadata = metadata.model_copy(update={"properties": properties})
    (file,) = write_file(table.io, metadata, iter([task]))
    return file
