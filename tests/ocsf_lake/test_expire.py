"""Snapshots of Iceberg that expire: what tables are now stays as it is, what nobody names any more is removed."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from ocsf_lake import config
from ocsf_lake.catalogs import iceberg, iceberg_expiry
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.catalogs.iceberg import IcebergCatalog
from ocsf_lake.config import Settings
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import Lake, opened
from ocsf_lake.upkeep import check, compact
from ocsf_lake.upkeep.expire import expire
from tests.ocsf_lake.compacting import TABLE, dying, take
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, call, write
from tests.servers.rgw import S3Server
from tests.servers.seaweed import TablesServer

Make = Callable[..., Settings]
ALL = timedelta(0)
TWO_DAYS_AGO = time.time() - 2 * 86_400


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A lake with four batches, each a snapshot."""
    found = config.load(lake=str(tmp_path / "lake"), catalogs=["iceberg"])
    take(tmp_path / "logs", found, 0, 1, 2, 3)
    return found


def catalog_of(lake: Lake) -> IcebergCatalog:
    (found,) = lake.catalog.all
    assert isinstance(found, IcebergCatalog)
    return found


def table_of(lake: Lake) -> Table:
    found = catalog_of(lake)
    return found.catalog.load_table((found.namespace, TABLE))


def metadata(settings: Settings, ending: str = "") -> set[Path]:
    return set((Path(settings.lake) / "_iceberg" / TABLE / "metadata").glob(f"*{ending}"))


def grow_old(settings: Settings) -> None:
    for path in metadata(settings):
        os.utime(path, (TWO_DAYS_AGO, TWO_DAYS_AGO))


@pytest.mark.slow
def test_earlier_snapshots_and_their_metadata_go_and_rows_stay(settings: Settings) -> None:
    with opened(settings) as lake:
        before = table_of(lake).scan().to_arrow()
        assert len(table_of(lake).snapshots()) == 4
        grow_old(settings)
        lists = len(metadata(settings, ".avro"))
        would = expire(settings, ALL, dry_run=True)
        assert len(table_of(lake).snapshots()) == 4
        assert len(metadata(settings, ".avro")) == lists
        (done,) = expire(settings, ALL).tables
        assert (done.snapshots, done.files) == (would.tables[0].snapshots, would.tables[0].files)
        assert (done.snapshots, done.files > 0, done.bytes > 0) == (3, True, True)
        table = table_of(lake)
        assert len(table.snapshots()) == 1
        assert table.scan().to_arrow().equals(before)
        named = {item.manifest_path.rpartition("/")[2] for item in table.current_snapshot().manifests(table.io)}
        named.add(table.current_snapshot().manifest_list.rpartition("/")[2])
        assert {path.name for path in metadata(settings, ".avro")} == named
        assert check.check(lake) == []
        for batch_id in {file.batch_id for file in check.expected_state(lake).files(TABLE)}:
            lake.catalog.register(batch_id, lake.ledger.files_of(batch_id))
        assert len(table_of(lake).snapshots()) == 1
    grow_old(settings)
    assert expire(settings, ALL).tables == []


@pytest.mark.slow
def test_metadata_that_is_reached_in_another_way_is_left_alone(settings: Settings) -> None:
    grow_old(settings)
    files = metadata(settings)
    properties = {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    (done,) = expire(settings.model_copy(update={"iceberg_properties": properties}), ALL).tables
    assert (done.snapshots, done.files) == (3, 0)
    assert metadata(settings) >= files


@pytest.mark.slow
def test_a_batch_that_is_done_while_a_table_is_checked_is_no_finding(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = iceberg._data_files
    came: list[bool] = []

    def looking(*given: Any) -> Any:
        found = look(*given)
        if not came:
            came.append(True)
            take(tmp_path / "more", settings, 4)
        return found

    with opened(settings) as lake:
        monkeypatch.setattr(iceberg, "_data_files", looking)
        assert catalog_of(lake).check(definition(TABLE), check.expected_state(lake)) == []
        assert came


@pytest.mark.slow
def test_what_is_young_stays(settings: Settings) -> None:
    files = metadata(settings)
    assert expire(settings).tables == []
    assert metadata(settings) == files
    (done,) = expire(settings, ALL).tables
    # The files may be those of a commit under way.
    assert (done.snapshots, done.files) == (3, 0)
    assert metadata(settings) >= files


@pytest.mark.slow
def test_leftovers_of_a_commit_that_died_are_removed_when_they_are_old(settings: Settings) -> None:
    folder = Path(settings.lake) / "_iceberg" / TABLE / "metadata"
    left = [folder / f"{uuid.uuid4()}-m0.avro", folder / f"00009-{uuid.uuid4()}.metadata.json", folder / "notes.txt"]
    for path in left:
        path.write_bytes(b"left")
    files = metadata(settings)
    assert expire(settings).tables == []
    grow_old(settings)
    (done,) = expire(settings).tables
    assert (done.snapshots, done.files, done.bytes) == (0, 2, 8)
    assert metadata(settings) == files - set(left[:2])
    with opened(settings) as lake:
        assert check.check(lake) == []


@pytest.mark.slow
def test_a_snapshot_with_a_tag_stays(settings: Settings) -> None:
    with opened(settings) as lake:
        first = table_of(lake).snapshots()[0].snapshot_id
        table_of(lake).manage_snapshots().create_tag(first, "audit").commit()
        grow_old(settings)
        (done,) = expire(settings, ALL).tables
        assert done.snapshots == 2
        table = table_of(lake)
        assert {item.snapshot_id for item in table.snapshots()} == {first, table.current_snapshot().snapshot_id}
        assert 0 < table.scan(snapshot_id=first).to_arrow().num_rows < table.scan().to_arrow().num_rows


@pytest.mark.slow
def test_a_batch_that_comes_between_is_kept(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = iceberg_expiry._listed
    came: list[bool] = []

    def listed(table: Table, folder: str) -> object:
        found = list(really(table, folder))
        if not came and table.name()[-1] == TABLE:
            came.append(True)
            take(tmp_path / "more", settings, 4)
        return found

    grow_old(settings)
    monkeypatch.setattr(iceberg_expiry, "_listed", listed)
    expire(settings, ALL)
    assert came
    with opened(settings) as lake:
        assert check.check(lake) == []
        assert len({item.batch_id for item in check.expected_state(lake).files(TABLE)}) == 5


@pytest.mark.slow
def test_files_that_were_merged_go_when_no_snapshot_has_them(settings: Settings) -> None:
    compact.compact(settings)
    later = datetime.now(UTC) + timedelta(days=2)
    assert compact.compact(settings, clock=lambda: later).removed == 0
    expire(settings, ALL)
    assert compact.compact(settings, clock=lambda: later).removed == 4
    with opened(settings) as lake:
        assert check.check(lake) == []
        assert len(table_of(lake).scan().to_arrow()) == sum(
            file.rows for file in check.expected_state(lake).files(TABLE)
        )


def test_a_lake_without_iceberg_has_nothing_to_forget(tmp_path: Path) -> None:
    found = config.load(lake=str(tmp_path / "lake"))
    take(tmp_path / "logs", found, 0)
    summary = expire(found, ALL)
    assert (summary.tables, summary.left) == ([], {})


@pytest.mark.slow
def test_what_a_dead_attempt_registered_in_another_table_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt has no files in it: its events came in another delivery by then. Its snapshot is forgotten."""
    found = config.load(lake=str(tmp_path / "lake"), catalogs=["iceberg"], duplicates={"aws_cloudtrail": "drop"})
    read = call(2, eventCategory="Data", managementEvent=False, eventSource="s3.amazonaws.com", eventName="GetObject")

    def deliver(name: str, *records: dict[str, object]) -> Path:
        key = CLOUDTRAIL_KEY.format(account="111122223333", region="eu-west-1", hhmm="0900", tag=name)
        write(tmp_path / name / key, json.dumps({"Records": records}))
        return tmp_path / name

    ours = deliver("ours", call(1), read)
    with dying(monkeypatch, "registered"):
        ingest.ingest([str(ours)], found)
    ingest.ingest([str(deliver("theirs", read))], found)
    (done,) = expire(found, ALL).tables
    assert (done.table, done.snapshots) == ("s3_data", 1)
    ingest.ingest([str(ours)], found)
    with opened(found) as lake:
        catalog = catalog_of(lake)
        for table in (TABLE, "s3_data"):
            assert catalog.catalog.load_table((catalog.namespace, table)).scan().to_arrow().num_rows == 1
        assert check.check(lake) == []


@pytest.mark.slow
@pytest.mark.integration
def test_snapshots_of_a_lake_on_s3_expire(
    s3_owner: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = config.load(lake=f"s3://{bucket}/lake", state=tmp_path / "state", catalogs=["iceberg"])
    take(tmp_path / "logs", found, 0, 1)
    monkeypatch.setattr(iceberg_expiry, "SAFE_AGE", timedelta(0))
    (done,) = expire(found, ALL).tables
    assert (done.snapshots, done.files > 0) == (1, True)
    with opened(found) as lake:
        assert check.check(lake) == []
        files = check.expected_state(lake).files(TABLE)
        assert len(table_of(lake).scan().to_arrow()) == sum(file.rows for file in files)


@pytest.mark.slow
@pytest.mark.integration
def test_s3_tables_is_left_to_do_it_itself(tables_server: TablesServer, logs: Path, tmp_path: Path) -> None:
    found = config.load(
        lake=str(tmp_path / "lake"), catalogs=["iceberg"],
        iceberg_properties=tables_server.properties(tables_server.new_bucket()),
    )  # fmt: skip
    ingest.ingest([str(logs)], found)
    summary = expire(found, ALL)
    assert summary.tables == []
    assert "forgets snapshots of its tables itself" in summary.left["iceberg"]
