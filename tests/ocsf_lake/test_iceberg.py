"""Tables in Iceberg's own catalog by reference: each file once, whatever happens between it and the ledger."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from ocsf_lake import config
from ocsf_lake.catalogs import iceberg_connection as iceberg_module
from ocsf_lake.catalogs.base import HeldFile, Kind
from ocsf_lake.catalogs.glue import Place
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
from tests.ocsf_lake.cataloged import VPC, ExpectedState, kinds, with_column, with_member
from tests.servers.postgres import Postgres


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
