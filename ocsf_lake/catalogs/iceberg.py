"""Apache Iceberg: the same Parquet files as tables with snapshots, through pyiceberg. Nothing is rewritten.

A batch is one commit per table, with the batch's id among the snapshot's properties. A file that a table has already is
not added again, and a commit that lost to another one, or whose answer was lost, is begun again from what the table
holds by then; pyiceberg's own retry would repeat the addition without that look, so it is switched off.

Where a catalog decides where its tables lie, `ocsf_lake.catalogs.iceberg_copied` copies rows there instead.

Rows in quarantine are not in Iceberg: their partition keys stand in paths only, which Iceberg does not read.
Source: https://iceberg.apache.org/spec/
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
import sqlalchemy as sa  # noqa: TID251 - of Iceberg's own catalog
from pyiceberg import exceptions as iceberg
from pyiceberg.catalog import Catalog as PyIcebergCatalog
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update import TableUpdate
from pyiceberg.table.update.snapshot import _OverwriteFiles
from pyiceberg.transforms import DayTransform, IdentityTransform, Transform
from pyiceberg.typedef import Record

from ocsf_lake.catalogs import iceberg_expiry
from ocsf_lake.catalogs.base import Definition, Drift, ExpectedState, Expired, HeldFile, Kind
from ocsf_lake.catalogs.iceberg_connection import FOLDER, NOT_THERE, translated
from ocsf_lake.storage import layout
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.store import Store
from ocsf_mappers import registry
from ocsf_mappers.errors import RetriableError, WriteError
from ocsf_mappers.ocsf import tables

BATCH = "ocsf-lake.batch-id"
"""Property of a snapshot: the batch whose files it added."""

ATTEMPTS, UNANSWERED = 12, 3
"""How often a commit is tried against others, and how often where the catalog does not answer."""

DELETED = "another engine has deleted rows of the table in Iceberg; in other files they would come back"
GONE = (
    "files of the table were taken out of Iceberg by another engine, so rows of the merged ones would be there twice; "
    "`ocsf-lake catalog sync` puts that right"
)

PARTITIONED_BY: tuple[tuple[str, str, Transform[Any, Any]], ...] = (
    ("region", "region", IdentityTransform()), ("accountid", "accountid", IdentityTransform()),
    ("day", "time_dt", DayTransform()),
)  # fmt: skip
"""Name of a partition's field, the column that it is made of, and how."""

PROPERTIES = {
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.parquet.compression-codec": "zstd",
}


class _Replace(_OverwriteFiles):
    """A snapshot whose files have the same rows as those before; pyiceberg has none, but for its parts."""

    def _summary(self, snapshot_properties: dict[str, str] | None = None) -> Summary:
        summary = super()._summary(snapshot_properties or {})
        return Summary(Operation.REPLACE, **summary.additional_properties)


class IcebergCatalog:
    """The lake's tables in Iceberg.

    Args:
        catalog: Where tables are known.
        namespace: Namespace of the tables; it is made when there is none.
        store: The lake's files.
        sleep: How to wait, in seconds.
    """

    name = "iceberg"

    def __init__(
        self, catalog: PyIcebergCatalog, namespace: str, store: Store, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.catalog = catalog
        self.namespace = namespace
        self.store = store
        self.sleep = sleep
        self._lock = threading.Lock()
        self._checked: dict[str, Definition] = {}

    def close(self) -> None:
        """Closes connections."""
        self.catalog.close()

    @staticmethod
    def holds(definition: Definition) -> bool:
        """Whether a table can be in Iceberg: its partition keys but the day are columns."""
        return definition.keys == tables.PARTITION_KEYS

    # -- tables -------------------------------------------------------------------------------------------------------
    def create_or_evolve(self, definition: Definition) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`; asked once per table and process."""
        with self._lock:
            if not self.holds(definition) or self._checked.get(definition.name) == definition:
                return
            self._retried(definition.name, lambda: self._evolved(definition))
            self._checked[definition.name] = definition

    def _evolved(self, definition: Definition) -> None:
        table = self._table(definition.name)
        if table is None:
            self._make_namespace()
            try:
                self._create(definition)
            except iceberg.TableAlreadyExistsError as error:
                raise iceberg.CommitFailedException(str(error)) from error
            return
        schema = self._columns(definition)
        if not _lacking(table, schema):
            return
        try:
            with table.update_schema() as update:
                update.union_by_name(schema)
        except (iceberg.ValidationError, ValueError) as error:
            raise WriteError(f"the table cannot take the lake's columns: {error}", table=definition.name) from error

    def _make_namespace(self) -> None:
        try:
            self.catalog.create_namespace_if_not_exists(self.namespace)
        except sa.exc.IntegrityError as error:  # another process was quicker, and pyiceberg did not look again
            raise iceberg.CommitFailedException(str(error)) from error

    def _columns(self, definition: Definition) -> pa.Schema:
        """The columns that a table has."""
        return definition.schema

    def _create(self, definition: Definition) -> None:
        schema = Schema.model_validate(tables.iceberg_schema(registry.table(definition.name)))
        mapping = {"schema.name-mapping.default": schema.name_mapping.model_dump_json()}
        spec = PartitionSpec(*(
            PartitionField(schema.find_field(column).field_id, PARTITION_FIELD_ID_START + number, transform, name)
            for number, (name, column, transform) in enumerate(PARTITIONED_BY)
        ))  # fmt: skip
        self.catalog.create_table(
            (self.namespace, definition.name), schema, location=self._folder(definition.name), partition_spec=spec,
            properties={**PROPERTIES, **mapping},
        )  # fmt: skip

    def _folder(self, name: str) -> str:
        """Where a table's metadata lies."""
        return self.store.uri(f"{FOLDER}/{name}")

    def _table(self, name: str) -> Table | None:
        try:
            return self.catalog.load_table((self.namespace, name))
        except NOT_THERE:
            return None

    # -- files --------------------------------------------------------------------------------------------------------
    def register(
        self, batch_id: str, files: Sequence[FileInfo | HeldFile], earlier: Sequence[Partition] = ()
    ) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`; one commit per table."""
        with self._lock:
            names = {file.partition.table for file in files} & self._checked.keys()
            if earlier:
                names |= {partition.table for partition in earlier} & set(self._names())
            for name in sorted(names):
                table_files = [file for file in files if file.partition.table == name]
                table_earlier = [partition for partition in earlier if partition.table == name]
                self._retried(name, partial(self._set_batch, name, batch_id, table_files, table_earlier))

    def _set_batch(
        self, name: str, batch_id: str, files: Sequence[FileInfo | HeldFile], earlier: Sequence[Partition] = ()
    ) -> None:
        """Makes a table have these files of a batch, and no others.

        Its others are looked for in the partitions of these and in those elsewhere; in all of them while the table
        knows the batch's snapshot, and where none are given, as when the batch is taken out.
        """
        table = self._loaded(name)
        partitions = [*(file.partition for file in files), *earlier]
        keys = None if _has_snapshot(table, batch_id) else {partition.values[:2] for partition in partitions} or None
        current = {path: file for path, file in _data_files(table, keys).items() if layout.batch_of(path) == batch_id}
        self._commit(table, {BATCH: batch_id}, files, current, list(current))

    def _commit(
        self,
        table: Table,
        properties: dict[str, str],
        files: Sequence[FileInfo | HeldFile],
        current: dict[str, DataFile],
        replaced: Sequence[str],
    ) -> None:
        """One commit: adds the files that the table lacks, takes out those to be replaced that are not among them."""
        by_uri = {self.store.uri(file.path): file for file in files}
        added = [self._data_file(table, uri, by_uri[uri]) for uri in sorted(by_uri.keys() - current.keys())]
        removed = [current[path] for path in replaced if path not in by_uri]
        if not added and not removed:
            return
        commit(table, properties, removed, added)

    def _data_file(self, table: Table, uri: str, file: FileInfo | HeldFile) -> DataFile:
        if file.partition.values[2] != layout.UNKNOWN:
            try:
                return parquet_file_to_data_file(io=table.io, table_metadata=table.metadata, file_path=uri)
            except ValueError as error:
                raise WriteError(f"Iceberg cannot take the file: {error}", file=uri) from error
        # Times before 1970 and after 9999: of many days, and not all within what statistics can express.
        region, account, _ = file.partition.values
        return DataFile.from_args(
            content=DataFileContent.DATA, file_path=uri, file_format=FileFormat.PARQUET,
            partition=Record(region, account, None), record_count=file.rows, file_size_in_bytes=file.bytes,
            spec_id=table.metadata.default_spec_id, sort_order_id=None, equality_ids=None, key_metadata=None,
            split_offsets=None, column_sizes={}, value_counts={}, null_value_counts={}, nan_value_counts={},
            lower_bounds={}, upper_bounds={},
        )  # fmt: skip

    def drop(self, batch_id: str) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`; every table is looked at."""
        with self._lock:
            for name in self._names():
                self._retried(name, lambda name=name: self._set_batch(name, batch_id, []))  # type: ignore[misc]

    def replace(self, batch_id: str, old: Sequence[HeldFile], new: Sequence[HeldFile]) -> None:
        """Takes old files out and new ones with the same rows in, of any number of partitions, by one snapshot a table.

        Raises:
            WriteError: The catalog refused, another engine has deleted rows, which would come back, or it has rewritten
                some of the old files, whose rows would be there twice.
            RetriableError: The catalog is busy or out of reach.
        """
        with self._lock:
            for name in sorted({file.partition.table for file in new} & self._checked.keys()):
                self._retried(name, lambda name=name: self._replace(name, batch_id, old, new))  # type: ignore[misc]

    def _replace(self, name: str, batch_id: str, old: Sequence[HeldFile], new: Sequence[HeldFile]) -> None:
        table = self._loaded(name)
        current = _data_files(table)
        by_uri = {self.store.uri(file.path): file for file in new}
        added = [self._data_file(table, uri, by_uri[uri]) for uri in sorted(by_uri.keys() - current.keys())]
        removed = [current[uri] for file in old if (uri := self.store.uri(file.path)) in current and uri not in by_uri]
        if not added and not removed:
            return  # done before a crash
        if _has_deletes(table):
            raise WriteError(DELETED, table=name)
        paths = [file.path for file in old if file.partition.table == name]
        if missing := sorted(path for path in paths if self.store.uri(path) not in current.keys() | by_uri.keys()):
            raise WriteError(f"{GONE}; the first of {len(missing):,} is {missing[0]}", table=name)
        with _Staged(table) as transaction, _Replace(
            operation=Operation.OVERWRITE, transaction=transaction, io=table.io,
            snapshot_properties={BATCH: batch_id},
        ) as producer:  # fmt: skip
            for data_file in removed:
                producer.delete_data_file(data_file)
            for data_file in added:
                producer.append_data_file(data_file)

    def empty(self, batch_id: str, partitions: Sequence[Partition]) -> None:
        """Takes all files of partitions out, by one snapshot a table, whichever engine has written them."""
        with self._lock:
            for name in sorted({item.table for item in partitions}):
                own = {item for item in partitions if item.table == name}
                self._retried(name, partial(self._empty, name, batch_id, own))

    def _empty(self, name: str, batch_id: str, partitions: set[Partition]) -> None:
        table = self._table(name)
        if table is None:
            return
        current = _data_files(table, {item.values[:2] for item in partitions})
        removed = [
            file for file in current.values()
            if file.content is DataFileContent.DATA and _partition(name, file) in partitions
        ]  # fmt: skip
        if not removed:
            return  # done before a crash
        with _Staged(table) as transaction, _OverwriteFiles(
            operation=Operation.DELETE, transaction=transaction, io=table.io, snapshot_properties={BATCH: batch_id},
        ) as producer:  # fmt: skip
            for data_file in removed:
                producer.delete_data_file(data_file)

    def unemptiable(self, definition: Definition) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`; rows that another engine has deleted go with the others."""

    def in_snapshots(self, table: str) -> set[str]:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        with translated(table, self._folder(table)):
            loaded = self._table(table)
            if loaded is None:
                return set()
            return {
                entry.data_file.file_path
                for snapshot in loaded.snapshots()
                for manifest in snapshot.manifests(loaded.io)
                for entry in manifest.fetch_manifest_entry(loaded.io, discard_deleted=True)
            }

    def expire(self, table: str, before: datetime, *, dry_run: bool = False) -> Expired | str | None:
        """See `ocsf_lake.catalogs.base.Catalog`; metadata that no snapshot names is removed once it is a day old."""
        done: list[Expired] = []

        def expire() -> None:
            if (loaded := self._table(table)) is not None:
                done.append(iceberg_expiry.expire(loaded, self._folder(table), before, dry_run=dry_run))

        with self._lock:
            self._retried(table, expire)
        return done[0] if done else None

    def irreplaceable(self, definition: Definition) -> str | None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        with translated(definition.name, self._folder(definition.name)):
            table = self._table(definition.name) if self.holds(definition) else None
            return DELETED if table is not None and _has_deletes(table) else None

    def names(self) -> set[str] | None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        try:
            with translated(self.namespace, self.store.uri(FOLDER)):
                return {identifier[-1] for identifier in self.catalog.list_tables(self.namespace)}
        except NOT_THERE:
            return set()
        except NotImplementedError:  # a REST catalog declares which endpoints it has
            return None

    def _names(self) -> list[str]:
        names = self.names()
        if names is None:
            return sorted(name for name in registry.tables() if self._table(name) is not None)
        return sorted(names & registry.tables().keys())

    def partitions(self, table: str) -> list[Partition]:
        """The partitions of a table, sorted; the day is the one that Iceberg keeps."""
        with translated(table, self._folder(table)):
            loaded = self._table(table)
            return sorted({_partition(table, file) for file in _data_files(loaded).values()}) if loaded else []

    # -- drift --------------------------------------------------------------------------------------------------------
    def check(self, definition: Definition, expected: ExpectedState) -> list[Drift]:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        if not self.holds(definition):
            return []
        name, ids = definition.name, (self.name, definition.name)
        with translated(name, self._folder(name)):
            table = self._table(name)
            if table is None:
                reason = "no engine sees it; sync makes it"
                return [Drift(*ids, Kind.TABLE_MISSING, name, reason)] if expected.files(name) else []
            drifts = [
                Drift(*ids, Kind.TABLE_SCHEMA, column, "missing or of another type; sync adds what is missing")
                for column in _lacking(table, self._columns(definition))
            ]
            return drifts + self._check_rows(table, name, expected)

    def _check_rows(self, table: Table, name: str, expected: ExpectedState) -> list[Drift]:
        ids = (self.name, name)
        current = set(_data_files(table))
        files = expected.files(name)
        by_uri = {self.store.uri(file.path): file.path for file in files}
        missing = by_uri.keys() - current
        if missing and (later := self._table(name)) is not None:
            missing -= _data_files(later).keys()  # of batches that were done since
        reason = "no engine sees its rows; sync adds it"
        drifts = [Drift(*ids, Kind.FILE_UNREGISTERED, by_uri[uri], reason) for uri in missing]
        reason = "engines see rows that no finished batch has counted; sync takes it out"
        drifts += [
            Drift(*ids, Kind.FILE_UNKNOWN, uri, reason) for uri in current - by_uri.keys() if not expected.is_open(uri)
        ]
        return drifts

    def repair(self, definition: Definition, expected: ExpectedState) -> None:
        """See `Catalog`; a column of another type is not repaired, as its field id has a type for ever."""
        if not self.check(definition, expected):
            return
        self.create_or_evolve(definition)
        with self._lock:
            self._retried(definition.name, lambda: self._evolved(definition))
            self._repair_rows(definition.name, expected)

    def _repair_rows(self, name: str, expected: ExpectedState) -> None:
        self._retried(name, lambda: self._set_all(name, expected))

    def _set_all(self, name: str, expected: ExpectedState) -> None:
        table = self._loaded(name)
        current = _data_files(table)
        files = expected.files(name)
        uris = {self.store.uri(file.path) for file in files}
        unknown = [path for path in current if path not in uris and not expected.is_open(path)]
        # One that is lost cannot be added, which the check of storage reports; the others can.
        there = [
            file for file in files
            if self.store.uri(file.path) in current or self.store.size(file.path) is not None
        ]  # fmt: skip
        self._commit(table, {"ocsf-lake.repair": "true"}, there, current, unknown)

    # -- commits ------------------------------------------------------------------------------------------------------
    def _loaded(self, name: str) -> Table:
        table = self._table(name)
        if table is None:
            self._checked.pop(name, None)
            raise WriteError("the table is gone from Iceberg; `ocsf-lake catalog sync` recreates it", table=name)
        return table

    def _retried(self, table: str, act: Callable[[], None]) -> None:
        """Does it until the commit wins against the others; each time from the table as it is by then."""
        unanswered = 0
        for attempt in range(ATTEMPTS):
            try:
                with translated(table, self._folder(table)):
                    act()
                return
            except (iceberg.CommitFailedException, iceberg.WaitingForLockException, iceberg.ValidationException):
                pass
            except RetriableError:
                # Whether it was done is not known: the next attempt looks.
                unanswered += 1
                if unanswered == UNANSWERED:
                    raise
            # By chance, so that two that lose to each other do not meet again.
            self.sleep(min(0.05 * 2**attempt, 5) * random.uniform(0.5, 1.5))
        raise RetriableError("the table is committed to by others again and again", table=table)


def _data_files(table: Table, keys: set[tuple[str, ...]] | None = None) -> dict[str, DataFile]:
    """The data files of a table's current snapshot by path.

    Args:
        table: The table.
        keys: Only manifests that may hold one of these regions and accounts are read; None reads all.
    """
    snapshot = table.current_snapshot()
    files: dict[str, DataFile] = {}
    for manifest in snapshot.manifests(table.io) if snapshot else ():
        if keys is not None and not any(_may_hold(manifest, key) for key in keys):
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            files[entry.data_file.file_path] = entry.data_file
    return files


class _Staged(Transaction):
    """A transaction that knows what the table would be.

    Asked for any part of that, pyiceberg applies the updates again and copies each of more than a thousand fields; a
    commit asks a dozen times.
    """

    _cached: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        base, updates = self._table.metadata, self._updates
        if self._cached is None or self._cached[0] is not base or self._cached[1] is not updates:
            self._cached = base, updates, super().table_metadata
        return self._cached[2]


def commit(table: Table, properties: Mapping[str, str], removed: Iterable[DataFile], added: Iterable[DataFile]) -> None:
    """Takes files out of a table and puts others in, in one snapshot."""
    removed = list(removed)
    with _Staged(table) as transaction:
        update = transaction.update_snapshot(snapshot_properties=dict(properties))
        with update.overwrite() if removed else update.merge_append() as producer:
            for file in removed:
                producer.delete_data_file(file)
            for file in added:
                producer.append_data_file(file)


def _has_snapshot(table: Table, batch_id: str) -> bool:
    """Whether a table knows the snapshot that added a batch; it expires some days later."""
    return any(snapshot.summary and snapshot.summary.get(BATCH) == batch_id for snapshot in table.snapshots())


def _has_deletes(table: Table) -> bool:
    """Whether another engine has deleted rows, which its files of deletions name by the files that they stand in."""
    snapshot = table.current_snapshot()
    manifests = snapshot.manifests(table.io) if snapshot else []
    return any(manifest.content is not ManifestContent.DATA for manifest in manifests)


def _may_hold(manifest: Any, key: tuple[str, ...]) -> bool:
    """Whether a manifest's bounds of region and account leave room for these."""
    for value, bounds in zip(key, manifest.partitions or (), strict=False):
        if bounds.lower_bound is not None and not bounds.lower_bound <= value.encode() <= bounds.upper_bound:
            return False
    return True


def _partition(table: str, file: DataFile) -> Partition:
    region, account, day = (file.partition[number] for number in range(3))
    # Another engine may have added rows without a region or an account.
    return Partition(table, (region or layout.UNKNOWN, account or layout.UNKNOWN, layout.event_day(day)))


def _lacking(table: Table, expected: pa.Schema) -> list[str]:
    """Columns that the table has not, or not with all members, or with another type."""
    types = {field.name: field.type for field in table.schema().as_arrow()} if table.schema().fields else {}
    return [field.name for field in expected if field.name not in types or not _has(types[field.name], field.type)]


def _has(actual: Any, expected: Any) -> bool:
    if pa.types.is_struct(expected):
        members = {field.name: field.type for field in actual} if pa.types.is_struct(actual) else {}
        return all(field.name in members and _has(members[field.name], field.type) for field in expected)
    if pa.types.is_list(expected):
        is_list = pa.types.is_list(actual) or pa.types.is_large_list(actual)
        return is_list and _has(actual.value_type, expected.value_type)
    if pa.types.is_map(expected):
        return bool(pa.types.is_map(actual))
    if pa.types.is_string(expected):
        return bool(pa.types.is_string(actual) or pa.types.is_large_string(actual))
    return bool(actual == expected)
