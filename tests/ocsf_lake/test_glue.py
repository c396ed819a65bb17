"""Tables and partitions in AWS Glue, whatever happens between it and the ledger."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from ocsf_lake import config
from ocsf_lake import lake as lakes
from ocsf_lake.catalogs import definitions
from ocsf_lake.catalogs import glue as glue_module
from ocsf_lake.catalogs.base import Catalogs, Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.catalogs.glue import GlueCatalog, Place, Projection
from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.storage import s3
from ocsf_lake.storage.layout import Partition
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError
from tests.ocsf_lake.cataloged import BATCHES, DAYS, VPC, ExpectedState, info, kinds, with_column, with_member


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


# -- with a lake ------------------------------------------------------------------------------------------------------
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
