"""Copies of rows in Iceberg beside others: who are at work just now, were so before, or write what nobody expects."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ocsf_lake import config
from ocsf_lake.catalogs import iceberg_copied
from ocsf_lake.catalogs.base import Kind
from ocsf_lake.catalogs.definitions import folder
from ocsf_lake.catalogs.iceberg_copied import LAKE_FILE, CopiedCatalog, _key, _written
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.storage import layout, parquet
from ocsf_lake.storage.fileinfo import FileInfo
from ocsf_lake.storage.layout import Partition
from ocsf_lake.upkeep import check, compact
from tests.ocsf_lake.compacting import TABLE, dying, take
from tests.ocsf_lake.test_s3_tables import VPC, assert_once, catalog_of, flows, forget_snapshots, rows, table_of
from tests.servers.seaweed import TablesServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def settings_of(tables_server: TablesServer, folder: Path) -> Settings:
    properties = tables_server.properties(tables_server.new_bucket())
    lake = str(folder / "lake")
    return config.load(lake=lake, catalogs=["iceberg"], iceberg_properties=properties, batch_objects=1, workers=1)


@pytest.fixture
def tabled(tables_server: TablesServer, tmp_path: Path) -> Settings:
    """Settings of a new lake whose tables are in a bucket of tables; each object is a batch."""
    return settings_of(tables_server, tmp_path)


@pytest.fixture
def filled(tabled: Settings, tmp_path: Path) -> Settings:
    """Three batches of five rows each."""
    ingest.ingest([str(flows(tmp_path / "logs", 0, 3))], tabled)
    return tabled


@pytest.fixture(scope="module")
def mended(tables_server: TablesServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The same, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("mended")
    found = settings_of(tables_server, folder)
    ingest.ingest([str(flows(folder / "logs", 0, 3))], found)
    return found


def test_a_batch_that_is_done_while_a_table_is_repaired_stays(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, look = CopiedCatalog._loaded, iceberg_copied._rows
    done: list[int] = []

    def crowded(act: Callable[..., Any]) -> Callable[..., Any]:
        """Before and after it is done another worker finishes a batch, at first."""

        def another() -> None:
            if len(done) < 6:
                done.append(len(done) + 3)
                ingest.ingest([str(flows(tmp_path / f"more{done[-1]}", done[-1], 1))], filled)

        def doing(*given: Any) -> Any:
            with monkeypatch.context() as patched:
                patched.setattr(CopiedCatalog, "_loaded", load)
                patched.setattr(iceberg_copied, "_rows", look)
                another()
                found = act(*given)
                another()
            return found

        return doing

    with opened(filled) as lake:
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        catalog.drop(check.expected_state(lake).files("vpc_flow")[0].batch_id)
        catalog.sleep = lambda _: None
        monkeypatch.setattr(CopiedCatalog, "_loaded", crowded(load))
        monkeypatch.setattr(iceberg_copied, "_rows", crowded(look))
        with catalog._lock:
            catalog._repair_rows("vpc_flow", check.expected_state(lake))
        assert len(done) == 6
        monkeypatch.setattr(CopiedCatalog, "_loaded", load)
        monkeypatch.setattr(iceberg_copied, "_rows", look)
        assert_once(lake, (3 + len(done)) * 5)
        assert check.check(lake) == []


def test_a_batch_that_is_done_while_a_table_is_checked_is_no_finding(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = iceberg_copied._rows
    looked: list[bool] = []

    def looking(*given: Any) -> Any:
        found = look(*given)
        looked.append(True)
        if len(looked) == 1:
            ingest.ingest([str(flows(tmp_path / "more", 3, 1))], filled)
        return found

    with opened(filled) as lake:
        monkeypatch.setattr(iceberg_copied, "_rows", looking)
        assert catalog_of(lake).check(VPC, check.expected_state(lake)) == []
        assert len(looked) >= 2


def test_a_writer_that_is_slow_to_copy_gets_in_beside_a_quick_one(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = CopiedCatalog._copy
    copied: list[str] = []

    def copying(self: CopiedCatalog, table: Any, file: Any, written: uuid.UUID) -> Iterator[Any]:
        """While each file is copied another worker commits."""
        copied.append(file.path)
        with monkeypatch.context() as patched:
            patched.setattr(CopiedCatalog, "_copy", copy)
            ingest.ingest([str(flows(tmp_path / f"quick{len(copied)}", 10 + len(copied), 1))], filled)
        yield from copy(self, table, file, written)

    monkeypatch.setattr(CopiedCatalog, "_copy", copying)
    ingest.ingest([str(flows(tmp_path / "slow", 3, 2))], filled)
    assert len(copied) == len(set(copied)) == 2
    with opened(filled) as lake:
        assert_once(lake, 7 * 5)
        assert check.check(lake) == []


@pytest.mark.parametrize("step", ["planned", "fenced"])
def test_a_compaction_that_began_before_the_tables_were_copied_is_finished(
    step: str, tabled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tabled.model_copy(update={"catalogs": ()})
    take(tmp_path / "logs", before, 0, 1, 2)
    with dying(monkeypatch, step):
        compact.compact(before)
    with opened(tabled) as lake:
        assert check.consistent(check.sync(lake).left)
        assert rows(table_of(lake, TABLE)).total() == 18
    compact.compact(tabled)
    with opened(tabled) as lake:
        (merged,) = check.expected_state(lake).files(TABLE)
        assert layout.is_compacted(layout.folder_of(merged.path))
        assert set(table_of(lake, TABLE).scan().to_arrow()[LAKE_FILE].to_pylist()) == {merged.path.rpartition("/")[2]}
    take(tmp_path / "more", tabled, 3)
    with opened(tabled) as lake:
        found = rows(table_of(lake, TABLE))
        assert (len(found), found.total()) == (24, 24)
        assert check.check(lake) == []


def test_what_an_earlier_attempt_put_elsewhere_is_taken_out(filled: Settings) -> None:
    """Its snapshot is forgotten; the ledger knows where it has written."""
    with opened(filled) as lake:
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        file = check.expected_state(lake).files("vpc_flow")[0]
        other = table_of(lake, "vpc_flow").scan().to_arrow()
        with lake.store.opened(file.path) as stream:
            own = pq.read_table(stream)
        partition = Partition("vpc_flow", ("eu-west-1", "999999999999", "20250311"))
        own = own.set_column(own.column_names.index("accountid"), "accountid", pa.repeat("999999999999", len(own)))
        path = f"{folder('vpc_flow', partition.values)}/{file.path.rpartition('/')[2]}"
        data = parquet.encode(own, filled)
        lake.store.put(path, data)
        elsewhere = FileInfo(path, partition, 4001, file.rows, data.size, parquet.checksum(data))
        catalog.register(file.batch_id, [elsewhere])
        forget_snapshots(table_of(lake))
        catalog.register("f" * 32, [])
        catalog.register(file.batch_id, [file], [partition])
        assert table_of(lake).scan(row_filter="accountid = '999999999999'").to_arrow().num_rows == 0
        assert_once(lake, len(other))


def test_the_last_day_there_is_has_rows_too(filled: Settings) -> None:
    """9999-12-31 stands in logs for `never`."""
    with opened(filled) as lake:
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        held = check.expected_state(lake).files("vpc_flow")[0]
        with lake.store.opened(held.path) as stream:
            found = pq.read_table(stream)[:2]
        times = pa.array([253_402_214_400_000_000, 253_402_300_799_999_999], pa.timestamp("us", "UTC"))
        found = found.set_column(found.column_names.index("time_dt"), "time_dt", times)
        partition = Partition("vpc_flow", (*held.partition.values[:2], "99991231"))
        path = f"{folder('vpc_flow', partition.values)}/{'e' * 32}-00000-4001.parquet"
        data = parquet.encode(found, filled)
        lake.store.put(path, data)
        last = FileInfo(path, partition, 4001, 2, data.size, parquet.checksum(data))
        for _ in range(2):
            catalog.register("e" * 32, [last])
            forget_snapshots(table_of(lake))
            assert rows(table_of(lake)).total() == 17
        catalog.drop("e" * 32)
        assert_once(lake, 15)


def without_a_name(found: pa.Table) -> pa.Table:
    return replaced(found, LAKE_FILE, "")


def without_a_region(found: pa.Table) -> pa.Table:
    return replaced(replaced(found, "region", None), LAKE_FILE, None)


def with_control_characters(found: pa.Table) -> pa.Table:
    return replaced(replaced(found, "accountid", "\x1b[31m/../red"), LAKE_FILE, "\x1b[2J'; DROP TABLE x --")


def of_a_name_of_ours(found: pa.Table) -> pa.Table:
    """In another partition than the file's own."""
    return replaced(found, "accountid", "999999999999")


def replaced(found: pa.Table, column: str, value: str | None) -> pa.Table:
    number = found.column_names.index(column)
    return found.set_column(number, found.schema.field(number), pa.repeat(pa.scalar(value, pa.string()), len(found)))


OTHERS = [without_a_name, without_a_region, with_control_characters, of_a_name_of_ours]


@pytest.mark.parametrize("other", OTHERS, ids=[other.__name__ for other in OTHERS])
def test_rows_of_others_are_found_and_taken_out(
    other: Callable[[pa.Table], pa.Table], mended: Settings
) -> None:
    with opened(mended) as lake:
        table = table_of(lake)
        found = other(table.scan().to_arrow()[:3])
        region, account = (found[column][0].as_py() for column in ("region", "accountid"))
        day = pc.cast(pc.cast(found["time_dt"], pa.date32()), pa.int32())[0].as_py()
        with table.transaction() as changing, changing.update_snapshot().fast_append() as producer:
            producer.append_data_file(_written(table, _key(table, region, account, day), found, uuid.uuid4(), 0))
        (finding,) = check.check(lake)
        assert finding.kind == Kind.FILE_UNKNOWN
        assert finding.says == "engines see 3 rows that no finished batch has counted; sync takes them out"
        repair = check.sync(lake)
        assert (repair.left, repair.refused) == ([], [])
        assert_once(lake, 15)


def test_a_file_that_is_gone_for_good_does_not_keep_others_from_being_mended(filled: Settings) -> None:
    with opened(filled) as lake:
        catalog = catalog_of(lake)
        catalog.create_or_evolve(VPC)
        held = check.expected_state(lake).files("vpc_flow")
        for file in held:
            catalog.drop(file.batch_id)
        lake.store.remove([held[1].path])
        catalog.repair(VPC, check.expected_state(lake))
        assert_once(lake, 10)
        (finding,) = catalog.check(VPC, check.expected_state(lake))
        assert (finding.kind, finding.item) == (Kind.FILE_UNREGISTERED, held[1].path)


def test_what_readers_may_be_at_is_not_written_over(filled: Settings) -> None:
    """A copy that is twice in the table is replaced by one of another name."""
    with opened(filled) as lake:
        table = table_of(lake)
        double = next(iter(table.scan().plan_files())).file
        with table.transaction() as changing, changing.update_snapshot().fast_append() as producer:
            producer.append_data_file(double)
        before = table.scan().to_arrow()
        assert check.sync(lake).left == []
        assert_once(lake, 15)
        later = table_of(lake)
        assert double.file_path not in later.inspect.files()["file_path"].to_pylist()
        assert later.scan(snapshot_id=table.current_snapshot().snapshot_id).to_arrow().equals(before)  # type: ignore[union-attr]


def test_what_the_service_has_merged_is_read_by_its_one_column(filled: Settings) -> None:
    """Rows of two files of the lake, and of nobody, in one file of the table, then less and more of one of them."""
    with opened(filled) as lake:
        table = table_of(lake)
        found = table.scan().to_arrow()
        first = min(found[LAKE_FILE].to_pylist())
        own = found.filter(pc.equal(found[LAKE_FILE], first))
        merged = pa.concat_tables([found, own[:1], without_a_name(found[:2])])
        day = pc.cast(pc.cast(found["time_dt"], pa.date32()), pa.int32())[0].as_py()
        with table.transaction() as changing, changing.update_snapshot().overwrite() as producer:
            for task in table.scan().plan_files():
                producer.delete_data_file(task.file)
            key = _key(table, "eu-west-1", "111122223333", day)
            producer.append_data_file(_written(table, key, merged, uuid.uuid4(), 0))
        assert [item.kind for item in check.check(lake)] == [Kind.FILE_UNKNOWN, Kind.FILE_UNKNOWN]
        assert check.sync(lake).left == []
        assert_once(lake, 15)
        # The other files' rows are in one file still; only the wrong one was copied anew.
        assert len(list(table_of(lake).scan().plan_files())) == 2
