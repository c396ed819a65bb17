"""AWS Glue's Data Catalog, which Athena, Redshift and EMR read: external Parquet tables and their partitions.

A partition has columns of its own in Glue, and Athena refuses a partition whose columns differ in type from the table's
(HIVE_PARTITION_SCHEMA_MISMATCH); so whatever changes a table changes its partitions too, and a change that was
interrupted is marked in the table until it is finished.

Sources: https://docs.aws.amazon.com/glue/latest/webapi/API_BatchCreatePartition.html (at most 100),
https://docs.aws.amazon.com/glue/latest/webapi/API_BatchDeletePartition.html (at most 25),
https://docs.aws.amazon.com/athena/latest/ug/partition-projection-supported-types.html
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ocsf_lake.catalogs.base import (
    Definition,
    Drift,
    ExpectedState,
    HeldFile,
    Kind,
    covers,
    described,
    widened_columns,
)
from ocsf_lake.storage import layout, s3
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_mappers.errors import OcsfMappersError, RetriableError, WriteError

CREATED_AT_ONCE, UPDATED_AT_ONCE, DELETED_AT_ONCE = 100, 100, 25
REQUEST_BYTES = 1 << 20
"""A request holds fewer partitions where their columns are long."""

ATTEMPTS = 6
"""How often what was throttled, or changed by another one meanwhile, is asked again, waiting longer each time."""

BEHIND = "ocsf-lake.partitions-behind"
"""Parameter of a table whose partitions have not all got its columns yet."""

STORAGE = {
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "SerdeInfo": {
        "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
        "Parameters": {"serialization.format": "1"},
    },
    "Compressed": True,
}
PROJECTED = (
    "its table in Glue has partition projection, with which Athena ignores the place that a partition is registered "
    "with, so that it could not be led to other files; register partitions instead (setting glue_projection), or use "
    "Iceberg"
)
_TABLE_INPUT = frozenset(
    """
    Name Description Owner Retention StorageDescriptor PartitionKeys ViewOriginalText ViewExpandedText TableType
    Parameters TargetTable
    """.split()  # noqa: SIM905 - names as one reads them
)
_AGAIN = frozenset(
    """
    ThrottlingException InternalServiceException OperationTimeoutException ResourceNumberLimitExceededException
    ConcurrentModificationException ConcurrentRunsExceededException ResourceNotReadyException
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Projection:
    """How Athena may reckon partitions instead of asking Glue for them.

    Args:
        regions: Values of `region`; none means that each query has to name the region.
        accounts: Values of `accountid`; none means that each query has to name the account.
        since: First event day, `YYYYMMDD`.
    """

    regions: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    since: str = "20150101"

    def reaches(self, values: Sequence[str]) -> bool:
        """Whether a query can see this partition."""
        region, account, day = values
        return (
            (not self.regions or region in self.regions)
            and (not self.accounts or account in self.accounts)
            and day.isdigit()
            and day >= self.since
        )

    def parameters(self, location: str) -> dict[str, str]:
        """Parameters of a table in this location."""
        keys = {"region": self.regions, "accountid": self.accounts}
        template = "region=${region}/accountId=${accountid}/eventDay=${eventday}"
        parameters = {
            "projection.enabled": "true",
            "projection.eventday.type": "date",
            "projection.eventday.format": "yyyyMMdd",
            "projection.eventday.range": f"{self.since},NOW+1DAYS",
            "projection.eventday.interval": "1",
            "projection.eventday.interval.unit": "DAYS",
            "storage.location.template": f"{location}/{template}",
        }
        for key, values in keys.items():
            parameters[f"projection.{key}.type"] = "enum" if values else "injected"
            if values:
                parameters[f"projection.{key}.values"] = ",".join(values)
        return parameters


@dataclass(frozen=True)
class Place:
    """Which Glue, and what in it.

    Args:
        database: Name of the database; it is made when there is none.
        catalog_id: Account that owns the Data Catalog; None for our own.
        endpoint: URL of a service other than AWS's own.
        access: Role and region, as for the lake's files.
        projection: For tables with very many partitions; None to register each.
    """

    database: str
    catalog_id: str | None = None
    endpoint: str | None = None
    access: Access = field(default_factory=Access)
    projection: Projection | None = None


class GlueCatalog:
    """The lake's tables in Glue.

    Args:
        place: Which Glue, and what in it.
        store: The lake's files, for their locations.
        glue: A client of Glue.
        sleep: How to wait, in seconds.
    """

    name = "glue"

    def __init__(self, place: Place, store: Store, glue: Any, sleep: Callable[[float], None] = time.sleep) -> None:
        self.place = place
        self.store = store
        self.glue = glue
        self.sleep = sleep
        self._lock = threading.Lock()
        self._checked: dict[str, Definition] = {}
        self._columns: dict[str, list[dict[str, str]]] = {}

    def close(self) -> None:
        """Closes connections."""
        self.glue.close()

    # -- tables -------------------------------------------------------------------------------------------------------
    def create_or_evolve(self, definition: Definition) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`; Glue is asked once per table and process."""
        with self._lock:
            if self._checked.get(definition.name) == definition:
                return
            self._put_table(definition, lambda current: widened_columns(definition.name, current, definition.columns))
            self._checked[definition.name] = definition

    def _put_table(
        self, definition: Definition, columns_of: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
    ) -> None:
        """Makes a table, or gives it other columns, and its partitions with it."""
        for attempt in range(ATTEMPTS):
            table = self._table(definition.name)
            if table is None:
                columns = columns_of([])
                if self._created(definition, columns):
                    self._columns[definition.name] = _glue_columns(columns)
                    return
                continue
            current = [(item["Name"], item["Type"]) for item in table["StorageDescriptor"]["Columns"]]
            columns = columns_of(current)
            self._columns[definition.name] = _glue_columns(columns)
            parameters = {**table.get("Parameters", {}), **self._parameters(definition)}
            changed = columns != current
            if changed or parameters != table.get("Parameters", {}):
                mark = {BEHIND: "true"} if changed else {}
                if not self._updated(definition.name, table, columns, {**parameters, **mark}):
                    self._wait(attempt)
                    continue
            if changed or BEHIND in parameters:
                self._bring_partitions(definition.name)
                self._finish(definition.name)
            return
        raise RetriableError("the table is changed by others again and again", table=definition.name)

    def names(self) -> set[str] | None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        try:
            return {item["Name"] for item in self._paged("get_tables", "TableList")}
        except _AbsentError:
            return set()
        except WriteError:
            return None

    def _table(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._call("get_table", Name=name)["Table"])
        except _AbsentError:
            return None

    def _location(self, definition: Definition) -> str:
        return self.store.uri(definition.prefix)

    def _parameters(self, definition: Definition) -> dict[str, str]:
        parameters = {"classification": "parquet", "parquet.compression": "ZSTD", "EXTERNAL": "TRUE"}
        if self._projected(definition) and self.place.projection:
            return {**parameters, **self.place.projection.parameters(self._location(definition))}
        # With it Athena uses the partition indexes.
        return {**parameters, "partition_filtering.enabled": "true", "projection.enabled": "false"}

    def _projected(self, definition: Definition) -> bool:
        return self.place.projection is not None and definition.keys == ("region", "accountid", "eventday")

    def _created(self, definition: Definition, columns: Sequence[tuple[str, str]]) -> bool:
        """Makes a table with its partition indexes; False when another one was quicker."""
        table = {
            "Name": definition.name,
            "Description": "OCSF events; written and registered by ocsf-lake",
            "TableType": "EXTERNAL_TABLE",
            "PartitionKeys": [{"Name": key, "Type": "string"} for key in definition.keys],
            "StorageDescriptor": {
                **STORAGE, "Columns": _glue_columns(columns), "Location": f"{self._location(definition)}/",
            },
            "Parameters": self._parameters(definition),
        }  # fmt: skip
        # A filter uses an index whose first keys it names: one for any filter, one for event days alone.
        indexes = [{"IndexName": "all_keys", "Keys": list(definition.keys)}]
        indexes += [{"IndexName": "last_key", "Keys": [definition.keys[-1]]}]
        for _ in range(2):
            try:
                self._call("create_table", TableInput=table, PartitionIndexes=indexes)
                return True
            except _PresentError:
                return False
            except _AbsentError:
                self._create_database()
        raise WriteError("the database cannot be made", database=self.place.database)

    def _create_database(self) -> None:
        try:
            description = {"Name": self.place.database, "Description": "OCSF events of ocsf-lake"}
            self._call("create_database", DatabaseName=None, DatabaseInput=description)
        except _PresentError:
            pass

    def _updated(
        self, name: str, current: dict[str, Any], columns: Sequence[tuple[str, str]], parameters: dict[str, str]
    ) -> bool:
        """Changes a table as it was read; False when another one changed it meanwhile."""
        table = {key: value for key, value in current.items() if key in _TABLE_INPUT}
        table["StorageDescriptor"] = {**current["StorageDescriptor"], "Columns": _glue_columns(columns)}
        table["Parameters"] = parameters
        version = {"VersionId": current["VersionId"]} if "VersionId" in current else {}
        try:
            self._call("update_table", TableInput=table, **version)
            return True
        except _ChangedError:
            return False

    def _bring_partitions(self, table: str) -> None:
        """Gives every partition the table's columns."""
        columns = self._columns[table]
        outdated = [item for item in self._partitions(table) if item["StorageDescriptor"]["Columns"] != columns]
        entries = [
            {
                "PartitionValueList": item["Values"],
                "PartitionInput": self._input(table, item["Values"], item["StorageDescriptor"]["Location"]),
            }
            for item in outdated
        ]
        self._in_batches("batch_update_partition", table, "Entries", entries, UPDATED_AT_ONCE)

    def _finish(self, name: str) -> None:
        """Removes the mark of a table whose partitions lack its columns."""
        for attempt in range(ATTEMPTS):
            table = self._table(name)
            if table is None or BEHIND not in table.get("Parameters", {}):
                return
            columns = [(item["Name"], item["Type"]) for item in table["StorageDescriptor"]["Columns"]]
            parameters = {key: value for key, value in table["Parameters"].items() if key != BEHIND}
            if self._updated(name, table, columns, parameters):
                return
            self._wait(attempt)

    # -- partitions ---------------------------------------------------------------------------------------------------
    def register(
        self, batch_id: str, files: Sequence[FileInfo | HeldFile], earlier: Sequence[Partition] = ()
    ) -> None:
        """Adds the partitions of these files; Glue knows no files.

        A partition whose last file is gone stays, as others may be about to write into it; `repair` takes it out.
        """
        for table in sorted({file.partition.table for file in files}):
            folders = _folders(file for file in files if file.partition.table == table)
            self._add(table, folders)
            self._lead(table, folders)

    def drop(self, batch_id: str) -> None:
        """Does nothing: a partition without files shows no rows; see `register`."""

    def replace(self, batch_id: str, old: Sequence[HeldFile], new: Sequence[HeldFile]) -> None:
        """Gives partitions the folders that new files are in; the old ones stay for who reads them just now.

        Each partition changes at once, and a reader of one sees the files before or those after.
        """
        for table in sorted({file.partition.table for file in new}):
            folders = _folders(file for file in new if file.partition.table == table)
            self._add(table, folders)
            self._put_places(table, folders)

    def empty(self, batch_id: str, partitions: Sequence[Partition]) -> None:
        """Takes partitions out. What comes into one later registers it again, in its next folder."""
        for table in sorted({item.table for item in partitions}):
            values = [{"Values": list(item.values)} for item in sorted(partitions) if item.table == table]
            with suppress(_AbsentError):  # the table
                self._in_batches("batch_delete_partition", table, "PartitionsToDelete", values, DELETED_AT_ONCE)

    def unemptiable(self, definition: Definition) -> str | None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        return PROJECTED if self._is_projected(definition) else None

    def in_snapshots(self, table: str) -> set[str]:
        """None: Glue knows the present only."""
        return set()

    def expire(self, table: str, before: datetime, *, dry_run: bool = False) -> None:
        """See `in_snapshots`."""

    def irreplaceable(self, definition: Definition) -> str | None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        return PROJECTED if self._is_projected(definition) else None

    def _is_projected(self, definition: Definition) -> bool:
        """Whether Athena reckons a table's partitions, by its settings in Glue or by ours."""
        table = self._table(definition.name)
        enabled = (table or {}).get("Parameters", {}).get("projection.enabled", "false") == "true"
        return enabled or self._projected(definition)

    def _put_places(self, table: str, folders: Mapping[Partition, str]) -> None:
        """Gives partitions these folders, and the table's columns."""
        entries = [
            {
                "PartitionValueList": list(item.values),
                "PartitionInput": self._input(table, item.values, self.store.uri(folder)),
            }
            for item, folder in sorted(folders.items())
        ]
        self._in_batches("batch_update_partition", table, "Entries", entries, UPDATED_AT_ONCE)

    def _add(self, table: str, partitions: Mapping[Partition, str]) -> None:
        """Adds partitions and their folders."""
        definition = self._checked.get(table)
        if definition is None or not partitions:
            if partitions:
                raise WriteError("the table was not made before its partitions", table=table)
            return
        if self._projected(definition):
            if compacted := [described(item) for item, folder in partitions.items() if layout.is_compacted(folder)]:
                raise WriteError(
                    f"partitions that were compacted would not be seen with a projection ({compacted[0]}); leave the "
                    "setting glue_projection at false",
                    table=table,
                )
            return
        entries = []
        for partition, folder in sorted(partitions.items()):
            if len(partition.values) != len(definition.keys):
                raise WriteError(f"{described(partition)} has not one value for each of {definition.keys}", table=table)
            entries.append(self._input(table, partition.values, self.store.uri(folder)))
        self._in_batches("batch_create_partition", table, "PartitionInputList", entries, CREATED_AT_ONCE)

    def _lead(self, table: str, folders: Mapping[Partition, str]) -> None:
        """Puts right where partitions are registered with the folder of an earlier generation.

        A batch that was slower than the retention which emptied a partition may have registered it again, with the
        folder from before.
        """
        moved = {item: folder for item, folder in folders.items() if layout.is_compacted(folder)}
        outdated = {}
        for item, folder in moved.items():
            try:
                answer = self._call("get_partition", TableName=table, PartitionValues=list(item.values))
            except _AbsentError:
                continue
            location = answer["Partition"]["StorageDescriptor"]["Location"].rstrip("/")
            if location != self.store.uri(folder) and layout.generation_of(location) < layout.generation_of(folder):
                outdated[item] = folder
        if outdated:
            self._put_places(table, outdated)

    def _input(self, table: str, values: Sequence[str], location: str) -> dict[str, Any]:
        storage = {**STORAGE, "Columns": self._columns[table], "Location": location}
        return {"Values": list(values), "StorageDescriptor": storage, "Parameters": {"classification": "parquet"}}

    def _in_batches(self, method: str, table: str, name: str, entries: Sequence[dict[str, Any]], most: int) -> None:
        """Calls a batch method for as many entries at a time as it takes; what was throttled is asked again."""
        size = max((len(json.dumps(entry)) for entry in entries[:1]), default=1)
        step = max(1, min(most, REQUEST_BYTES // size))
        for start in range(0, len(entries), step):
            waiting = list(entries[start : start + step])
            for attempt in range(ATTEMPTS):
                answer = self._call(method, TableName=table, **{name: waiting})
                refused = {tuple(_values(error)): error["ErrorDetail"] for error in answer.get("Errors", [])}
                throttled = [values for values, detail in refused.items() if detail["ErrorCode"] in _AGAIN]
                fatal = {
                    values: detail for values, detail in refused.items()
                    if detail["ErrorCode"] not in _AGAIN
                    and detail["ErrorCode"] not in ("AlreadyExistsException", "EntityNotFoundException")
                }  # fmt: skip
                if fatal:
                    values, detail = next(iter(fatal.items()))
                    raise WriteError(
                        f"Glue refused {len(fatal)} partitions; {'/'.join(values)}: {detail['ErrorCode']}: "
                        f"{detail.get('ErrorMessage', '')}",
                        table=table,
                    )
                waiting = [entry for entry in waiting if tuple(_values(entry)) in throttled]
                if not waiting:
                    break
                self._wait(attempt)
            else:
                raise RetriableError(f"Glue is too busy for {len(waiting)} partitions", table=table)

    def _wait(self, attempt: int) -> None:
        self.sleep(min(0.2 * 2**attempt, 10))

    def partitions(self, table: str) -> list[Partition]:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        try:
            return sorted(Partition(table, tuple(item["Values"])) for item in self._partitions(table))
        except _AbsentError:
            return []

    def _partitions(self, table: str) -> Iterator[dict[str, Any]]:
        return self._paged("get_partitions", "Partitions", TableName=table)

    def _paged(self, method: str, items: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            answer = self._call(method, **arguments, **token)
            yield from answer[items]
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    # -- drift --------------------------------------------------------------------------------------------------------
    def check(self, definition: Definition, expected: ExpectedState) -> list[Drift]:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        table, ids = definition.name, (self.name, definition.name)
        glue_table = self._table(table)
        partitions = [] if glue_table is None else list(self._partitions(table))
        filled = _folders(expected.files(table))
        if glue_table is None:
            reason = "Athena does not know the table; sync makes it"
            return [Drift(*ids, Kind.TABLE_MISSING, table, reason)] if filled else []
        columns = {item["Name"]: item["Type"] for item in glue_table["StorageDescriptor"]["Columns"]}
        wrong = [
            Drift(*ids, Kind.TABLE_SCHEMA, name, f"{columns.get(name, 'missing')} instead of {kind}; sync mends it")
            for name, kind in definition.columns
            if not covers(columns.get(name), kind)
        ]
        if self._projected(definition) and self.place.projection:
            reason = "no query in Athena sees it: the projection has no such region, account or day"
            compacted = "no query in Athena sees it: it was compacted, and the projection looks where it was before"
            unreachable = [
                (item, reason if not self.place.projection.reaches(item.values) else compacted)
                for item, folder in sorted(filled.items())
                if not self.place.projection.reaches(item.values) or layout.is_compacted(folder)
            ]
            kind = Kind.PARTITION_UNREACHABLE
            return wrong + [Drift(*ids, kind, described(item), why) for item, why in unreachable]
        by_values = {tuple(item["Values"]): item for item in partitions}
        for partition, folder in sorted(filled.items()):
            item = by_values.pop(partition.values, None)
            wrong += self._partition_findings(definition, partition, folder, item, columns)
        reason = "no rows are there; sync takes it out"
        wrong += [
            Drift(*ids, Kind.PARTITION_EMPTY, "/".join(values), reason)
            for values in by_values
            if not expected.is_open_partition(Partition(table, values))
        ]
        return wrong

    def _partition_findings(
        self, definition: Definition, partition: Partition, folder: str, item: dict[str, Any] | None,
        columns: dict[str, str],
    ) -> Iterator[Drift]:  # fmt: skip
        ids, name = (self.name, definition.name), described(partition)
        if item is None:
            reason = "Athena returns none of its rows; sync registers it"
            yield Drift(*ids, Kind.PARTITION_MISSING, name, reason)
            return
        storage = item["StorageDescriptor"]
        if storage["Location"].rstrip("/") != self.store.uri(folder):
            yield Drift(*ids, Kind.PARTITION_PLACE, name, f"at {storage['Location']}; sync puts it right")
        types = {column["Name"]: column["Type"] for column in storage["Columns"]}
        differing = [key for key, kind in columns.items() if types.get(key, kind) != kind]
        if differing or not types.keys() >= columns.keys():
            names = ", ".join(differing or sorted(columns.keys() - types.keys()))
            reason = f"{names} not as in the table: Athena refuses it (HIVE_PARTITION_SCHEMA_MISMATCH); sync mends it"
            yield Drift(*ids, Kind.PARTITION_SCHEMA, name, reason)

    def repair(self, definition: Definition, expected: ExpectedState) -> None:
        """See `ocsf_lake.catalogs.base.Catalog`."""
        if not self.check(definition, expected):
            return
        with self._lock:
            self._put_table(definition, lambda current: _forced(current, definition.columns))
            self._checked[definition.name] = definition
        # Partitions are compared with the table as it is now.
        findings = self.check(definition, expected)
        folders = _folders(expected.files(definition.name))
        kinds: dict[Kind, list[Partition]] = {}
        for finding in findings:
            kinds.setdefault(finding.kind, []).append(Partition(definition.name, tuple(finding.item.split("/"))))
        missing = kinds.get(Kind.PARTITION_MISSING, [])
        self._add(definition.name, {item: folders[item] for item in missing if item in folders})
        outdated = {*kinds.get(Kind.PARTITION_PLACE, []), *kinds.get(Kind.PARTITION_SCHEMA, [])}
        self._put_places(definition.name, {item: folders[item] for item in outdated if item in folders})
        empty = [{"Values": list(item.values)} for item in kinds.get(Kind.PARTITION_EMPTY, [])]
        self._in_batches("batch_delete_partition", definition.name, "PartitionsToDelete", empty, DELETED_AT_ONCE)

    # -- calls --------------------------------------------------------------------------------------------------------
    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        request = {"DatabaseName": self.place.database, **arguments}
        if self.place.catalog_id:
            request["CatalogId"] = self.place.catalog_id
        try:
            with s3.translate_errors(f"glue:{self.place.database}", denied=_DeniedError):
                response: dict[str, Any] = getattr(self.glue, method)(
                    **{name: value for name, value in request.items() if value is not None}
                )
                return response
        except _DeniedError as error:
            raise WriteError(
                f"{error.__cause__}; the role needs glue:{_action(method)} on the catalog, the database "
                f"{self.place.database} and its tables, and with Lake Formation the matching grants"
            ) from error
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            outcome = {"EntityNotFoundException": _AbsentError, "AlreadyExistsException": _PresentError}.get(code)
            if outcome is None and code == "ConcurrentModificationException":
                outcome = _ChangedError
            if outcome is not None:
                raise outcome(f"{error}") from error
            if code is not None:
                raise WriteError(f"Glue refused: {error}") from error
            raise


class _DeniedError(OcsfMappersError):
    """Permission is missing."""


class _AbsentError(OcsfMappersError):
    """There is no such database, table or partition."""


class _PresentError(OcsfMappersError):
    """It is there already."""


class _ChangedError(OcsfMappersError):
    """Another one changed it meanwhile."""


def _folders(files: Iterable[FileInfo | HeldFile]) -> dict[Partition, str]:
    """The folder that each partition's files are in."""
    return {file.partition: layout.folder_of(file.path) for file in files}


def _action(method: str) -> str:
    return "".join(word.capitalize() for word in method.split("_"))


def _values(entry: dict[str, Any]) -> list[str]:
    """The partition's values in an entry of a request, or in an error about one."""
    values = entry.get("PartitionValueList") or entry.get("PartitionValues") or entry.get("Values")
    return list(values or [])


def _glue_columns(columns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"Name": name, "Type": kind} for name, kind in columns]


def _forced(current: list[tuple[str, str]], expected: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The known columns, each with the lake's type where it does not cover that, and what is missing."""
    columns = dict(current)
    for name, kind in expected:
        if not covers(columns.get(name), kind):
            columns[name] = kind
    return list(columns.items())
