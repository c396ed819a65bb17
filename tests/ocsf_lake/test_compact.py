"""Small files of partitions become large ones, and nothing else changes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from ocsf_lake import config
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.ingest import batch, moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.tables import COMPACTIONS, FILES, RETIRED
from ocsf_lake.storage import ordered
from ocsf_lake.upkeep import check, compact, merge, rebuild_ledger, replay
from ocsf_mappers import registry
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.compacting import EACH, PLACES, TABLE, Make, die_at, dying, files, ledger, log, take
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, ON_BOTH, call, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture


# -- what a compaction does -------------------------------------------------------------------------------------------
@pytest.mark.slow
@ON_BOTH
def test_small_files_become_one_with_the_same_rows(settings: Make, tmp_path: Path) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0, 1, 2, 3)
    before, counts = rows(found, f"FROM {TABLE} ORDER BY ALL"), rows(found, "SELECT sum(events) FROM ledger_batches")
    old = files(found)
    (done,) = compact.compact(found).tables
    assert (done.table, done.partitions, done.files_before, done.files_after, done.rows) == (TABLE, 1, 4, 1, 4 * EACH)
    assert rows(found, f"FROM {TABLE} ORDER BY ALL") == before
    assert rows(found, "SELECT sum(events) FROM ledger_batches") == counts
    (new,) = files(found)
    assert new.parent.name == "g0001"
    assert new.parent.parent.parts[-3:] == ("region=eu-west-1", "accountId=111122223333", "eventDay=20250311")
    times = pq.read_table(new, partitioning=None)["time"].to_pylist()
    assert times == sorted(times)
    assert all(path.exists() for path in old)
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
    assert compact.compact(found).tables == []


@pytest.mark.slow
def test_each_value_of_each_row_is_kept(compactable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows are sorted a span of time after the other, and go into several files."""
    found = compactable(compact_file_bytes=40_000, row_group_rows=4)
    monkeypatch.setattr(merge, "SPAN_BYTES", 4_000)
    key = [(name, "ascending") for name in ("time", "source_object", "source_record")]
    before = pa.concat_tables(pq.read_table(path, partitioning=None) for path in files(found)).sort_by(key)
    compact.compact(found)
    new = files(found)
    assert 1 < len(new) < 4
    after = pa.concat_tables(pq.read_table(path, partitioning=None) for path in new)
    assert after.schema == before.schema == registry.table(TABLE).arrow
    assert after.to_pylist() == before.to_pylist()
    metadata = pq.read_metadata(new[0])
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).sorting_columns


def test_the_same_files_give_the_same_names_and_bytes(compactable: Make) -> None:
    made = []
    for name in ("one", "two"):
        found = compactable(name)
        compact.compact(found)
        made.append([(path.name, path.read_bytes()) for path in files(found)])
    assert made[0] == made[1]


@pytest.mark.slow
def test_what_comes_late_goes_where_the_partition_is_and_is_merged_in_its_turn(
    compactable: Make, late_logs: Path
) -> None:
    found = compactable()
    compact.compact(found)
    take(late_logs, found, 4)
    assert {path.parent.name for path in files(found)} == {"g0001"}
    assert len(rows(found, PLACES)) == 5 * EACH
    compact.compact(found)
    assert [path.parent.name for path in files(found)] == ["g0002"]
    assert len(rows(found, PLACES)) == 5 * EACH
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


def test_days_that_are_not_over_and_single_files_are_left_alone(compactable: Make) -> None:
    found = compactable()
    day_over = datetime(2025, 3, 12, tzinfo=UTC)
    clock: list[datetime] = [day_over + timedelta(days=2, seconds=-1)]
    assert compact.compact(found, clock=lambda: clock[0]).tables == []
    assert compact.compact(found, older_than=timedelta(days=1), dry_run=True, clock=lambda: clock[0]).tables
    clock[0] += timedelta(seconds=1)
    assert compact.compact(found, "vpc_flow", clock=lambda: clock[0]).tables == []
    assert len(files(found)) == 4
    assert compact.compact(found, clock=lambda: clock[0]).tables
    with pytest.raises(ConfigError, match=r"no table 'cloud_trail'"):
        compact.compact(found, "cloud_trail")


def test_a_dry_run_changes_nothing(compactable: Make) -> None:
    found = compactable()
    before = {path: path.stat().st_mtime_ns for path in Path(found.lake).rglob("*.parquet")}
    (done,) = compact.compact(found, dry_run=True).tables
    assert (done.partitions, done.files_before, done.files_after, done.bytes_after) == (1, 4, 1, None)
    assert {path: path.stat().st_mtime_ns for path in Path(found.lake).rglob("*.parquet")} == before
    assert ledger(found, COMPACTIONS) == []


@pytest.mark.slow
def test_a_large_file_comes_along_where_that_is_worth_it(
    compactable: Make, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable()
    compact.compact(found)
    (large,) = files(found)
    small = compactable(compact_file_bytes=2 * large.stat().st_size)
    take(late_logs, found, 4)
    monkeypatch.setattr(compact, "COPIED_PER_FILE", 1)
    assert compact.compact(small).tables == []
    take(late_logs, found, 5)
    assert compact.compact(small).tables == []
    monkeypatch.setattr(compact, "COPIED_PER_FILE", large.stat().st_size + 1)
    assert compact.compact(small).tables
    new = {path.name: path for path in files(found)}
    assert len(new) == 2
    assert {path.parent.name for path in new.values()} == {"g0002"}
    assert new[large.name].read_bytes() == large.read_bytes()
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 6 * EACH


@pytest.mark.slow
def test_files_of_an_older_release_are_merged_and_those_of_a_newer_one_are_left(compactable: Make) -> None:
    found = compactable()
    first, second = files(found)[:2]
    older = pq.read_table(first, partitioning=None).drop_columns(["api"])
    pq.write_table(older, first)
    _tell(found, first)
    before = rows(found, PLACES)
    compact.compact(found)
    assert rows(found, PLACES) == before
    assert rows(found, f"SELECT count(*) FROM {TABLE} WHERE api IS NULL") == [(EACH,)]
    newer = compactable("newer")
    second = files(newer)[1]
    table = pq.read_table(second, partitioning=None)
    pq.write_table(table.append_column("later", pa.array([1] * len(table))), second)
    _tell(newer, second)
    summary = compact.compact(newer)
    assert "columns that this release does not know, which it would lose: later" in summary.refused[TABLE]
    assert len(files(newer)) == 4
    assert not list(Path(newer.lake).glob("compacted/**/*.parquet"))


def _tell(settings: Settings, path: Path) -> None:
    """Makes the ledger take a file for what was written."""
    from ocsf_lake.storage import fetched

    with opened(settings) as lake, lake.ledger.engine.begin() as connection:
        name = path.relative_to(settings.lake).as_posix()
        values = {"sha256": fetched.sha256(path), "bytes": path.stat().st_size}
        connection.execute(sa.update(FILES).where(FILES.c.path == name).values(values))


def test_a_damaged_file_is_named_and_stays(compactable: Make) -> None:
    found = compactable()
    path = files(found)[2]
    path.write_bytes(b"x" + path.read_bytes()[1:])
    reason = compact.compact(found).refused[TABLE]
    assert path.name in reason
    assert "other bytes than were written; `ocsf-lake catalog sync --deep`" in reason
    assert [row for row in ledger(found, COMPACTIONS) if row["state"] != "done"] == []
    with opened(found) as lake:
        check.sync(lake, deep=True)
    assert compact.compact(found).tables


# -- old files --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_old_files_stay_for_a_time_of_grace_and_no_check_calls_them_strange(compactable: Make, late_logs: Path) -> None:
    found = compactable()
    old = files(found)
    compact.compact(found)
    now = datetime.now(UTC)
    assert compact.compact(found, clock=lambda: now + timedelta(hours=23)).removed == 0
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
    summary = compact.compact(found, clock=lambda: now + timedelta(hours=25))
    assert (summary.removed, [path for path in old if path.exists()]) == (4, [])
    assert {row["removed_at"] is None for row in ledger(found, RETIRED)} == {False}
    take(late_logs, found, 4)
    compact.compact(found)
    compact.compact(found, clock=lambda: now + timedelta(hours=49))
    assert {path.parent.name for path in Path(found.lake).glob("compacted/**/_plan.json")} == {"g0002"}
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
    assert len(rows(found, PLACES)) == 5 * EACH


def test_a_removal_that_dies_is_finished(compactable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compactable(compact_grace_hours=0)
    with dying(monkeypatch, "removed"):
        compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    with opened(found) as lake:
        assert check.check(lake) == []
    compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    assert {row["removed_at"] is None for row in ledger(found, RETIRED)} == {False}


# -- what reads the files of batches ----------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("removed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_duplicates_of_merged_events_are_found_and_a_lost_file_comes_out_as_it_was(
    removed: bool, tmp_path: Path
) -> None:
    found = config.load(
        lake=str(tmp_path / "lake"), duplicates={"aws_cloudtrail": "drop"}, compact_grace_hours=0
    )
    late_logs = tmp_path / "logs"
    take(late_logs, found, 0, 1)
    _again(late_logs, 0, "copy-1")  # dropped: the lake has its events
    ingest.ingest([str(late_logs)], found)
    compact.compact(found)
    _again(late_logs, 1, "copy-2")
    take(late_logs, found, 2)
    assert len(rows(found, PLACES)) == 3 * EACH
    compact.compact(found)
    if removed:
        compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    (path,) = files(found)
    data = path.read_bytes()
    path.unlink()
    for listed in Path(found.lake).glob("_duplicates/**/*.parquet"):
        if removed:
            continue
        listed.unlink()
    with opened(found) as lake:
        repair = check.sync(lake)
        assert (repair.refused, repair.left) == ([], [])
    assert path.read_bytes() == data
    assert rows(found, "SELECT sum(dropped) FROM ledger_batches") == [(2 * EACH,)]


def _again(late_logs: Path, number: int, tag: str) -> None:
    """An object with the records of another one."""
    key = CLOUDTRAIL_KEY.format(account="111122223333", region="eu-west-1", hhmm="2300", tag=tag)
    calls = [call(number * EACH + step) for step in range(EACH)]
    write(late_logs / key, json.dumps({"Records": calls}))


@pytest.mark.slow
def test_memory_does_not_grow_with_a_partition(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more rows at once than a span of time has, and those of a row group."""
    found = compactable(row_group_rows=4)
    monkeypatch.setattr(merge, "SPAN_BYTES", 1_000)
    most: list[int] = []
    group = ordered.Rows.group

    def grouped(self: ordered.Rows, number: int | None) -> pa.Table:
        table = group(self, number)
        most.append(len(table))
        return table

    monkeypatch.setattr(ordered.Rows, "group", grouped)
    compact.compact(found)
    assert max(most) <= 4
    assert sum(most) == 4 * EACH


def test_rows_are_divided_evenly() -> None:
    assert merge.shares(10, 3) == [4, 3, 3]
    assert merge.shares(3, 1) == [3]


# -- exports, replays, commands ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_what_was_exported_and_merged_is_not_exported_again(compactable: Make, late_logs: Path, tmp_path: Path) -> None:
    bucket = str(tmp_path / "bucket")
    found = compactable(export_region="eu-central-1")
    clock = [datetime(2025, 3, 12, 12, tzinfo=UTC)]

    def send() -> int:
        clock[0] += timedelta(minutes=6)
        return export.export(found, "aws_cloudtrail", bucket, "calls", "6003", clock=lambda: clock[0]).events

    assert send() == 4 * EACH
    take(late_logs, found, 4, 5)
    compact.compact(found)
    assert sorted(pq.read_metadata(path).num_rows for path in files(found)) == [2 * EACH, 4 * EACH]
    assert send() == 2 * EACH
    assert send() == 0
    take(late_logs, found, 6)
    compact.compact(found)
    assert send() == EACH
    assert send() == 0
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    rebuild_ledger.rebuild(found)
    assert send() == 0
    sent = [
        dict(pairs)["ocsf_lake.source_object"] + dict(pairs)["ocsf_lake.source_record"]
        for path in (tmp_path / "bucket").rglob("*.parquet")
        for pairs in pq.read_table(path, partitioning=None)["unmapped"].to_pylist()
    ]
    assert len(sent) == len(set(sent)) == 7 * EACH


@pytest.mark.slow
def test_files_of_an_export_that_is_not_done_are_left_to_the_next_run(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable(export_region="eu-central-1")

    def send() -> int:
        given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
        return export.export(*given, clock=lambda: datetime(2025, 3, 12, tzinfo=UTC)).events

    with monkeypatch.context() as patched:
        patched.setattr(export, "failpoint", die_at("planned"))
        with pytest.raises(KilledError):
            send()
    summary = compact.compact(found)
    assert (summary.tables, summary.waiting) == ([], 1)
    assert send() == 4 * EACH
    assert compact.compact(found).waiting == 0
    assert [path.parent.name for path in files(found)] == ["g0001"]


@pytest.mark.slow
def test_a_compaction_whose_late_file_an_export_takes_is_given_up_and_planned_anew(
    compactable: Make, late_logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable(export_region="eu-central-1")
    came: list[str] = []

    def send() -> int:
        given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
        return export.export(*given, clock=lambda: datetime(2025, 3, 12, tzinfo=UTC)).events

    def failpoint(now: str, _: str) -> None:
        if now == "merged" and not came:
            came.append(now)
            take(late_logs, found, 4)
            with monkeypatch.context() as patched:
                patched.setattr(export, "failpoint", die_at("planned"))
                with pytest.raises(KilledError):
                    send()

    with monkeypatch.context() as patched:
        patched.setattr(moving, "failpoint", failpoint)
        assert compact.compact(found).tables == []
    assert came
    assert not [path for path in Path(found.lake).glob("compacted/**/*") if path.is_file()]
    assert [row for row in ledger(found, COMPACTIONS) if row["state"] != "done"] == []
    assert send() == EACH
    assert compact.compact(found).tables
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 5 * EACH


def test_a_partition_without_a_day_waits_for_its_last_files() -> None:
    before = datetime(2025, 3, 11, tzinfo=UTC)
    assert compact._is_unknown("eu-west-1/111122223333/unknown", "2025-03-10T23:59:59+00:00", before)
    assert not compact._is_unknown("eu-west-1/111122223333/unknown", "2025-03-11T00:00:01+00:00", before)
    assert not compact._is_unknown("eu-west-1/111122223333/20250101", "2025-01-01T00:00:01+00:00", before)
    assert not compact._is_over("unknown", before)


def test_an_export_waits_for_what_is_being_merged(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable(export_region="eu-central-1")

    def send() -> int:
        given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
        return export.export(*given, clock=lambda: datetime(2025, 3, 12, tzinfo=UTC)).events

    with dying(monkeypatch, "fenced"):
        compact.compact(found)
    assert send() == 0
    compact.compact(found)
    assert send() == 4 * EACH


@pytest.mark.slow
def test_quarantine_of_a_merged_batch_is_replayed_where_the_partition_is(
    tmp_path: Path, mend: Callable[[], None],  # noqa: F811
) -> None:
    found = config.load(lake=str(tmp_path / "lake"), compact_grace_hours=0)
    folder = tmp_path / "logs"
    for number in range(2):
        log(folder, number)
        key = CLOUDTRAIL_KEY.format(account="111122223333", region="eu-west-1", hhmm=f"1{number:03d}", tag=f"b{number}")
        calls = [call(100 + number), MENDED[number] | {"recipientAccountId": "111122223333", "awsRegion": "eu-west-1"}]
        write(folder / key, json.dumps({"Records": calls}))
        ingest.ingest([str(folder)], found)
    held = len(rows(found, PLACES))
    compact.compact(found)
    mend()
    assert replay.replay(found).closed == 2
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == held + 2
    assert {path.parent.name for path in files(found) if "accountId=1" in str(path)} == {"g0001"}
    compact.compact(found)
    assert len(rows(found, PLACES)) == held + 2
    assert rows(found, "SELECT count(*) FROM quarantine WHERE state = 'open'") == [(0,)]
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.slow
def test_a_replay_under_which_its_partition_moves_is_done_again(
    tmp_path: Path, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:
    found = config.load(lake=str(tmp_path / "lake"))
    folder = tmp_path / "logs"
    take(folder, found, 0, 1)
    write(folder / "AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/11/bad.json", json.dumps({"Records": MENDED[:2]}))
    ingest.ingest([str(folder)], found, source="aws_cloudtrail")
    mend()
    done: list[str] = []

    def failpoint(now: str, of: str) -> None:
        if now == "registered" and not done:
            done.append(of)
            with dying(monkeypatch, "fenced"):
                compact.compact(found)

    held = len(rows(found, PLACES))
    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", failpoint)
        assert replay.replay(found).closed == 2
    assert done
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == held + 2
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


def test_a_lake_below_a_folder_that_looks_like_a_partition_is_read_right(compactable: Make) -> None:
    found = compactable("region=x/lake")
    compact.compact(found)
    assert rows(found, f"SELECT DISTINCT region, accountid, eventday FROM {TABLE}") == [
        ("eu-west-1", "111122223333", "20250311")
    ]


@pytest.mark.slow
def test_the_command_says_what_it_does(compactable: Make, capsys: pytest.CaptureFixture[str]) -> None:
    found = compactable()

    def run(*given: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["compact", "--lake", found.lake, *given])
        return result.exit_code, result.stdout, result.stderr

    code, out, told = run("--dry-run")
    assert (code, told.strip()) == (0, "4 files of 1 partition would become 1")
    code, out, told = run("--json")
    assert code == 0
    (said,) = json.loads(out)["tables"]
    assert (said["table"], said["files_before"], said["files_after"]) == (TABLE, 4, 1)
    assert told.strip() == "4 files of 1 partition became 1"
    assert run()[2].strip() == "nothing to merge"
    assert run("--older-than", "soon")[0] != 0


# -- on S3 ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.integration
def test_a_lake_on_s3_is_compacted(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = config.load(
        lake=f"s3://{bucket}/lake", state=tmp_path / "state", catalogs=["iceberg"], compact_grace_hours=0
    )
    take(tmp_path / "logs", found, 0, 1, 2)
    before = rows(found, f"FROM {TABLE} ORDER BY ALL")
    with dying(monkeypatch, "merged"):
        compact.compact(found)
    take(tmp_path / "logs", found, 3)
    with dying(monkeypatch, "copied"):
        compact.compact(found)
    take(tmp_path / "logs", found, 4)
    assert compact.compact(found).tables
    after = rows(found, f"FROM {TABLE} ORDER BY ALL")
    assert len(after) == 5 * EACH
    assert set(map(repr, before)) <= set(map(repr, after))
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
        catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
        table = catalog._table(TABLE)  # type: ignore[attr-defined]
        assert table.scan().to_arrow().num_rows == 5 * EACH
        ids = [item.snapshot_id for item in table.snapshots()]
        table.maintenance.expire_snapshots().by_ids(ids[:-1]).commit()
    assert compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1)).removed > 0
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
    assert len(rows(found, PLACES)) == 5 * EACH
