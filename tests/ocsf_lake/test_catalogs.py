"""Glue, Iceberg and the local catalog hold the same thing, whatever happens between them."""

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError

from ocsf_lake import config
from ocsf_lake import lake as lakes
from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs import glue as glue_module
from ocsf_lake.catalogs import iceberg_connection as iceberg_module
from ocsf_lake.catalogs.base import Catalogs, Definition, Drift, HeldFile, Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.catalogs.glue import GlueCatalog, Place, Projection
from ocsf_lake.catalogs.iceberg import BATCH, IcebergCatalog
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import database
from ocsf_lake.storage import s3
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError
from ocsf_mappers.ocsf import tables
from tests.servers.postgres import Postgres

DAYS = [f"2025{month:02d}{day:02d}" for month in range(1, 13) for day in range(1, 29)]
VPC = definition("vpc_flow")
BATCHES = ["a" * 32, "b" * 32, "c" * 32]


def info(batch_id: str = BATCHES[0], day: str = "20250311", account: str = "111122223333") -> FileInfo:
    partition = Partition("vpc_flow", ("eu-west-1", account, day))
    place = f"{VPC.prefix}/region=eu-west-1/accountId={account}/eventDay={day}"
    return FileInfo(f"{place}/{batch_id}-00000-4001.parquet", partition, 4001, 1, 3, "0", 1, 2)


class ExpectedState:
    """A ledger as a test wants it."""

    def __init__(self, files: dict[str, list[FileInfo]] | None = None, open_batches: tuple[str, ...] = ()) -> None:
        self.batches = files or {}
        self.open_batches = open_batches

    def files(self, table: str) -> list[HeldFile]:
        return [
            HeldFile(file.path, file.partition, batch_id, file.rows, file.bytes, file.sha256)
            for batch_id, files in self.batches.items()
            for file in files
            if file.partition.table == table
        ]

    def is_open(self, path: str) -> bool:
        return path.rpartition("/")[2].partition("-")[0] in self.open_batches

    def is_open_partition(self, partition: Partition) -> bool:
        return False


def kinds(findings: list[Drift]) -> list[tuple[Kind, str]]:
    return sorted((finding.kind, finding.item) for finding in findings)


def with_column(table: Definition, *fields: pa.Field) -> Definition:
    return replace(table, schema=pa.schema([*table.schema, *fields]))


def with_member(table: Definition, column: str, member: pa.Field) -> Definition:
    fields = [
        pa.field(field.name, pa.struct([*field.type, member])) if field.name == column else field
        for field in table.schema
    ]
    return replace(table, schema=pa.schema(fields))


# -- Glue -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def place(moto_server: str, keys: None) -> Place:
    return Place(f"db_{uuid.uuid4().hex}", endpoint=moto_server)


@pytest.fixture
def glue(place: Place) -> Iterator[GlueCatalog]:
    client = s3.aws_client("glue", place.access, place.endpoint)
    found = GlueCatalog(place, Store("s3://bucket/lake"), client, sleep=lambda _: None)
    yield found
    found.close()


def again(catalog: GlueCatalog, place: Place | None = None) -> GlueCatalog:
    """The same catalog in another process, which remembers nothing."""
    return GlueCatalog(place or catalog.place, catalog.store, catalog.glue, sleep=lambda _: None)


def table_of(glue: GlueCatalog, name: str = "vpc_flow") -> dict[str, Any]:
    return dict(glue.glue.get_table(DatabaseName=glue.place.database, Name=name)["Table"])


def test_a_table_has_nested_columns_keys_and_a_place(glue: GlueCatalog) -> None:
    for _ in range(2):
        again(glue).create_or_evolve(VPC)
    found = table_of(glue)
    assert [key["Name"] for key in found["PartitionKeys"]] == ["region", "accountid", "eventday"]
    columns = {item["Name"]: item["Type"] for item in found["StorageDescriptor"]["Columns"]}
    assert list(columns.items()) == VPC.columns
    assert not columns.keys() & {"region", "accountid", "eventday"}
    assert columns["src_endpoint"].startswith("struct<")
    assert found["StorageDescriptor"]["Location"] == "s3://bucket/lake/aws/VPC_FLOW/2.0/"
    assert found["TableType"] == "EXTERNAL_TABLE"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(registry.tables()), "quarantine"])
def test_every_table_can_be_made(name: str, glue: GlueCatalog) -> None:
    glue.create_or_evolve(definition(name))
    # Glue refuses a type longer than this.
    assert max(len(item["Type"]) for item in table_of(glue, name)["StorageDescriptor"]["Columns"]) < 131_072


@pytest.mark.slow
def test_many_partitions_are_registered_in_batches_and_again_without_effect(glue: GlueCatalog) -> None:
    sizes: list[int] = []

    def seen(params: dict[str, Any], **_: object) -> None:
        sizes.append(len(params["PartitionInputList"]))

    glue.glue.meta.events.register("provide-client-params.glue.BatchCreatePartition", seen)
    glue.create_or_evolve(VPC)
    files = [info(day=day) for day in DAYS[:250]]
    for _ in range(2):
        glue.register(BATCHES[0], files)
    assert max(sizes) <= 100
    assert sum(sizes) == 500
    assert glue.partitions("vpc_flow") == sorted(file.partition for file in files)
    assert glue.check(VPC, ExpectedState({BATCHES[0]: files})) == []


def test_a_batch_is_registered_again_by_a_process_that_has_made_no_table(glue: GlueCatalog) -> None:
    """As by a purge of quarantine, and where its objects are read again: the events that it has are registered too."""
    for catalog in (glue, again(glue)):
        Catalogs([catalog]).register(BATCHES[0], [info()])
    assert glue.check(VPC, ExpectedState({BATCHES[0]: [info()]})) == []


def test_a_partition_has_its_tables_columns_and_a_place_of_its_own(glue: GlueCatalog) -> None:
    glue.create_or_evolve(VPC)
    glue.register(BATCHES[0], [info(account="012345678901")])
    (found,) = glue.glue.get_partitions(DatabaseName=glue.place.database, TableName="vpc_flow")["Partitions"]
    assert found["Values"] == ["eu-west-1", "012345678901", "20250311"]
    assert found["StorageDescriptor"]["Columns"] == table_of(glue)["StorageDescriptor"]["Columns"]
    assert found["StorageDescriptor"]["Location"] == (
        "s3://bucket/lake/aws/VPC_FLOW/2.0/region=eu-west-1/accountId=012345678901/eventDay=20250311"
    )


def test_new_columns_reach_the_table_and_its_partitions(glue: GlueCatalog) -> None:
    glue.create_or_evolve(VPC)
    glue.register(BATCHES[0], [info(day=day) for day in DAYS[:3]])
    wider = with_member(with_column(VPC, pa.field("more", pa.string())), "cloud", pa.field("org", pa.string()))
    again(glue).create_or_evolve(wider)
    columns = table_of(glue)["StorageDescriptor"]["Columns"]
    assert {"Name": "more", "Type": "string"} in columns
    assert "org:string" in next(item["Type"] for item in columns if item["Name"] == "cloud")
    assert glue_module.BEHIND not in table_of(glue)["Parameters"]
    assert {
        json.dumps(item["StorageDescriptor"]["Columns"]) for item in glue._partitions("vpc_flow")
    } == {json.dumps(columns)}
    # An older program, which knows less, takes nothing away.
    again(glue).create_or_evolve(VPC)
    assert table_of(glue)["StorageDescriptor"]["Columns"] == columns


def test_partitions_left_behind_by_an_interruption_are_brought_up_by_the_next_run(
    glue: GlueCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    glue.create_or_evolve(VPC)
    glue.register(BATCHES[0], [info()])
    wider = with_column(VPC, pa.field("more", pa.string()))
    with monkeypatch.context() as patched:
        patched.setattr(GlueCatalog, "_bring_partitions", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            again(glue).create_or_evolve(wider)
    expected = ExpectedState({BATCHES[0]: [info()]})
    assert kinds(glue.check(wider, expected)) == [(Kind.PARTITION_SCHEMA, "eu-west-1/111122223333/20250311")]
    again(glue).create_or_evolve(wider)
    assert glue.check(wider, expected) == []


def test_a_column_never_changes_its_type(glue: GlueCatalog) -> None:
    glue.create_or_evolve(with_column(VPC, pa.field("more", pa.string())))
    with pytest.raises(WriteError, match="column more is string in the catalog and bigint"):
        again(glue).create_or_evolve(with_column(VPC, pa.field("more", pa.int64())))


def test_what_others_set_on_the_table_stays(glue: GlueCatalog) -> None:
    glue.create_or_evolve(VPC)
    found = table_of(glue)
    kept = {key: found[key] for key in ("Name", "StorageDescriptor", "PartitionKeys", "TableType")}
    glue.glue.update_table(
        DatabaseName=glue.place.database, TableInput={**kept, "Parameters": {**found["Parameters"], "owner": "soc"}}
    )
    again(glue).create_or_evolve(with_column(VPC, pa.field("more", pa.string())))
    assert table_of(glue)["Parameters"]["owner"] == "soc"


def test_a_projection_registers_nothing_and_says_what_it_does_not_reach(place: Place) -> None:
    place = replace(place, projection=Projection(("eu-west-1",)))
    glue = GlueCatalog(place, Store("s3://bucket/lake"), s3.aws_client("glue", place.access, place.endpoint))
    glue.create_or_evolve(VPC)
    files = [info(), info(day="unknown")]
    glue.register(BATCHES[0], files)
    parameters = table_of(glue)["Parameters"]
    assert parameters["projection.region.values"] == "eu-west-1"
    assert parameters["projection.accountid.type"] == "injected"
    assert parameters["storage.location.template"] == (
        "s3://bucket/lake/aws/VPC_FLOW/2.0/region=${region}/accountId=${accountid}/eventDay=${eventday}"
    )
    assert glue.partitions("vpc_flow") == []
    assert kinds(glue.check(VPC, ExpectedState({BATCHES[0]: files}))) == [
        (Kind.PARTITION_UNREACHABLE, "eu-west-1/111122223333/unknown")
    ]
    glue.close()


@pytest.mark.slow
def test_check_finds_drift_in_glue_and_repair_mends_it(glue: GlueCatalog) -> None:
    expected = ExpectedState({BATCHES[0]: [info(day=day) for day in DAYS[:4]]})
    assert kinds(glue.check(VPC, expected)) == [(Kind.TABLE_MISSING, "vpc_flow")]
    glue.repair(VPC, expected)
    assert glue.check(VPC, expected) == []
    assert len(glue.partitions("vpc_flow")) == 4
    named = {"DatabaseName": glue.place.database, "TableName": "vpc_flow"}
    partitions = glue.glue.get_partitions(**named)["Partitions"]
    glue.glue.delete_partition(**named, PartitionValues=partitions[0]["Values"])

    def change(number: int, **changes: object) -> None:
        values = partitions[number]["Values"]
        storage = {**partitions[number]["StorageDescriptor"], **changes}
        glue.glue.update_partition(
            **named, PartitionValueList=values, PartitionInput={"Values": values, "StorageDescriptor": storage}
        )

    change(1, Location="s3://bucket/elsewhere")
    change(2, Columns=[{"Name": "time", "Type": "int"}])
    glue.register(BATCHES[1], [info(BATCHES[1], "20260101")])
    found = table_of(glue)
    columns = found["StorageDescriptor"]["Columns"]
    columns = [{**item, "Type": "int"} if item["Name"] == "time" else item for item in columns]
    glue.glue.update_table(
        DatabaseName=glue.place.database,
        TableInput={
            "Name": "vpc_flow", "PartitionKeys": found["PartitionKeys"], "Parameters": found["Parameters"],
            "StorageDescriptor": {**found["StorageDescriptor"], "Columns": columns},
        },
    )  # fmt: skip
    where = "eu-west-1/111122223333"
    assert set(kinds(glue.check(VPC, expected))) == {
        (Kind.TABLE_SCHEMA, "time"),
        (Kind.PARTITION_MISSING, f"{where}/{DAYS[0]}"),
        (Kind.PARTITION_PLACE, f"{where}/{DAYS[1]}"),
        (Kind.PARTITION_SCHEMA, f"{where}/{DAYS[1]}"),
        (Kind.PARTITION_SCHEMA, f"{where}/{DAYS[2]}"),
        (Kind.PARTITION_SCHEMA, f"{where}/{DAYS[3]}"),
        (Kind.PARTITION_EMPTY, f"{where}/20260101"),
    }
    again(glue).repair(VPC, expected)
    assert glue.check(VPC, expected) == []
    # A table that was other gives its partitions its columns; where it is right, one of them may be other.
    change(2, Columns=[{"Name": "time", "Type": "int"}])
    assert kinds(glue.check(VPC, expected)) == [(Kind.PARTITION_SCHEMA, f"{where}/{DAYS[2]}")]
    again(glue).repair(VPC, expected)
    assert glue.check(VPC, expected) == []


class Stub:
    """A Glue that refuses: what moto accepts and AWS does not, and what AWS says on bad days."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.columns: list[dict[str, str]] = []

    def __getattr__(self, method: str) -> Callable[..., dict[str, Any]]:
        def call(**given: Any) -> dict[str, Any]:
            self.calls.append((method, given))
            if method == "get_table":
                columns = [{"Name": name, "Type": kind} for name, kind in VPC.columns]
                parameters = {"projection.enabled": "false", "partition_filtering.enabled": "true"}
                parameters |= {"classification": "parquet", "parquet.compression": "ZSTD", "EXTERNAL": "TRUE"}
                storage = {"Columns": columns}
                return {"Table": {"Name": "vpc_flow", "StorageDescriptor": storage, "Parameters": parameters}}
            if method == "batch_create_partition":
                entries = given["PartitionInputList"]
                assert len(entries) <= 100
                assert all(len(entry["Values"]) == 3 for entry in entries)
                assert len(json.dumps(entries)) < 4 << 20
                if self.refusals:
                    code = self.refusals.pop(0)
                    if code.startswith("whole:"):
                        raise ClientError({"Error": {"Code": code[6:], "Message": "told so"}}, method)
                    detail = {"ErrorCode": code, "ErrorMessage": "told so"}
                    return {"Errors": [{"PartitionValues": entries[0]["Values"], "ErrorDetail": detail}]}
            return {}

        return call

    def created(self) -> list[int]:
        return [len(given["PartitionInputList"]) for method, given in self.calls if method == "batch_create_partition"]


def stubbed(*refusals: str) -> tuple[GlueCatalog, Stub]:
    stub = Stub(*refusals)
    found = GlueCatalog(Place("db"), Store("s3://bucket/lake"), stub, sleep=lambda _: None)
    found.create_or_evolve(VPC)
    return found, stub


def test_the_limits_that_moto_does_not_keep_are_kept_by_us() -> None:
    glue, stub = stubbed()
    glue.register(BATCHES[0], [info(day=day) for day in DAYS])
    assert sum(stub.created()) == len(DAYS)
    assert max(stub.created()) <= 100
    wrong = replace(info(), partition=Partition("vpc_flow", ("eu-west-1", "20250311")))
    with pytest.raises(WriteError, match="not one value for each"):
        glue.register(BATCHES[0], [wrong])


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalServiceException"])
def test_partitions_that_were_throttled_are_asked_again_alone(code: str) -> None:
    glue, stub = stubbed(code, code)
    glue.register(BATCHES[0], [info(day=day) for day in DAYS[:20]])
    assert stub.created() == [20, 1, 1]


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        ("AlreadyExistsException", None, ""),
        ("InvalidInputException", WriteError, "Glue refused 1 partitions; eu-west-1/111122223333/20250311"),
        ("whole:ThrottlingException", RetriableError, "busy"),
        ("whole:AccessDeniedException", WriteError, r"needs glue:BatchCreatePartition .* Lake Formation"),
        ("whole:ExpiredTokenException", ConfigError, "credentials have expired"),
        ("whole:InvalidInputException", WriteError, "Glue refused"),
    ],
)
def test_what_glue_says_is_told_apart(refusal: str, error: type[Exception] | None, said: str) -> None:
    glue, _ = stubbed(refusal)
    if error is None:
        glue.register(BATCHES[0], [info()])
        return
    with pytest.raises(error, match=said):
        glue.register(BATCHES[0], [info()])


def test_throttling_without_end_can_be_tried_again() -> None:
    glue, _ = stubbed(*["ThrottlingException"] * 50)
    with pytest.raises(RetriableError, match="too busy for 1 partitions"):
        glue.register(BATCHES[0], [info()])


# -- Iceberg ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def written(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake whose flow logs are in Iceberg too, by the settings alone."""
    lake = tmp_path_factory.mktemp("written")
    settings = config.load(lake=str(lake), batch_objects=2, part_rows=25, workers=2, catalogs=["iceberg"])
    ingest.ingest([str(logs)], settings)
    return lake


def iceberg_of(lake: Path, state: Path | None = None) -> IcebergCatalog:
    store = Store(str(lake))
    return IcebergCatalog(iceberg_module.connect({}, store, state or lake), "ocsf_lake_iceberg", store, lambda _: None)


def files_of(lake: Path, table: str = "vpc_flow") -> dict[str, list[FileInfo]]:
    found: dict[str, list[FileInfo]] = {}
    with opened(config.load(lake=str(lake))) as held:
        for row in held.ledger.arrow("files").to_pylist():
            if row["table_name"] == table:
                partition = Partition(table, tuple(row["partition"].split("/")))
                file = FileInfo(row["path"], partition, row["class_uid"], row["rows"], row["bytes"], row["sha256"])
                found.setdefault(row["batch_id"], []).append(file)
    return found


@pytest.fixture
def iceberg(written: Path, tmp_path: Path) -> Iterator[IcebergCatalog]:
    """An empty Iceberg catalog over the lake's files."""
    found = iceberg_of(written, tmp_path)
    found.store = Metadata(written, tmp_path)
    yield found
    found.close()


class Metadata(Store):
    """The lake's files, but metadata in the test's own folder."""

    def __init__(self, lake: Path, folder: Path) -> None:
        super().__init__(str(lake))
        self.folder = folder

    def uri(self, name: str) -> str:
        if name.startswith(iceberg_module.FOLDER):
            return f"file://{self.folder}/{name}"
        return super().uri(name)


def rows_of(catalog: IcebergCatalog, name: str = "vpc_flow") -> pa.Table:
    return catalog.catalog.load_table((catalog.namespace, name)).scan().to_arrow()


def snapshots_of(catalog: IcebergCatalog) -> list[str | None]:
    table = catalog.catalog.load_table((catalog.namespace, "vpc_flow"))
    return [snapshot.summary[BATCH] if snapshot.summary else None for snapshot in table.snapshots()]


def test_our_iceberg_schema_is_read_as_it_is_meant() -> None:
    """Our JSON of a table, and pyiceberg's own reading of the same Arrow columns, field ids included."""
    from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids
    from pyiceberg.schema import Schema, assign_fresh_schema_ids

    for name, table in registry.tables().items():
        ours = Schema.model_validate(tables.iceberg_schema(table))
        theirs = assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(table.arrow))
        assert ours.as_struct() == theirs.as_struct(), name


@pytest.mark.slow
def test_the_settings_bring_a_lake_into_iceberg(written: Path) -> None:
    catalog = iceberg_of(written)
    rows = rows_of(catalog)
    assert len(rows) == 60
    assert set(rows["accountid"].to_pylist()) == {"111122223333", "012345678901"}
    assert set(rows["region"].to_pylist()) == {"eu-west-1"}
    assert rows["src_endpoint"].to_pylist()[0]["ip"].startswith("10.0.0.")
    assert len(rows_of(catalog, "cloud_trail_mgmt")) == 80
    assert not list(written.glob("_iceberg/**/data/**/*.parquet"))
    catalog.close()


def test_a_batch_is_one_snapshot_and_never_two(iceberg: IcebergCatalog, written: Path) -> None:
    batches = files_of(written)
    for _ in range(2):
        iceberg.create_or_evolve(VPC)
        for batch_id, files in batches.items():
            iceberg.register(batch_id, files)
    assert sorted(filter(None, snapshots_of(iceberg))) == sorted(batches)
    assert len(rows_of(iceberg)) == 60
    assert iceberg.check(VPC, ExpectedState(batches)) == []
    assert {item.values[:2] for item in iceberg.partitions("vpc_flow")} == {
        ("eu-west-1", "012345678901"), ("eu-west-1", "111122223333"),
    }  # fmt: skip


def test_files_that_another_engine_took_out_are_not_replaced(iceberg: IcebergCatalog, written: Path) -> None:
    """As its own compaction does: their rows are in its files by then, and would be there twice."""
    batches = files_of(written)
    iceberg.create_or_evolve(VPC)
    (first, held), (second, others) = list(batches.items())[:2]
    iceberg.register(first, held)
    def as_held(batch: str, files: list[FileInfo]) -> list[HeldFile]:
        return [HeldFile(file.path, file.partition, batch, file.rows, file.bytes, file.sha256) for file in files]

    gone = [replace(file, path=f"{file.path}.gone") for file in as_held(first, held)]
    with pytest.raises(WriteError, match="taken out of Iceberg by another engine"):
        iceberg.replace("f" * 32, [*as_held(first, held), *gone], as_held(second, others))
    assert len(rows_of(iceberg)) == sum(file.rows for file in held)


def test_a_file_is_not_added_again_when_its_snapshot_has_expired(iceberg: IcebergCatalog, written: Path) -> None:
    batches = files_of(written)
    iceberg.create_or_evolve(VPC)
    for batch_id, files in batches.items():
        iceberg.register(batch_id, files)
    table = iceberg.catalog.load_table((iceberg.namespace, "vpc_flow"))
    table.maintenance.expire_snapshots().by_ids([item.snapshot_id for item in table.snapshots()[:-1]]).commit()
    assert len(snapshots_of(iceberg)) == 1
    for batch_id, files in batches.items():
        iceberg.register(batch_id, files)
    assert len(rows_of(iceberg)) == 60
    for batch_id in batches:
        iceberg.drop(batch_id)
    assert len(rows_of(iceberg)) == 0


def test_a_batch_done_anew_replaces_its_files_and_a_dropped_one_takes_them_out(
    iceberg: IcebergCatalog, written: Path
) -> None:
    batches = files_of(written)
    (first, files), (second, others) = sorted(batches.items())[:2]
    own = [replace(file, path=file.path) for file in files]
    iceberg.create_or_evolve(VPC)
    iceberg.register(first, own)
    iceberg.register(second, others)
    iceberg.register(first, own[:1])
    left = sum(file.rows for file in (*own[:1], *others))
    assert len(rows_of(iceberg)) == left
    for _ in range(2):
        iceberg.drop(first)
    assert len(rows_of(iceberg)) == sum(file.rows for file in others)


def test_writers_that_meet_all_get_in_once(written: Path, iceberg: IcebergCatalog, tmp_path: Path) -> None:
    batches = files_of(written)
    iceberg.create_or_evolve(VPC)
    errors: list[BaseException] = []
    gate = threading.Barrier(3)

    def write() -> None:
        own = iceberg_of(written, tmp_path)
        own.store = iceberg.store
        own.sleep = lambda seconds: threading.Event().wait(seconds / 10)
        try:
            own.create_or_evolve(VPC)
            gate.wait(30)
            for batch_id, files in batches.items():
                own.register(batch_id, files)
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert len(rows_of(iceberg)) == 60
    assert sorted(filter(None, snapshots_of(iceberg))) == sorted(batches)


@pytest.mark.slow
@pytest.mark.integration
def test_hosts_that_make_an_iceberg_catalog_in_postgresql_at_once_all_get_in_once(
    written: Path, postgres_server: Postgres, tmp_path: Path
) -> None:
    url, store, batches = postgres_server.database(), Metadata(written, tmp_path), files_of(written)
    gate = threading.Barrier(3)

    def host(_: int) -> IcebergCatalog:
        gate.wait(30)
        found = iceberg_module.connect({}, store, None, url)
        own = IcebergCatalog(found, "ocsf_lake_iceberg", store, lambda seconds: time.sleep(seconds / 10))
        own.create_or_evolve(VPC)
        gate.wait(30)
        for batch_id, files in batches.items():
            own.register(batch_id, files)
        return own

    with ThreadPoolExecutor(3) as hosts:
        catalogs = list(hosts.map(host, range(3)))
    with sa.create_engine(database.postgres_url(url), poolclass=sa.NullPool).connect() as connection:
        assert connection.execute(sa.text("SELECT table_name FROM public.iceberg_tables")).all() == [("vpc_flow",)]
        # A connection that was cut is made anew.
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        connection.execute(sa.text(f"{cut} AND datname = current_database()")).all()
    assert len(rows_of(catalogs[0])) == 60
    assert sorted(filter(None, snapshots_of(catalogs[1]))) == sorted(batches)
    for catalog in catalogs:
        catalog.close()


@pytest.mark.integration
def test_an_iceberg_catalog_whose_database_is_away_can_be_tried_again(
    written: Path, postgres_server: Postgres, tmp_path: Path
) -> None:
    store = Metadata(written, tmp_path)
    catalog = IcebergCatalog(iceberg_module.connect({}, store, None, postgres_server.database()), "ns", store)
    postgres_server.stop()
    try:
        with pytest.raises(RetriableError, match="the database does not answer"):
            catalog.create_or_evolve(VPC)
    finally:
        postgres_server.start()
    catalog.create_or_evolve(VPC)
    assert catalog.partitions("vpc_flow") == []
    catalog.close()


@pytest.mark.parametrize(
    ("uri", "error"),
    [("postgresql://ann:s3cret@127.0.0.1:1/x", RetriableError), ("sqlite:////nowhere/s3cret?mode=ro", ConfigError)],
)
def test_an_iceberg_catalog_that_cannot_be_opened_is_told(uri: str, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error) as told:
        iceberg_module.connect({"type": "sql", "uri": uri}, Store(str(tmp_path)), None)
    assert "s3cret" not in str(told.value)


def test_new_columns_and_members_reach_iceberg(iceberg: IcebergCatalog, written: Path) -> None:
    batches = files_of(written)
    iceberg.create_or_evolve(VPC)
    wider = with_member(with_column(VPC, pa.field("more", pa.string())), "cloud", pa.field("org", pa.string()))
    iceberg.create_or_evolve(wider)
    for batch_id, files in batches.items():
        iceberg.register(batch_id, files)
    rows = rows_of(iceberg)
    assert rows["more"].null_count == 60
    assert rows["cloud"].to_pylist()[0]["org"] is None
    assert rows["cloud"].to_pylist()[0]["region"] == "eu-west-1"
    with pytest.raises(WriteError, match="cannot take the lake's columns"):
        iceberg.create_or_evolve(with_column(VPC, pa.field("more", pa.int64())))


def test_check_finds_drift_in_iceberg_and_repair_mends_it(iceberg: IcebergCatalog, written: Path) -> None:
    batches = files_of(written)
    expected = ExpectedState(batches)
    assert kinds(iceberg.check(VPC, expected)) == [(Kind.TABLE_MISSING, "vpc_flow")]
    (first, files), (second, _) = sorted(batches.items())[:2]
    iceberg.create_or_evolve(VPC)
    iceberg.register(first, files)
    wanted = ExpectedState({second: batches[second]})
    found = iceberg.check(with_column(VPC, pa.field("more", pa.string())), wanted)
    assert {finding.kind for finding in found} == {Kind.TABLE_SCHEMA, Kind.FILE_UNREGISTERED, Kind.FILE_UNKNOWN}
    one_open = ExpectedState(wanted.batches, (first,))
    assert {finding.kind for finding in iceberg.check(VPC, one_open)} == {Kind.FILE_UNREGISTERED}
    iceberg.repair(VPC, wanted)
    assert iceberg.check(VPC, wanted) == []
    assert len(rows_of(iceberg)) == sum(file.rows for file in batches[second])


@pytest.mark.slow
def test_iceberg_s_tables_may_stand_in_glue(
    logs: Path, settings: Callable[..., Settings], moto_server: str, keys: None
) -> None:
    """By pyiceberg's own Glue catalog; moto does not refuse a stale version, so commits that meet are not seen here."""
    given = {"type": "glue", "glue.endpoint": moto_server, "glue.region": "us-east-1"}
    given |= {"glue.access-key-id": "test", "glue.secret-access-key": "test"}
    namespace = f"iceberg_{uuid.uuid4().hex}"
    found = settings(catalogs=["iceberg"], iceberg_namespace=namespace, iceberg_properties=given, batch_objects=1)
    ingest.ingest([str(logs / "AWSLogs" / "111122223333" / "vpcflowlogs")], found, "aws_vpc_flow")
    with opened(found) as lake:
        iceberg = lake.catalog.all[0]
        assert isinstance(iceberg, IcebergCatalog)
        parameters = s3.aws_client("glue", Place("").access, moto_server).get_table(
            DatabaseName=namespace, Name="vpc_flow"
        )["Table"]["Parameters"]
        assert parameters["table_type"] == "ICEBERG"
        assert check.check(lake) == []
        assert (len(rows_of(iceberg)), len(set(snapshots_of(iceberg)))) == (30, 2)
        iceberg.catalog.drop_table((namespace, "vpc_flow"))
        assert kinds(check.check(lake)) == [(Kind.TABLE_MISSING, "vpc_flow")]
        assert check.sync(lake).left == []
        assert len(rows_of(iceberg)) == 30


def test_events_out_of_time_are_in_iceberg_too(settings: Callable[..., Settings], tmp_path: Path) -> None:
    from tests.ocsf_lake.conftest import call, write

    records = [call(1), call(2, eventTime="1903-05-01T00:00:00Z"), call(3, eventTime="1899-01-01T00:00:00Z")]
    path = write(tmp_path / "odd.json", json.dumps({"Records": records}))
    found = settings(catalogs=["iceberg"])
    summary = ingest.ingest([str(path)], found)
    catalog = iceberg_of(Path(found.lake))
    assert len(rows_of(catalog, "cloud_trail_mgmt")) == summary.counts.events
    catalog.close()


# -- all of them ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_ledger_knows_nothing_that_a_catalog_refused(
    settings: Callable[..., Settings], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise WriteError("the catalog refuses")

    found = settings(catalogs=["iceberg"])
    with monkeypatch.context() as patch:
        patch.setattr(IcebergCatalog, "register", busy)
        with pytest.raises(WriteError, match="the catalog refuses"):
            ingest.ingest([str(logs)], found)
    with opened(found) as lake:
        assert lake.files.of({"vpc_flow": None}) == {"vpc_flow": []}
    ingest.ingest([str(logs)], found)
    with opened(found) as lake:
        assert lake.files.of({"vpc_flow": None})["vpc_flow"]


def test_glue_wants_a_lake_on_s3(settings: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match="Glue's tables stand on S3"), opened(settings(catalogs=["glue"])):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("may_list", [True, False])
def test_a_check_asks_glue_about_no_table_that_nobody_has(
    may_list: bool, glue: GlueCatalog, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it may not ask which there are, it asks about each."""

    def denied(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "glue:GetTables"}}, "GetTables")

    monkeypatch.setattr(lakes, "_others", lambda _, store, *__: [GlueCatalog(glue.place, store, glue.glue)])
    asked: list[str] = []
    with opened(config.load(lake=str(shutil.copytree(whole, tmp_path / "lake")))) as lake:
        assert again(glue).names() == set()
        assert check.sync(lake).left == []
        names = again(glue).names()
        glue.glue.meta.events.register("before-call.glue", lambda model, **_: asked.append(model.name))
        if not may_list:
            monkeypatch.setattr(glue.glue, "get_tables", denied)
        assert check.check(lake) == []
        assert names is not None
        assert names > {"cloud_trail_mgmt", "vpc_flow"}
        assert asked.count("GetTable") == len(names if may_list else definitions.names())
        # A table that it has, and the ledger no file of.
        other, catalog, values = "guardduty_findings", again(glue), ("eu-west-1", "111122223333", "20250311")
        catalog.create_or_evolve(definition(other))
        catalog._add(other, {Partition(other, values): "nowhere"})
        assert kinds(check.check(lake)) == [(Kind.PARTITION_EMPTY, "/".join(values))]
