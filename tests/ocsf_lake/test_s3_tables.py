"""Iceberg by S3 Tables' rules: tables lie where their catalog says, rows are copied there, each once."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import requests
from pyiceberg import exceptions
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table

from ocsf_lake import config
from ocsf_lake.catalogs.base import Kind
from ocsf_lake.catalogs.definitions import definition, folder
from ocsf_lake.catalogs.iceberg import BATCH
from ocsf_lake.catalogs.iceberg_copied import LAKE_FILE, CopiedCatalog, _key, _written
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import Lake, opened
from ocsf_lake.storage import parquet, retry
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.upkeep import check, compact, write_off
from ocsf_mappers.errors import RetriableError, WriteError
from tests.ocsf_lake.conftest import BOUNDS, HEADER, VPC_KEY, flow, write
from tests.ocsf_lake.losing import lose_raw
from tests.ocsf_lake.mortal import CrashHarness
from tests.servers.seaweed import TablesServer
from tests.support import often

pytestmark = pytest.mark.integration

Row = tuple[str, int]
VPC = definition("vpc_flow")
FLOWS, CALLS = 60, 80


@pytest.fixture(scope="module")
def bucket(tables_server: TablesServer) -> str:
    return tables_server.new_bucket()


def settings_of(tables_server: TablesServer, bucket: str, folder: Path) -> Settings:
    return config.load(
        lake=str(folder / "lake"), catalogs=["iceberg"], iceberg_properties=tables_server.properties(bucket),
        iceberg_namespace=f"n{abs(hash(str(folder))):x}", **BOUNDS,
    )  # fmt: skip


@pytest.fixture
def tabled(tables_server: TablesServer, bucket: str, tmp_path: Path) -> Settings:
    """Settings of a new lake whose tables are in a bucket of tables."""
    return settings_of(tables_server, bucket, tmp_path)


def ingest_flows(logs: Path, settings: Settings) -> None:
    ingest.ingest([str(path) for path in sorted(logs.glob("AWSLogs/*/vpcflowlogs"))], settings)


@pytest.fixture(scope="module")
def mended(tables_server: TablesServer, bucket: str, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A lake that is filled once: each damage to it is mended."""
    found = settings_of(tables_server, bucket, tmp_path_factory.mktemp("mended"))
    ingest_flows(logs, found)
    return found


@pytest.fixture
def filled(tabled: Settings, logs: Path) -> Settings:
    """A lake of the flow logs."""
    ingest_flows(logs, tabled)
    return tabled


def catalog_of(lake: Lake) -> CopiedCatalog:
    (found,) = lake.catalog.all
    assert isinstance(found, CopiedCatalog)
    return found


def table_of(lake: Lake, name: str = "vpc_flow") -> Table:
    found = catalog_of(lake)
    return found.catalog.load_table((found.namespace, name))


def rows(table: Table) -> Counter[Row]:
    """How often each row of the raw logs is there."""
    found = table.scan(selected_fields=("source_object", "source_record")).to_arrow()
    return Counter(zip(found["source_object"].to_pylist(), found["source_record"].to_pylist(), strict=True))


def assert_once(lake: Lake, flows: int = FLOWS) -> None:
    found = rows(table_of(lake))
    assert (len(found), found.total()) == (flows, flows)


def forget_snapshots(table: Table) -> None:
    """What S3 Tables does with snapshots after 120 hours."""
    ids = [item.snapshot_id for item in table.snapshots() if item != table.current_snapshot()]
    table.maintenance.expire_snapshots().by_ids(ids).commit()


def merge_files(table: Table) -> None:
    """What S3 Tables does with small files: the rows are in others, and no name of ours is left."""
    set_rows(table, table.scan().to_arrow())
    forget_snapshots(table)


def set_rows(table: Table, found: pa.Table) -> None:
    """Gives a table other rows, all of an account in one file."""
    day = found["time_dt"].cast(pa.date32()).cast(pa.int32())[0].as_py()
    with table.transaction() as changing, changing.update_snapshot().overwrite() as producer:
        for task in table.scan().plan_files():
            producer.delete_data_file(task.file)
        for account in sorted(set(found["accountid"].to_pylist())):
            own = found.filter(pc.equal(found["accountid"], account))
            key = _key(table, "eu-west-1", account, day)
            producer.append_data_file(_written(table, key, own, uuid.uuid4(), 0))


# -- tables and rows --------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_each_row_is_there_once_and_tables_lie_where_the_catalog_says(tabled: Settings, logs: Path) -> None:
    ingest.ingest([str(logs)], tabled)
    with opened(tabled) as lake:
        table = table_of(lake)
        assert_once(lake)
        assert rows(table_of(lake, "cloud_trail_mgmt")).total() == CALLS
        assert table.location().startswith("s3://")
        assert tabled.lake not in table.location()
        files = table.inspect.files()["file_path"].to_pylist()
        assert all(path.startswith(f"{table.location()}/data/region=eu-west-1/accountid=") for path in files)
        assert check.check(lake) == []
        assert [field.name for field in table.spec().fields] == ["region", "accountid", "day"]
        found = table.scan(row_filter="accountid = '012345678901'").to_arrow()
        assert found["src_endpoint"].to_pylist()[0]["ip"].startswith("10.0.0.")
        assert len(catalog_of(lake).partitions("vpc_flow")) == 2


@pytest.mark.slow
def test_a_batch_is_one_snapshot_with_the_same_files_each_time(filled: Settings) -> None:
    with opened(filled) as lake:
        table = table_of(lake)
        batches = {item.summary[BATCH] for item in table.snapshots() if item.summary}
        assert len(table.snapshots()) == len(batches) == 2
        before = set(table.inspect.files()["file_path"].to_pylist())
        catalog_of(lake).catalog.drop_table(table.name())
        assert [item.kind for item in check.check(lake)] == [Kind.TABLE_MISSING]
        assert check.sync(lake).left == []
        after = set(table_of(lake).inspect.files()["file_path"].to_pylist())
        assert {path.rpartition("/")[2] for path in after} == {path.rpartition("/")[2] for path in before}
        assert_once(lake)


def untouched(_: Table) -> None:
    """Nothing has become of it."""


@pytest.mark.slow
@pytest.mark.parametrize("happened", often([untouched, forget_snapshots, merge_files], [merge_files]))
def test_a_batch_that_is_there_is_not_added_again_whatever_became_of_its_snapshot(
    happened: Callable[[Table], None], filled: Settings
) -> None:
    with opened(filled) as lake:
        happened(table_of(lake))
        snapshots = len(table_of(lake).snapshots())
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        batches = {file.batch_id for file in check.expected_state(lake).files("vpc_flow")}
        for batch_id in batches:
            catalog.register(batch_id, lake.ledger.files_of(batch_id))
        assert len(table_of(lake).snapshots()) == snapshots
        assert_once(lake)
        assert check.check(lake) == []


@pytest.mark.slow
@pytest.mark.parametrize("happened", often([untouched, merge_files], [merge_files]))
def test_a_dropped_batch_is_gone_and_one_done_anew_has_its_new_rows(
    happened: Callable[[Table], None], filled: Settings
) -> None:
    with opened(filled) as lake:
        happened(table_of(lake))
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        first = min(file.batch_id for file in check.expected_state(lake).files("vpc_flow"))
        files = lake.ledger.files_of(first)
        for _ in range(2):
            catalog.drop(first)
            assert_once(lake, FLOWS - sum(file.rows for file in files))
        assert {item.kind for item in check.check(lake)} == {Kind.FILE_UNREGISTERED}
        catalog.register(first, files)
        assert_once(lake)
        catalog.register(first, files[:1])
        assert_once(lake, FLOWS - sum(file.rows for file in files[1:]))


@pytest.mark.slow
def test_new_columns_reach_the_table(filled: Settings) -> None:
    from tests.ocsf_lake.cataloged import with_column, with_member

    with opened(filled) as lake:
        catalog = catalog_of(lake)
        wider = with_member(with_column(VPC, pa.field("more", pa.string())), "cloud", pa.field("org", pa.string()))
        catalog.create_or_evolve(wider)
        first = min(file.batch_id for file in check.expected_state(lake).files("vpc_flow"))
        catalog.drop(first)
        catalog.register(first, lake.ledger.files_of(first))
        found = table_of(lake).scan().to_arrow()
        assert found["more"].null_count == FLOWS
        assert found["cloud"].to_pylist()[0]["org"] is None
        assert found[LAKE_FILE].null_count == 0
        assert_once(lake)


@pytest.mark.slow
def test_events_out_of_time_are_there_too(filled: Settings) -> None:
    """Earlier versions had files of them, of several days each."""
    with opened(filled) as lake:
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        held = check.expected_state(lake).files("vpc_flow")[0]
        with lake.store.opened(held.path) as stream:
            found = pq.read_table(stream)[:5]
        times = pa.array([-1, -(10**14), 4 * 10**17, None, 0], pa.int64()).cast(pa.timestamp("us", "UTC"))
        found = found.set_column(found.column_names.index("time_dt"), "time_dt", times)
        partition = Partition("vpc_flow", (*held.partition.values[:2], "unknown"))
        path = f"{folder('vpc_flow', partition.values)}/{'e' * 32}-00000-4001.parquet"
        data = parquet.encode(found, filled)
        lake.store.put(path, data)
        odd = FileInfo(path, partition, 4001, 5, data.size, parquet.checksum(data))
        for _ in range(2):
            catalog.register("e" * 32, [odd])
            assert rows(table_of(lake)).total() == FLOWS + 5
        catalog.drop("e" * 32)
        assert_once(lake)


# -- damages ----------------------------------------------------------------------------------------------------------
def lose_a_file(table: Table) -> None:
    found = table.scan().to_arrow()
    name = min(found[LAKE_FILE].to_pylist())
    set_rows(table, found.filter(pc.not_equal(found[LAKE_FILE], name)))


def lose_a_file_of_ours(table: Table) -> None:
    table.delete(f"{LAKE_FILE} = '{min(table.scan().to_arrow()[LAKE_FILE].to_pylist())}'")


def lose_a_row(table: Table) -> None:
    set_rows(table, table.scan().to_arrow()[1:])


def double_rows(table: Table) -> None:
    found = table.scan().to_arrow()
    set_rows(table, pa.concat_tables([found, found[:3]]))


def double_a_file_of_ours(table: Table) -> None:
    with table.transaction() as changing, changing.update_snapshot().fast_append() as producer:
        producer.append_data_file(next(iter(table.scan().plan_files())).file)


def add_rows_of_nobody(table: Table) -> None:
    found = table.scan().to_arrow()
    some = found[:3].set_column(found.column_names.index(LAKE_FILE), LAKE_FILE, pa.nulls(3, pa.large_string()))
    set_rows(table, pa.concat_tables([found, some.cast(found.schema)]))


DAMAGES = [
    (lose_a_file, Kind.FILE_UNREGISTERED), (lose_a_file_of_ours, Kind.FILE_UNREGISTERED),
    (lose_a_row, Kind.FILE_UNREGISTERED), (double_rows, Kind.FILE_UNKNOWN),
    (double_a_file_of_ours, Kind.FILE_UNKNOWN), (add_rows_of_nobody, Kind.FILE_UNKNOWN),
]  # fmt: skip
OFTEN = (lose_a_file, double_rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        pytest.param(damage, kind, id=damage.__name__, marks=[pytest.mark.slow] * (damage not in OFTEN))
        for damage, kind in DAMAGES
    ],
)
def test_damage_is_found_and_mended(damage: Callable[[Table], None], kind: Kind, mended: Settings) -> None:
    with opened(mended) as lake:
        assert check.check(lake) == []
        damage(table_of(lake))
        assert {item.kind for item in check.check(lake)} == {kind}
        repair = check.sync(lake)
        assert (repair.left, repair.refused) == ([], [])
        assert_once(lake)


@pytest.mark.slow
def test_compaction_and_expiry_are_left_to_the_service(filled: Settings) -> None:
    with opened(filled) as lake:
        assert "compacts its tables itself" in (compact.refusal(lake, "vpc_flow") or "")
        catalog, held = catalog_of(lake), check.expected_state(lake).files("vpc_flow")
        catalog.create_or_evolve(VPC)
        for _ in range(2):
            catalog.replace("f" * 32, held[:2], held[1:2])  # of a compaction that began before the table was there
            assert_once(lake, FLOWS - held[0].rows)


# -- crowded, killed, cut off -----------------------------------------------------------------------------------------
def flows(to: Path, first: int, objects: int) -> Path:
    """A folder of objects with five flow log lines each."""
    for number in range(first, first + objects):
        lines = [HEADER, *(flow(number * 10 + step) for step in range(5))]
        key = VPC_KEY.format(account="111122223333", region="eu-west-1", hhmm=f"{number:04d}", tag=f"t{number}")
        write(to / key, "\n".join(lines) + "\n")
    return to


@pytest.mark.slow
def test_writers_that_meet_all_get_in_once(tabled: Settings, mortals: CrashHarness, tmp_path: Path) -> None:
    """Two processes, from a catalog without the table on."""
    given = {**tabled.model_dump(mode="json", exclude_defaults=True), "batch_objects": 1}
    other = CrashHarness.born()
    try:
        with ThreadPoolExecutor(2) as pool:
            logs = [flows(tmp_path / name, first, 3) for name, first in (("one", 0), ("two", 3))]
            told = [pool.submit(one.ingest, own, given) for one, own in zip((mortals, other), logs, strict=True)]
            assert [item.result(120) for item in told] == ["done", "done"]
    finally:
        other.end()
    with opened(tabled) as lake:
        assert_once(lake, 30)
        assert len({item.summary[BATCH] for item in table_of(lake).snapshots() if item.summary}) == 6
        assert check.check(lake) == []


def test_rows_of_a_file_that_is_written_off_are_in_no_table(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(filled) as lake:
        table = "vpc_flow"
        lost = max(check.expected_state(lake).files(table), key=lambda file: file.rows)
        lake.store.remove([lost.path])
        lose_raw(monkeypatch)
        assert write_off.write_off(filled, dry_run=True).copied
        assert [part.rows for part in write_off.write_off(filled, None, "removed").parts] == [lost.rows]
        assert check.check(lake) == []
        assert_once(lake, FLOWS - lost.rows)


DEATHS = [
    *({"step": "iceberg file", "nth": nth} for nth in (1, 2, 3)),  # of rows, the manifest, the list of manifests
    *({"step": step} for step in ("iceberg commit", "iceberg committed")),
    *({"step": step} for step in ("written", "registered", "recorded", "committing", "done")),
]


@pytest.mark.slow
def test_killed_at_each_step_each_row_is_there_once(tabled: Settings, mortals: CrashHarness, tmp_path: Path) -> None:
    tabled = tabled.model_copy(update={"attempts": 1_000})
    given = tabled.model_dump(mode="json", exclude_defaults=True)
    for number, death in enumerate(DEATHS):
        logs = flows(tmp_path / f"logs{number}", number * 2, 2)
        assert mortals.ingest(logs, given, **death) == "killed"
        assert ingest.ingest([str(logs)], tabled).failures == []
        with opened(tabled) as lake:
            assert_once(lake, 10 * (number + 1))
    with opened(tabled) as lake:
        assert check.check(lake) == []
        names = [path.rpartition("/")[2] for path in table_of(lake).inspect.files()["file_path"].to_pylist()]
        assert len(names) == len(set(names)) == len(DEATHS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [requests.exceptions.ConnectionError("cut off"), exceptions.CommitStateUnknownException("502")]
)
def test_a_commit_whose_answer_is_lost_is_looked_for(
    error: Exception, tabled: Settings, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = RestCatalog.commit_table
    lost: list[int] = []

    def commit(self: RestCatalog, *given: Any, **named: Any) -> Any:
        answer = really(self, *given, **named)
        if len(lost) % 2 == 0:
            lost.append(1)
            raise error
        lost.append(0)
        return answer

    monkeypatch.setattr(RestCatalog, "commit_table", commit)
    ingest.ingest([str(logs)], tabled)
    assert sum(lost) >= 2
    with opened(tabled) as lake:
        assert_once(lake)
        assert len(table_of(lake).snapshots()) == 2
        assert check.check(lake) == []


@pytest.mark.slow
def test_a_catalog_that_does_not_answer_can_be_tried_again(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise requests.exceptions.ConnectionError("refused")

    with opened(filled) as lake:
        catalog = catalog_of(lake)
        catalog.sleep = lambda _: None
        with monkeypatch.context() as patched:
            patched.setattr(RestCatalog, "load_table", away)
            with pytest.raises(RetriableError, match="refused"):
                check.check(lake)
            with pytest.raises(RetriableError, match="refused"):
                catalog.create_or_evolve(VPC)
        catalog.create_or_evolve(VPC)


def test_a_catalog_that_is_away_can_be_tried_again(
    tabled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    away = {**tabled.iceberg_properties, "uri": "http://127.0.0.1:1"}
    found = tabled.model_copy(update={"iceberg_properties": away})
    with pytest.raises(RetriableError, match="does not answer"), opened(found):
        pass


@pytest.mark.parametrize("wrong", [{"client.secret-access-key": "wrong"}, {"rest.sigv4-enabled": "false"}])
def test_a_catalog_that_refuses_us_is_told(wrong: dict[str, str], tabled: Settings, logs: Path) -> None:
    found = tabled.model_copy(update={"iceberg_properties": {**tabled.iceberg_properties, **wrong}})
    with pytest.raises(WriteError, match="the Iceberg catalog refused"):
        ingest.ingest([str(logs)], found)


def test_tables_that_refer_to_files_elsewhere_are_refused_in_words(tabled: Settings, logs: Path) -> None:
    found = tabled.model_copy(update={"iceberg_files": "referenced"})
    with pytest.raises(WriteError, match=r"the Iceberg catalog cannot do it: .*location"):
        ingest.ingest([str(logs)], found)
