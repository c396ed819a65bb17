"""Partitions are compacted while others read and write the lake, and each reader sees each row once at every moment."""

import collections
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from ocsf_lake import config
from ocsf_lake import lake as lakes
from ocsf_lake.catalogs.base import Catalog, Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.catalogs.glue import GlueCatalog, Place, Projection
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.compactions import Compactions
from ocsf_lake.ledger.tables import COMPACTIONS, FILES, GENERATIONS, RETIRED
from ocsf_lake.storage import ordered, s3
from ocsf_lake.upkeep import check, compact, merge, rebuild_ledger, replay
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf import tables
from tests.ocsf_lake.conftest import CLOUDTRAIL_KEY, ON_BOTH, call, write
from tests.ocsf_lake.mortal import Mortals
from tests.ocsf_lake.test_ingest import KilledError, rows
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture

Make = Callable[..., Settings]
TABLE = "cloud_trail_mgmt"
PLACES = f"SELECT source_object, source_record FROM {TABLE} ORDER BY ALL"
STEPS = ["planned", "merged", "fenced", "copied", "complete", "replaced", "recorded", "compacted"]
EACH = 6
"""Events of one object."""


def log(folder: Path, number: int, account: str = "111122223333", records: int = EACH) -> Path:
    """An object of calls on 2025-03-11."""
    key = CLOUDTRAIL_KEY.format(account=account, region="eu-west-1", hhmm=f"{number:04d}", tag=f"t{number}")
    calls = [call(number * records + step, account) for step in range(records)]
    return write(folder / key, json.dumps({"Records": calls}))


def take(folder: Path, settings: Settings, *numbers: int, **more: Any) -> None:
    """Ingests an object after the other, a batch each."""
    for number in numbers:
        log(folder, number, **more)
        ingest.ingest([str(folder)], settings)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake of four batches in one partition, and the logs."""
    folder = tmp_path_factory.mktemp("small-files")
    take(folder / "logs", config.load(lake=str(folder / "lake")), 0, 1, 2, 3)
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where more logs come."""
    return tmp_path / "more"


@pytest.fixture
def filled(base: Path, tmp_path: Path) -> Make:
    """Settings of a lake of four batches of one partition, a copy for each test."""

    def make(name: str = "lake", **more: object) -> Settings:
        if not (tmp_path / name).exists():
            shutil.copytree(base / "lake", tmp_path / name)
        return config.load(**{"lake": str(tmp_path / name), **more})

    return make


def files(settings: Settings) -> list[Path]:
    """The files of the table that the ledger knows."""
    with opened(settings, reading=True) as lake, lake.ledger.engine.connect() as connection:
        names = connection.scalars(sa.select(FILES.c.path).where(FILES.c.table_name == TABLE).order_by(FILES.c.path))
        return [Path(settings.lake) / name for name in names]


def ledger(settings: Settings, table: sa.Table) -> list[dict[str, Any]]:
    with opened(settings, reading=True) as lake:
        found: list[dict[str, Any]] = lake.ledger.arrow(table.name).to_pylist()
        return found


def die_at(step: str, nth: int = 1) -> Callable[[str, str], None]:
    left = [nth]

    def reached(now: str, _: str) -> None:
        if now == step:
            left[0] -= 1
            if left[0] == 0:
                raise KilledError

    return reached


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, step: str) -> Iterator[None]:
    """What is done here dies at a step."""
    with monkeypatch.context() as patched, pytest.raises(KilledError):  # noqa: PT012 - whatever it is
        patched.setattr(batch, "reached", die_at(step))
        yield


# -- what a compaction does -------------------------------------------------------------------------------------------
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


def test_each_value_of_each_row_is_kept(filled: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows are sorted a span of time after the other, and go into several files."""
    found = filled(compact_file_bytes=40_000, row_group_rows=4)
    monkeypatch.setattr(ordered, "SPAN_BYTES", 4_000)
    key = [(name, "ascending") for name in ("time", "source_object", "source_record")]
    before = pa.concat_tables(pq.read_table(path, partitioning=None) for path in files(found)).sort_by(key)
    compact.compact(found)
    new = files(found)
    assert 1 < len(new) < 4
    after = pa.concat_tables(pq.read_table(path, partitioning=None) for path in new)
    assert after.schema == before.schema == tables.get(TABLE).arrow
    assert after.to_pylist() == before.to_pylist()
    metadata = pq.read_metadata(new[0])
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert metadata.row_group(0).sorting_columns


def test_the_same_files_give_the_same_names_and_bytes(filled: Make) -> None:
    made = []
    for name in ("one", "two"):
        found = filled(name)
        compact.compact(found)
        made.append([(path.name, path.read_bytes()) for path in files(found)])
    assert made[0] == made[1]


def test_what_comes_late_goes_where_the_partition_is_and_is_merged_in_its_turn(filled: Make, logs: Path) -> None:
    found = filled()
    compact.compact(found)
    take(logs, found, 4)
    assert {path.parent.name for path in files(found)} == {"g0001"}
    assert len(rows(found, PLACES)) == 5 * EACH
    compact.compact(found)
    assert [path.parent.name for path in files(found)] == ["g0002"]
    assert len(rows(found, PLACES)) == 5 * EACH
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


def test_days_that_are_not_over_and_single_files_are_left_alone(filled: Make) -> None:
    found = filled()
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


def test_a_dry_run_changes_nothing(filled: Make) -> None:
    found = filled()
    before = {path: path.stat().st_mtime_ns for path in Path(found.lake).rglob("*.parquet")}
    (done,) = compact.compact(found, dry_run=True).tables
    assert (done.partitions, done.files_before, done.files_after, done.bytes_after) == (1, 4, 1, None)
    assert {path: path.stat().st_mtime_ns for path in Path(found.lake).rglob("*.parquet")} == before
    assert ledger(found, COMPACTIONS) == []


def test_a_large_file_comes_along_where_that_is_worth_it(
    filled: Make, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled()
    compact.compact(found)
    (large,) = files(found)
    small = filled(compact_file_bytes=2 * large.stat().st_size)
    take(logs, found, 4)
    monkeypatch.setattr(compact, "COPIED_PER_FILE", 1)
    assert compact.compact(small).tables == []
    take(logs, found, 5)
    assert compact.compact(small).tables == []
    monkeypatch.setattr(compact, "COPIED_PER_FILE", large.stat().st_size + 1)
    assert compact.compact(small).tables
    new = {path.name: path for path in files(found)}
    assert len(new) == 2
    assert {path.parent.name for path in new.values()} == {"g0002"}
    assert new[large.name].read_bytes() == large.read_bytes()
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 6 * EACH


def test_files_of_an_older_release_are_merged_and_those_of_a_newer_one_are_left(filled: Make) -> None:
    found = filled()
    first, second = files(found)[:2]
    older = pq.read_table(first, partitioning=None).drop_columns(["api"])
    pq.write_table(older, first)
    _tell(found, first)
    before = rows(found, PLACES)
    compact.compact(found)
    assert rows(found, PLACES) == before
    assert rows(found, f"SELECT count(*) FROM {TABLE} WHERE api IS NULL") == [(EACH,)]
    newer = filled("newer")
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


def test_a_damaged_file_is_named_and_stays(filled: Make) -> None:
    found = filled()
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
def test_old_files_stay_for_a_time_of_grace_and_no_check_calls_them_strange(filled: Make, logs: Path) -> None:
    found = filled()
    old = files(found)
    compact.compact(found)
    now = datetime.now(UTC)
    assert compact.compact(found, clock=lambda: now + timedelta(hours=23)).removed == 0
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
    summary = compact.compact(found, clock=lambda: now + timedelta(hours=25))
    assert (summary.removed, [path for path in old if path.exists()]) == (4, [])
    assert {row["removed_at"] is None for row in ledger(found, RETIRED)} == {False}
    take(logs, found, 4)
    compact.compact(found)
    compact.compact(found, clock=lambda: now + timedelta(hours=49))
    assert {path.parent.name for path in Path(found.lake).glob("compacted/**/_plan.json")} == {"g0002"}
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
    assert len(rows(found, PLACES)) == 5 * EACH


def test_a_removal_that_dies_is_finished(filled: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = filled(compact_grace_hours=0)
    with dying(monkeypatch, "removed"):
        compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    with opened(found) as lake:
        assert check.check(lake) == []
    compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    assert {row["removed_at"] is None for row in ledger(found, RETIRED)} == {False}


# -- every reader, whatever dies --------------------------------------------------------------------------------------
class Readers:
    """The lake as its three kinds of readers see it: how often each record."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self.settings = settings
        self.place = place

    def glue(self) -> collections.Counter[Any]:
        """As Athena reads: the partitions, the places they are registered with, the files in them."""
        client = s3.aws_client("glue", self.place.access, self.place.endpoint)
        found = client.get_partitions(DatabaseName=self.place.database, TableName=TABLE)["Partitions"]
        client.close()
        folders = [Path(item["StorageDescriptor"]["Location"].removeprefix("file://")) for item in found]
        return self._read(path for folder in folders for path in sorted(folder.glob("*.parquet")))

    def iceberg(self) -> collections.Counter[Any]:
        with opened(self.settings) as lake:
            catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
            table = catalog._table(TABLE)  # type: ignore[attr-defined]
            tasks = table.scan().plan_files()
            return self._read(Path(task.file.file_path.removeprefix("file://")) for task in tasks)

    def ledger(self) -> collections.Counter[Any]:
        return collections.Counter(rows(self.settings, PLACES))

    @staticmethod
    def _read(paths: Iterator[Path]) -> collections.Counter[Any]:
        found: collections.Counter[Any] = collections.Counter()
        for path in paths:
            table = pq.read_table(path, columns=["source_object", "source_record"], partitioning=None)
            found.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
        return found

    def see(self, objects: int, but_listing: bool = False) -> None:
        """Each sees all records of so many objects at least, and none twice.

        Args:
            objects: Number of objects.
            but_listing: A batch is under way: who lists folders may see its records already.
        """
        seen = {"ledger": self.ledger(), "glue": self.glue(), "iceberg": self.iceberg()}
        for name, found in seen.items():
            assert max(found.values()) == 1, f"{name} sees a record {max(found.values())} times"
            if not (but_listing and name != "ledger"):
                assert len(found) == objects * EACH, f"{name} sees {len(found)} records"


@pytest.fixture
def readers(
    filled: Make, moto_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Readers:
    """The lake registered with Glue, too, and with Iceberg."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place = Place(f"db_{tmp_path.name}", endpoint=moto_server)
    others = lakes._others

    def with_glue(settings: Settings, store: Any, *given: Any) -> list[Catalog]:
        client = s3.aws_client("glue", place.access, place.endpoint)
        return [GlueCatalog(place, store, client, sleep=lambda _: None), *others(settings, store, *given)]

    monkeypatch.setattr(lakes, "_others", with_glue)
    found = filled(catalogs=["iceberg"])
    with opened(found) as lake:
        assert not check.is_true(check.sync(lake).found)
        assert check.check(lake) == []
    seen = Readers(found, place)
    seen.see(4)
    return seen


@pytest.mark.parametrize("step", STEPS)
def test_a_compaction_that_dies_is_finished_by_the_next_one(
    step: str, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = readers.settings
    if step == "copied":  # there is something to come along
        test_late(readers, monkeypatch)
        return
    with dying(monkeypatch, step):
        compact.compact(found)
    readers.see(4)
    with opened(found) as lake:
        assert check.is_true([item for item in check.check(lake) if item.where == "storage"])
    compact.compact(found)
    readers.see(4)
    assert [path.parent.name for path in files(found)] == ["g0001"]
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_batch_done_after_a_compaction_died_is_where_everybody_looks(
    step: str, readers: Readers, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = readers.settings
    with dying(monkeypatch, "merged" if step == "copied" else step):
        compact.compact(found)
    take(logs, found, 4)
    readers.see(5)
    if step == "copied":  # what came late is copied; dies again
        with dying(monkeypatch, step):
            compact.compact(found)
        readers.see(5)
    compact.compact(found)
    readers.see(5)
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
        assert not Compactions(lake.ledger.engine).is_fenced(TABLE)


@pytest.mark.parametrize("step", ["part", "written", "registered", "recorded", "done"])
def test_a_batch_that_died_before_a_compaction_is_done_where_the_partition_is(
    step: str, readers: Readers, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = readers.settings
    with dying(monkeypatch, step):
        take(logs, found, 4)
    compact.compact(found)
    readers.see(5 if step == "done" else 4, but_listing=True)
    take(logs, found, 4)
    readers.see(5)
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.parametrize("step", ["written", "registered", "recorded"])
@pytest.mark.parametrize("until", ["fenced", "compacted"])
def test_a_partition_that_moves_under_a_batch_takes_it_along(
    step: str, until: str, readers: Readers, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole compaction, or one up to its fence, between two steps of a batch."""
    found = readers.settings
    done: list[str] = []

    def reached(now: str, of: str) -> None:
        if now == step and not done:
            done.append(of)
            with dying(monkeypatch, until):
                compact.compact(found)
            readers.see(4, but_listing=True)

    with monkeypatch.context() as patched:
        patched.setattr(batch, "reached", reached)
        take(logs, found, 4)
    assert done
    readers.see(5)
    assert {path.parent.name for path in files(found)} == {"g0001"}
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
        (row,) = [row for row in lake.ledger.arrow("batches").to_pylist() if row["id"] == done[0]]
        assert (row["state"], row["failures"]) == ("done", 0)


def test_late(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done between the plan and the fence comes along as it is, and the copying of it may die."""
    found = readers.settings
    logs = Path(found.lake).parent / "late"
    came: list[str] = []

    def reached(now: str, _: str) -> None:
        if now == "merged" and not came:
            came.append(now)
            take(logs, found, 5)
        if now == "copied":
            raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):  # noqa: PT012 - the compaction dies where it copies
        patched.setattr(batch, "reached", reached)
        compact.compact(found)
    readers.see(5)
    compact.compact(found)
    readers.see(5)
    assert [path.parent.name for path in files(found)] in (["g0001", "g0001"], ["g0002"])
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@ON_BOTH
def test_batches_and_compactions_at_the_same_time(settings: Make, tmp_path: Path) -> None:
    found = settings(workers=2)
    take(tmp_path / "logs", found, 0, 1, 2, 3)
    stop = threading.Event()
    seen: list[collections.Counter[Any]] = []
    errors: list[BaseException] = []

    def compacting() -> None:
        try:
            while not stop.is_set():
                compact.compact(found)
                seen.append(collections.Counter(rows(found, PLACES)))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=compacting)
    thread.start()
    for number in range(4, 12):
        take(tmp_path / "logs", found, number)
    stop.set()
    thread.join()
    compact.compact(found)
    assert errors == []
    assert all(max(item.values()) == 1 for item in seen)
    numbers = [len(item) for item in seen]
    assert numbers == sorted(numbers)
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 12 * EACH
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


# -- what is refused --------------------------------------------------------------------------------------------------
def test_a_table_with_projection_is_refused_with_the_reason(readers: Readers) -> None:
    place = readers.place
    client = s3.aws_client("glue", place.access, place.endpoint)
    table = client.get_table(DatabaseName=place.database, Name=TABLE)["Table"]
    given = {name: table[name] for name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters")}
    given["Parameters"] |= Projection().parameters("s3://bucket/lake")
    client.update_table(DatabaseName=place.database, TableInput=given)
    client.close()
    summary = compact.compact(readers.settings)
    assert summary.tables == []
    assert "Athena ignores the place that a partition is registered with" in summary.refused[TABLE]
    assert "glue: " in summary.refused[TABLE]
    assert {path.parent.name for path in files(readers.settings)} == {"eventDay=20250311"}


def test_a_catalog_that_lacks_files_is_mended_first(readers: Readers) -> None:
    with opened(readers.settings) as lake:
        catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
        catalog.drop(ledger(readers.settings, FILES)[0]["batch_id"])
    assert "`ocsf-lake catalog sync` first" in compact.compact(readers.settings).refused[TABLE]
    with opened(readers.settings) as lake:
        check.sync(lake)
    assert compact.compact(readers.settings).tables
    readers.see(4)


def test_a_partition_that_glue_knows_elsewhere_is_put_right(readers: Readers) -> None:
    compact.compact(readers.settings)
    with opened(readers.settings) as lake:
        glue = next(item for item in lake.catalog.all if item.name == "glue")
        assert isinstance(glue, GlueCatalog)
        (place,) = [file for file in ledger(readers.settings, FILES) if file["table_name"] == TABLE]
        glue.create_or_evolve(definition(TABLE))
        partition = glue.partitions(TABLE)[0]
        glue._put_places(TABLE, {partition: f"{definition(TABLE).prefix}/elsewhere"})
        assert [item.kind for item in check.check(lake)] == [Kind.PARTITION_PLACE]
        check.sync(lake)
        assert place["path"]
    readers.see(4)


def test_iceberg_keeps_the_files_of_its_snapshots(readers: Readers) -> None:
    old = files(readers.settings)
    compact.compact(readers.settings)
    later = datetime.now(UTC) + timedelta(days=2)
    assert compact.compact(readers.settings, clock=lambda: later).removed == 0
    assert all(path.exists() for path in old)
    with opened(readers.settings) as lake:
        catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
        table = catalog._table(TABLE)  # type: ignore[attr-defined]
        now = table.current_snapshot().snapshot_id
        ids = [item.snapshot_id for item in table.snapshots() if item.snapshot_id != now]
        table.maintenance.expire_snapshots().by_ids(ids).commit()
    assert compact.compact(readers.settings, clock=lambda: later).removed == 4
    readers.see(4)


# -- a ledger that is lost, files that are lost -----------------------------------------------------------------------
def test_a_ledger_made_anew_knows_what_was_compacted(filled: Make, logs: Path) -> None:
    found = filled()
    compact.compact(found)
    take(logs, found, 4)
    compact.compact(found)
    take(logs, found, 5)
    wanted = {table.name: ledger(found, table) for table in (FILES, RETIRED, GENERATIONS)}
    before = rows(found, PLACES)
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    summary = rebuild_ledger.rebuild(found)
    assert (summary.exact, summary.missing, summary.unknown) == (True, [], [])
    assert {table.name: ledger(found, table) for table in (FILES, RETIRED, GENERATIONS)} == wanted
    assert rows(found, PLACES) == before
    assert ingest.ingest([str(logs)], found).counts.read == 0
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_ledger_lost_while_a_compaction_was_going_on_counts_each_row_once(
    step: str, filled: Make, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled()
    compact.compact(found)
    take(logs, found, 4)
    before = rows(found, PLACES)
    with dying(monkeypatch, "merged" if step == "copied" else step):
        compact.compact(found)
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    rebuild_ledger.rebuild(found)
    assert rows(found, PLACES) == before
    with opened(found) as lake:
        check.sync(lake)
        assert check.check(lake, deep=True) == []
    compact.compact(found)
    assert rows(found, PLACES) == before
    take(logs, found, 5)
    assert len(rows(found, PLACES)) == 6 * EACH


def test_without_ledger_and_records_the_plans_say_which_files_count(filled: Make, logs: Path) -> None:
    found = filled()
    compact.compact(found)
    take(logs, found, 4)
    before = rows(found, PLACES)
    # A generation that was not finished does not count.
    (unfinished := files(found)[0].parent.with_name("g0002")).mkdir()
    shutil.copy(files(found)[0], unfinished)
    shutil.rmtree(Path(found.lake) / "_lake")
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    summary = rebuild_ledger.rebuild(found)
    assert summary.exact is False
    assert rows(found, PLACES) == before


@pytest.mark.parametrize("removed", [False, True])
def test_a_lost_merged_file_is_made_again(removed: bool, filled: Make, logs: Path) -> None:
    """From the files that it was made of, or, when they are gone, from the raw objects; also of merged files."""
    found = filled(compact_grace_hours=0)
    compact.compact(found)
    take(logs, found, 4)
    compact.compact(found)
    if removed:
        compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    (path,) = files(found)
    data, before = path.read_bytes(), rows(found, PLACES)
    path.unlink()
    with opened(found) as lake:
        assert [item.kind for item in check.check(lake)] == [Kind.FILE_MISSING]
        repair = check.sync(lake)
        assert (repair.refused, repair.left, len(repair.rebuilt)) == ([], [], 1)
    assert path.read_bytes() == data
    assert rows(found, PLACES) == before


def test_a_lost_file_that_came_along_is_made_again(filled: Make, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = filled()
    old = files(found)
    late = log(logs, 4)

    def reached(now: str, _: str) -> None:
        if now == "merged":
            ingest.ingest([str(late)], found)

    with monkeypatch.context() as patched:
        patched.setattr(batch, "reached", reached)
        compact.compact(found)
    (path,) = [path for path in files(found) if path.with_name(path.name).name not in {item.name for item in old}
               and pq.read_metadata(path).num_rows == EACH]  # fmt: skip
    data = path.read_bytes()
    path.unlink()
    with opened(found) as lake:
        repair = check.sync(lake)
        assert (repair.refused, repair.left) == ([], [])
    assert path.read_bytes() == data


def test_a_lost_merged_file_whose_raw_objects_are_gone_is_told(filled: Make, base: Path, tmp_path: Path) -> None:
    found = config.load(lake=str(tmp_path / "gone"), compact_grace_hours=0)
    take(tmp_path / "logs", found, 0, 1)
    compact.compact(found)
    compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    shutil.rmtree(tmp_path / "logs")
    files(found)[0].unlink()
    with opened(found) as lake:
        (refused,) = check.sync(lake).refused
    assert "a raw object is not to be had" in refused


# -- what reads the files of batches ----------------------------------------------------------------------------------
@pytest.mark.parametrize("removed", [False, True])
def test_duplicates_of_merged_events_are_found_and_a_lost_file_comes_out_as_it_was(
    removed: bool, tmp_path: Path
) -> None:
    found = config.load(
        lake=str(tmp_path / "lake"), duplicates={"aws_cloudtrail": "drop"}, compact_grace_hours=0
    )
    logs = tmp_path / "logs"
    take(logs, found, 0, 1)
    _again(logs, 0, "copy-1")  # dropped: the lake has its events
    ingest.ingest([str(logs)], found)
    compact.compact(found)
    _again(logs, 1, "copy-2")
    take(logs, found, 2)
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


def _again(logs: Path, number: int, tag: str) -> None:
    """An object with the records of another one."""
    key = CLOUDTRAIL_KEY.format(account="111122223333", region="eu-west-1", hhmm="2300", tag=tag)
    calls = [call(number * EACH + step) for step in range(EACH)]
    write(logs / key, json.dumps({"Records": calls}))


def test_memory_does_not_grow_with_a_partition(filled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more rows at once than a span of time has, and those of a row group."""
    found = filled(row_group_rows=4)
    monkeypatch.setattr(ordered, "SPAN_BYTES", 1_000)
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


# -- processes that are killed ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    found = Mortals.born()
    yield found
    found.end()


@pytest.mark.parametrize(
    ("step", "nth"),
    [
        *((step, 1) for step in STEPS if step not in ("copied", "replaced")),
        *(("committing", nth) for nth in range(1, 4)),
        ("renaming", 1),
    ],
)
def test_a_compaction_that_is_killed_loses_and_doubles_nothing(
    step: str, nth: int, mortals: Mortals, filled: Make, logs: Path
) -> None:
    given: dict[str, object] = {"lake": filled().lake}
    found = filled()
    assert mortals.compact(given, step=step, nth=nth) == "killed"
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 4 * EACH
    log(logs, 4)
    assert mortals.ingest(logs, given) == "done"
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 5 * EACH
    assert mortals.compact(given) == "done"
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 5 * EACH
    assert not list(Path(found.lake).rglob(".*.tmp"))
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


# -- exports, replays, commands ---------------------------------------------------------------------------------------
def test_what_was_exported_and_merged_is_not_exported_again(filled: Make, logs: Path, tmp_path: Path) -> None:
    bucket = str(tmp_path / "bucket")
    found = filled(export_region="eu-central-1")
    clock = [datetime(2025, 3, 12, 12, tzinfo=UTC)]

    def send() -> int:
        clock[0] += timedelta(minutes=6)
        return export.export(found, "aws_cloudtrail", bucket, "calls", "6003", clock=lambda: clock[0]).events

    assert send() == 4 * EACH
    take(logs, found, 4, 5)
    compact.compact(found)
    assert sorted(pq.read_metadata(path).num_rows for path in files(found)) == [2 * EACH, 4 * EACH]
    assert send() == 2 * EACH
    assert send() == 0
    take(logs, found, 6)
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


def test_files_of_an_export_that_is_not_done_are_left_to_the_next_run(
    filled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled(export_region="eu-central-1")

    def send() -> int:
        given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
        return export.export(*given, clock=lambda: datetime(2025, 3, 12, tzinfo=UTC)).events

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(export, "reached", die_at("planned"))
        send()
    summary = compact.compact(found)
    assert (summary.tables, summary.waiting) == ([], 1)
    assert send() == 4 * EACH
    assert compact.compact(found).waiting == 0
    assert [path.parent.name for path in files(found)] == ["g0001"]


def test_an_export_waits_for_what_is_being_merged(
    filled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled(export_region="eu-central-1")

    def send() -> int:
        given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
        return export.export(*given, clock=lambda: datetime(2025, 3, 12, tzinfo=UTC)).events

    with dying(monkeypatch, "fenced"):
        compact.compact(found)
    assert send() == 0
    compact.compact(found)
    assert send() == 4 * EACH


def test_quarantine_of_a_merged_batch_is_replayed_where_the_partition_is(
    tmp_path: Path, mend: Callable[[], None]
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


def test_a_replay_under_which_its_partition_moves_is_done_again(
    tmp_path: Path, mend: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = config.load(lake=str(tmp_path / "lake"))
    folder = tmp_path / "logs"
    take(folder, found, 0, 1)
    write(folder / "AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/11/bad.json", json.dumps({"Records": MENDED[:2]}))
    ingest.ingest([str(folder)], found, source="aws_cloudtrail")
    mend()
    done: list[str] = []

    def reached(now: str, of: str) -> None:
        if now == "registered" and not done:
            done.append(of)
            with dying(monkeypatch, "fenced"):
                compact.compact(found)

    held = len(rows(found, PLACES))
    with monkeypatch.context() as patched:
        patched.setattr(replay, "reached", reached)
        assert replay.replay(found).closed == 2
    assert done
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == held + 2
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


def test_a_lake_below_a_folder_that_looks_like_a_partition_is_read_right(filled: Make) -> None:
    found = filled("region=x/lake")
    compact.compact(found)
    assert rows(found, f"SELECT DISTINCT region, accountid, eventday FROM {TABLE}") == [
        ("eu-west-1", "111122223333", "20250311")
    ]


def test_the_command_says_what_it_does(filled: Make, capsys: pytest.CaptureFixture[str]) -> None:
    found = filled()

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
