"""Each reader of a lake sees each row once, whatever a compaction is doing or dies over."""

import collections
import copy
import dataclasses
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.table.snapshots import Operation

from ocsf_lake import config
from ocsf_lake import lake as lakes
from ocsf_lake.catalogs import iceberg
from ocsf_lake.catalogs.base import Catalog, Kind
from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.catalogs.glue import GlueCatalog, Place, Projection
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch, moving
from ocsf_lake.lake import opened
from ocsf_lake.ledger.compactions import Compactions
from ocsf_lake.ledger.tables import FILES, GENERATIONS
from ocsf_lake.storage import s3
from ocsf_lake.upkeep import check, compact
from ocsf_mappers.errors import WriteError
from tests.ocsf_lake.compacting import EACH, PLACES, STEPS, TABLE, Make, dying, files, ledger, take
from tests.ocsf_lake.conftest import ON_BOTH
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import rows
from tests.servers import moto

OTHERS = lakes._others


# -- every reader, whatever dies --------------------------------------------------------------------------------------
class Readers:
    """The lake as its three kinds of readers see it: how often each record."""

    def __init__(self, settings: Settings, place: Place, client: Any) -> None:
        self.settings = settings
        self.place = place
        self.client = client

    def glue(self) -> collections.Counter[Any]:
        """As Athena reads: the partitions, the places they are registered with, the files in them."""
        found = self.client.get_partitions(DatabaseName=self.place.database, TableName=TABLE)["Partitions"]
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


@dataclasses.dataclass
class Registered:
    """A lake that is registered with Glue and Iceberg, and how to have it again as it was."""

    folder: Path
    place: Place
    client: Any

    @property
    def settings(self) -> Settings:
        return config.load(lake=str(self.folder / "lake"), catalogs=["iceberg"])

    def others(self, settings: Settings, store: Any, *given: Any) -> list[Catalog]:
        """Instead of `lake._others`, with Glue's double and one client for all: making one takes 0.2 s."""
        glue = GlueCatalog(self.place, store, self.client, sleep=lambda _: None)
        return [glue, *OTHERS(settings, store, *given)]

    def keep(self) -> None:
        shutil.copytree(self.folder / "lake", self.folder / "kept")
        self.database = moto.databases()[self.place.database]

    def restore(self) -> None:
        shutil.rmtree(self.folder / "lake")
        shutil.copytree(self.folder / "kept", self.folder / "lake")
        moto.databases()[self.place.database] = copy.deepcopy(self.database)


@pytest.fixture(scope="module")
def registered(small_files: Path, moto_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    """Registering takes longer than most of the tests."""
    folder = tmp_path_factory.mktemp("registered")
    shutil.copytree(small_files / "lake", folder / "lake")
    place = Place(f"db_{folder.name}", endpoint=moto_server)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_ACCESS_KEY_ID", "test")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patched.setenv("AWS_DEFAULT_REGION", "us-east-1")
        found = Registered(folder, place, s3.aws_client("glue", place.access, place.endpoint))
        patched.setattr(lakes, "_others", found.others)
        with opened(found.settings) as lake:
            assert not check.consistent(check.sync(lake).found)
            assert check.check(lake) == []
    found.keep()
    yield found
    found.client.close()


@pytest.fixture
def readers(registered: Registered, monkeypatch: pytest.MonkeyPatch) -> Readers:
    """The lake registered with Glue, too, and with Iceberg."""
    registered.restore()
    monkeypatch.setattr(lakes, "_others", registered.others)
    return Readers(registered.settings, registered.place, registered.client)


@pytest.mark.slow
def test_a_registered_lake_is_seen_whole(readers: Readers) -> None:
    readers.see(4)
    with opened(readers.settings) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_compaction_that_dies_is_finished_by_the_next_one_with_what_was_done_meanwhile(
    step: str, readers: Readers, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = readers.settings
    with dying(monkeypatch, "merged" if step == "copied" else step):
        compact.compact(found)
    readers.see(4)
    with opened(found) as lake:
        assert check.consistent([item for item in check.check(lake) if item.where == "storage"])
    take(late_logs, found, 4)
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


@pytest.mark.slow
@pytest.mark.parametrize("step", ["part", "written", "registered", "recorded", "done"])
def test_a_batch_that_died_before_a_compaction_is_done_where_the_partition_is(
    step: str, readers: Readers, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = readers.settings
    with dying(monkeypatch, step):
        take(late_logs, found, 4)
    compact.compact(found)
    readers.see(5 if step == "done" else 4, but_listing=True)
    take(late_logs, found, 4)
    readers.see(5)
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "until"),
    [("written", "compacted"), ("registered", "fenced"), ("registered", "compacted"), ("recorded", "fenced")],
)
def test_a_partition_that_moves_under_a_batch_takes_it_along(
    step: str, until: str, readers: Readers, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole compaction, or one up to its fence, between two steps of a batch; both where catalogs have its files."""
    found = readers.settings
    done: list[str] = []

    def failpoint(now: str, of: str) -> None:
        if now == step and not done:
            done.append(of)
            with dying(monkeypatch, until):
                compact.compact(found)
            readers.see(4, but_listing=True)

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", failpoint)
        take(late_logs, found, 4)
    assert done
    readers.see(5)
    assert {path.parent.name for path in files(found)} == {"g0001"}
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []
        (row,) = [row for row in lake.ledger.arrow("batches").to_pylist() if row["id"] == done[0]]
        assert (row["state"], row["failures"]) == ("done", 0)


@pytest.mark.slow
def test_what_comes_before_the_fence_comes_along(
    readers: Readers, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done between the plan and the fence comes along as it is, and the copying of it may die."""
    found = readers.settings
    came: list[str] = []

    def failpoint(now: str, _: str) -> None:
        if now == "merged" and not came:
            came.append(now)
            take(late_logs, found, 5)
        if now == "copied":
            raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):  # noqa: PT012 - the compaction dies where it copies
        patched.setattr(moving, "failpoint", failpoint)
        compact.compact(found)
    readers.see(5)
    compact.compact(found)
    readers.see(5)
    assert [path.parent.name for path in files(found)] in (["g0001", "g0001"], ["g0002"])
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


@pytest.mark.slow
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
    for number in range(4, 8):
        take(tmp_path / "logs", found, number)
    stop.set()
    thread.join()
    compact.compact(found)
    assert errors == []
    assert all(max(item.values()) == 1 for item in seen)
    numbers = [len(item) for item in seen]
    assert numbers == sorted(numbers)
    assert len(rows(found, PLACES)) == len(set(rows(found, PLACES))) == 8 * EACH
    with opened(found) as lake:
        assert check.check(lake, deep=True) == []


# -- what is refused --------------------------------------------------------------------------------------------------
def test_a_table_with_projection_is_refused_with_the_reason(readers: Readers) -> None:
    place, client = readers.place, readers.client
    table = client.get_table(DatabaseName=place.database, Name=TABLE)["Table"]
    given = {name: table[name] for name in ("Name", "StorageDescriptor", "PartitionKeys", "TableType", "Parameters")}
    given["Parameters"] |= Projection().parameters("s3://bucket/lake")
    client.update_table(DatabaseName=place.database, TableInput=given)
    for dry_run in (True, False):  # of a table with nothing to merge nothing is refused
        assert compact.compact(readers.settings, older_than=timedelta(days=36_500), dry_run=dry_run).refused == {}
        assert compact.compact(readers.settings, dry_run=dry_run).refused.keys() == {TABLE}
    summary = compact.compact(readers.settings)
    assert summary.tables == []
    assert "Athena ignores the place that a partition is registered with" in summary.refused[TABLE]
    assert "glue: " in summary.refused[TABLE]
    assert {path.parent.name for path in files(readers.settings)} == {"eventDay=20250311"}


@pytest.mark.slow
def test_projection_after_a_compaction_is_told_and_refused(readers: Readers, late_logs: Path) -> None:
    """Athena would look where the rows were before, and find none without a word."""
    compact.compact(readers.settings)
    with opened(readers.settings) as lake:
        glue = next(item for item in lake.catalog.all if item.name == "glue")
        assert isinstance(glue, GlueCatalog)
        glue.place = dataclasses.replace(glue.place, projection=Projection())
        (finding,) = [item for item in check.check(lake) if item.where == "glue"]
        assert finding.kind is Kind.PARTITION_UNREACHABLE
        assert "it was compacted" in finding.says
        glue.create_or_evolve(definition(TABLE))
        found = list(check.expected_state(lake).files(TABLE))
        with pytest.raises(WriteError, match="leave the setting glue_projection at false"):
            glue.register(found[0].batch_id, found)
        assert "Athena ignores the place" in (glue.irreplaceable(definition(TABLE)) or "")


@pytest.mark.slow
def test_a_repair_beside_a_compaction_gives_no_catalog_the_old_files_back(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would go, with their rows, when their time of grace is over."""
    refused: list[str] = []

    def repair(step: str, _: str) -> None:
        if step == "replaced":
            with opened(readers.settings) as lake:
                refused.extend(check.sync(lake).refused)

    with monkeypatch.context() as patched:
        patched.setattr(moving, "failpoint", repair)
        compact.compact(readers.settings)
    with opened(readers.settings) as lake:
        assert check.check(lake) == []
    assert refused == [f"table {TABLE}: {moving.BUSY}"] * 2
    readers.see(4)


@pytest.mark.slow
def test_a_catalog_that_lacks_files_is_mended_first(readers: Readers) -> None:
    with opened(readers.settings) as lake:
        catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
        catalog.drop(ledger(readers.settings, FILES)[0]["batch_id"])
    assert "`ocsf-lake catalog sync` first" in compact.compact(readers.settings).refused[TABLE]
    with opened(readers.settings) as lake:
        check.sync(lake)
    assert compact.compact(readers.settings).tables
    readers.see(4)


@pytest.mark.slow
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


@pytest.mark.slow
def test_many_partitions_are_one_snapshot_of_iceberg_that_says_that_no_row_changed(
    readers: Readers, late_logs: Path
) -> None:
    take(late_logs, readers.settings, 4, 5, account="012345678901")
    with opened(readers.settings) as lake:
        catalog = next(item for item in lake.catalog.all if item.name == "iceberg")
        before = catalog._table(TABLE)  # type: ignore[attr-defined]
        (done,) = compact.compact(readers.settings).tables
        after = catalog._table(TABLE)  # type: ignore[attr-defined]
    assert (done.partitions, done.files_before, done.files_after) == (2, 6, 2)
    assert len(after.snapshots()) == len(before.snapshots()) + 1
    summary = after.current_snapshot().summary
    assert summary.operation is Operation.REPLACE
    assert (summary["added-data-files"], summary["deleted-data-files"], summary["total-records"]) == ("2", "6", "36")
    readers.see(6)


def test_another_engines_deletions_are_refused(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iceberg, "_has_deletes", lambda _: True)
    assert "another engine has deleted rows" in compact.compact(readers.settings).refused[TABLE]


@pytest.mark.slow
def test_an_append_to_another_partition_does_not_end_a_compaction(
    readers: Readers, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is registered between Iceberg's look at the table and its commit."""
    really = iceberg._has_deletes
    came: list[bool] = []

    def looked(table: Any) -> bool:
        if not came and is_fenced():
            came.append(True)
            take(late_logs, readers.settings, 4, account="012345678901")
        return really(table)

    def is_fenced() -> bool:
        return any(row["fence"] for row in ledger(readers.settings, GENERATIONS))

    monkeypatch.setattr(iceberg, "_has_deletes", looked)
    assert compact.compact(readers.settings).tables
    assert came
    readers.see(5)


@pytest.mark.slow
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
