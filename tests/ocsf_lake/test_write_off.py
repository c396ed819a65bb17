"""Lost files that nothing brings back, and that somebody decides to do without."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import ocsf_lake
from ocsf_lake import QueryWarning
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.export import shipment
from ocsf_lake.ingest import moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import written_off
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.tables import BATCHES, FILES, SHIPMENTS, WRITTEN_OFF
from ocsf_lake.query import query
from ocsf_lake.upkeep import (
    check,
    compact,
    hold,
    replay,
    trace_hints,
    write_off,
)
from ocsf_lake.upkeep.lost import Way
from ocsf_mappers.errors import ConfigError, ReadError
from tests.ocsf_lake.compacting import EACH, PLACES, TABLE, Make, die_at, files, ledger, log, take
from tests.ocsf_lake.conftest import ON_BOTH, call, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.losing import (
    ACCOUNT,
    WHY,
    done_without,
    largest,
    listed,
    lose_raw,
    made_anew,
    of_quarantine,
    synced,
)
from tests.ocsf_lake.mortal import CrashHarness
from tests.ocsf_lake.test_compact_readers import Readers, readers, registered  # noqa: F401 - fixtures
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_remap import DAY, is_sound, mapper  # noqa: F401 - a fixture
from tests.ocsf_lake.test_remap import log as tiny_log
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture


# -- what nothing can bring back --------------------------------------------------------------------------------------
@pytest.mark.slow
@ON_BOTH
def test_a_lake_goes_on_without_lost_files_and_nothing_of_them_comes_back(settings: Make, tmp_path: Path) -> None:
    logs, found = tmp_path / "logs", settings()
    take(logs, found, 0, 1)
    write(logs / "bad.json", json.dumps({"Records": [call(90), *MENDED[:2]]}))
    ingest.ingest([str(logs)], found, source="aws_cloudtrail")
    take(logs, found, 2)
    batches = ledger(found, BATCHES)
    first, (entries,) = Path(found.lake) / largest(found), of_quarantine(found)
    lost_rows = {path: row["rows"] for row in ledger(found, FILES) if (path := row["path"]) in f"{first}|{entries}"}
    for path in (first, entries):
        path.unlink()
    shutil.rmtree(logs)
    with pytest.raises(ReadError, match="a file of the lake is gone"):
        rows(found, PLACES)
    refused = synced(found).refused
    assert all("the object is gone since it was listed" in why for why in refused)
    assert all("`ocsf-lake catalog write-off` lists them" in why for why in refused)
    # Nothing is done by listing.
    asked = listed(found)
    assert {part.path: part.rows for part in asked.parts} == lost_rows
    assert {part.way for part in asked.parts} == {Way.WRITE_OFF}
    assert (asked.left, ledger(found, WRITTEN_OFF)) == ([], [])
    with pytest.raises(ConfigError, match="say why"):
        write_off.write_off(found, None, "  ")
    done = done_without(found)
    assert done.message == f"{sum(lost_rows.values())} rows of 2 lost files written off"
    # Queries work, and say what they lack; everything agrees.
    kept = rows(found, PLACES)
    assert len(kept) == 3 * EACH + 1 - lost_rows[str(first.relative_to(found.lake))]
    (said,) = query.lacking(found, f"SELECT * FROM {TABLE}")
    assert query.lacking(found, "FROM observables") == [said]
    assert said.startswith(f"the answer may lack {lost_rows[str(first.relative_to(found.lake))]} rows of {TABLE}, lost")
    assert query.lacking(found, f"SELECT * FROM {TABLE} WHERE accountid = '444455556666'") == []
    with pytest.warns(QueryWarning, match="the answer may lack"):
        ocsf_lake.open(found.lake, ledger_url=found.ledger_url).sql(f"FROM {TABLE}").to_arrow()
    with opened(found, reading=True) as lake:
        assert any("rows of lost files" in hint for hint in trace_hints.hints(lake, "x", None, None))
    is_sound(found)
    gone = ledger(found, WRITTEN_OFF)
    assert {(row["reason"], row["written_off_by"], row["taken_back_at"]) for row in gone} == {(WHY, "ann", None)}
    assert all(row["sha256"] and "the object is gone" in row["cause"] for row in gone)
    assert ledger(found, BATCHES) == batches
    assert listed(found).message == "nothing to write off"
    # Nothing of it comes back, in whichever way.
    assert (repair := synced(found)).found == repair.refused == []
    replay.replay(found)
    compact.compact(found)
    assert rows(found, PLACES) == kept
    take(logs, found, 3)
    shutil.rmtree(logs)
    kept, held = rows(found, PLACES), ledger(found, FILES)
    assert len(files(found)) == 2
    # A ledger that is lost knows all of it.
    summary = made_anew(found)
    assert (summary.missing, summary.unknown) == ([], [])
    assert (ledger(found, WRITTEN_OFF), ledger(found, FILES), rows(found, PLACES)) == (gone, held, kept)
    log(logs, 0)
    assert ingest.ingest([str(logs)], found).counts.read == 0
    is_sound(found)


@pytest.mark.slow
def test_a_merged_file_that_is_lost_is_written_off(settings: Make, tmp_path: Path) -> None:
    """And the file that says where the partition is is none that nobody wrote."""
    logs, found = tmp_path / "logs", settings(compact_grace_hours=0)
    take(logs, found, 0, 1)
    compact.compact(found)
    compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(days=1))
    (merged,) = files(found)
    merged.unlink()
    shutil.rmtree(logs)
    (part,) = listed(found).parts
    assert part.why.startswith("batch ")
    done_without(found)
    assert rows(found, PLACES) == []
    is_sound(found)
    take(logs, found, 2)
    assert [path.parent for path in files(found)] == [merged.parent]
    made_anew(found)
    assert len(rows(found, PLACES)) == EACH
    is_sound(found)


@pytest.mark.slow
def test_a_batch_whose_other_file_was_written_off_is_made_again_with_other_bytes(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another release of Parquet's library writes them."""
    logs, found = tmp_path / "logs", settings()
    log(logs, 0)
    log(logs, 1, account="444455556666")
    ingest.ingest([str(logs)], found)
    first, second = files(found)
    first.unlink()
    with monkeypatch.context() as patched:
        lose_raw(patched)
        done_without(found)
    second.unlink()
    with opened(found) as lake, lake.ledger.engine.begin() as connection:
        connection.execute(sa.update(FILES).values(sha256="another"))
    assert (repair := synced(found)).left == repair.refused == []
    assert (first.exists(), second.exists()) == (False, True)


@pytest.mark.slow
def test_what_nobody_can_say_of_closed_entries_makes_no_event_twice(
    settings: Make, tmp_path: Path, mend: Callable[[], None]  # noqa: F811
) -> None:
    found = settings()
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": [call(1), *MENDED[:3], {"eventName": "no time"}]}))
    ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    mend()
    assert replay.replay(found).closed == 3
    before = rows(found, PLACES)
    (outcomes,) = Path(found.lake).glob("_quarantine_outcomes/**/*.parquet")
    outcomes.unlink()
    with pytest.raises(ReadError, match="a file of the lake is gone"):
        rows(found, "FROM quarantine")
    assert [part.table for part in done_without(found).parts] == ["quarantine_outcomes"]
    assert rows(found, "SELECT state, count(*) FROM quarantine GROUP BY ALL") == [("open", 4)]
    again = replay.replay(found, again=True)
    assert (again.closed, again.known, again.open.total()) == (0, 3, 1)
    assert rows(found, PLACES) == before
    is_sound(found)


def test_lost_duplicates_are_written_off(settings: Make, tmp_path: Path, raw_gone: None) -> None:
    found = settings(duplicates={"aws_cloudtrail": "mark"})
    for name in ("one", "two"):
        event = {**call(1), "eventID": "same"}
        write(tmp_path / "logs" / f"{name}.json", json.dumps({"Records": [event]}))
        ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    (path,) = Path(found.lake).glob("_duplicates/**/*.parquet")
    path.unlink()
    assert [part.table for part in done_without(found).parts] == ["duplicates"]
    assert rows(found, "SELECT sum(duplicates) FROM ledger_duplicates") == [(1,)]
    is_sound(found)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["put", "object"])
def test_an_export_that_was_under_way_begins_anew(
    step: str, settings: Make, tmp_path: Path, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(export_region="eu-central-1")
    take(tmp_path / "logs", found, 0, 1)
    given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
    later = {"clock": lambda: datetime.now(UTC) + timedelta(days=1)}
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at(step))
        with pytest.raises(KilledError):
            export.export(*given, **later)
    files(found)[0].unlink()
    (sent,) = done_without(found).sent
    assert sent.startswith("file://")
    assert ledger(found, SHIPMENTS) == []
    assert export.export(*given, **later).events == EACH


@pytest.mark.slow
def test_an_export_whose_files_are_written_off_meanwhile_says_so(
    settings: Make, tmp_path: Path, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(export_region="eu-central-1")
    take(tmp_path / "logs", found, 0, 1)
    given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
    later = {"clock": lambda: datetime.now(UTC) + timedelta(days=1)}
    sent: list[str] = []

    def meanwhile(step: str, _: str) -> None:
        if step == "object" and not sent:
            files(found)[0].unlink()
            sent.extend(done_without(found).sent)

    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", meanwhile)
        with pytest.raises(LostError, match="files of it were lost and written off meanwhile"):
            export.export(*given, **later)
    Path(sent[0].removeprefix("file://")).unlink()
    assert export.export(*given, **later).events == EACH


# -- whatever dies ----------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "by"),
    [*(("recorded", by) for by in ("itself", "rebuilt")), *(("forgotten", by) for by in ("itself", "sync", "rebuilt"))],
)
def test_a_write_off_that_dies_is_finished_by_whoever_comes_next(
    step: str, by: str, readers: Readers, raw_gone: None, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    found = readers.settings
    every = set(readers.ledger())
    path = files(found)[0]
    path.unlink()
    with monkeypatch.context() as patched, pytest.raises(KilledError):  # noqa: PT012 - it may die anywhere
        patched.setattr(written_off, "failpoint", lambda now: die_at(step)(now, ""))
        done_without(found)
    if by == "rebuilt":
        made_anew(found)
    if by != "sync":  # which forgets nothing by itself
        done_without(found)
    synced(found)
    for seen in (readers.ledger(), readers.glue(), readers.iceberg()):
        assert (len(seen), max(seen.values())) == (3 * EACH, 1)
        assert set(seen) < every
    (row,) = ledger(found, WRITTEN_OFF)
    assert row["reason"] == WHY
    is_sound(found)


@pytest.mark.slow
@ON_BOTH
def test_a_write_off_that_is_killed_at_a_step_is_done_once(
    tiny: str, settings: Make, tmp_path: Path, mortals: CrashHarness
) -> None:
    """At every other step with the ledger in SQLite, at the others in PostgreSQL, see `on_either`."""
    logs = tmp_path / "logs"

    def damaged(name: str) -> Settings:
        found = settings(name)
        for number in range(3):
            tiny_log(tmp_path, number)
        write(logs / "bad.json", json.dumps({"Tiny": [{"id": "bad", "account": ACCOUNT}]}))
        ingest.ingest([str(logs)], found, tiny)
        for path in (Path(found.lake) / largest(found), *of_quarantine(found)):
            path.unlink()
        shutil.rmtree(logs)
        return found

    def given(found: Settings) -> dict[str, object]:
        return found.model_dump(mode="json", exclude_defaults=True)

    first = damaged("uninterrupted")
    steps = mortals.steps("write-off", given(first))
    assert {"recorded", "forgotten", "committing", "half a file"} < set(steps)
    wanted = rows(first, PLACES), [row["path"] for row in ledger(first, WRITTEN_OFF)]
    assert (len(wanted[0]), len(wanted[1])) == (4, 2)
    of_this_kind = slice(first.ledger_url is not None, None, 2)
    for step, nth in list(Counter(steps).items())[of_this_kind]:
        at = f"killed at {step!r}, the {nth}. time"
        found = damaged(f"lake-{nth}-{step}")
        assert mortals.do("write-off", given(found), step=step, nth=nth) == "killed", at
        done_without(found)
        assert (rows(found, PLACES), [row["path"] for row in ledger(found, WRITTEN_OFF)]) == wanted, at
        is_sound(found)
        made_anew(found)
        assert (rows(found, PLACES), [row["path"] for row in ledger(found, WRITTEN_OFF)]) == wanted, at
        is_sound(found)


@pytest.mark.slow
def test_no_catalog_has_a_partition_whose_last_file_is_written_off(
    readers: Readers, raw_gone: None  # noqa: F811
) -> None:
    for path in files(readers.settings):
        path.unlink()
    assert done_without(readers.settings).message == "24 rows of 4 lost files written off"
    assert not readers.ledger() | readers.glue() | readers.iceberg()
    assert not readers.client.get_partitions(DatabaseName=readers.place.database, TableName=TABLE)["Partitions"]
    is_sound(readers.settings)


def lost_amid_a_compaction(found: Settings, step: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Loses a file that a compaction, which dies, was to take along as it is, as it came late; gives its place."""
    names = {path.name for path in files(found)}
    late: list[str] = []

    def meanwhile(now: str, _: str) -> None:
        if now == "merged" and not late:
            late.append(now)
            take(Path(found.lake).parent / "late", found, 4)
        if now == step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(moving, "failpoint", meanwhile)
        with pytest.raises(KilledError):
            compact.compact(found)
    (came,) = [path for path in files(found) if path.name not in names]
    came.unlink()
    return came


@pytest.mark.slow
@pytest.mark.parametrize("by_batch", [True, False])
def test_a_file_that_is_lost_after_a_compaction_has_copied_it_is_not_lost(
    by_batch: bool, compactable: Make, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable()
    lost_amid_a_compaction(found, "copied", monkeypatch)
    if by_batch:
        take(Path(found.lake).parent / "late", found, 5)
    assert done_without(found).parts == []
    assert len(rows(found, PLACES)) == EACH * (5 + by_batch)
    is_sound(found)


@pytest.mark.slow
@pytest.mark.parametrize("by_batch", [True, False])
def test_a_file_that_is_lost_behind_a_compactions_fence_stays_lost_and_no_more(
    by_batch: bool, readers: Readers, raw_gone: None, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    """A batch that comes then has to finish the compaction."""
    found = readers.settings
    came = lost_amid_a_compaction(found, "fenced", monkeypatch)
    if by_batch:
        take(Path(found.lake).parent / "late", found, 5)
    (gone,) = [part for part in done_without(found).parts if part.path.endswith(came.name)]
    assert "g0001" in gone.path
    readers.see(4 + by_batch)
    is_sound(found)


@pytest.mark.slow
def test_a_file_that_is_lost_before_a_compaction_that_would_only_copy_it_closes_nothing(
    compactable: Make, late_logs: Path
) -> None:
    found = compactable(compact_file_bytes=32_000)
    take(late_logs, found, 4, records=140)
    large = max(files(found), key=lambda path: path.stat().st_size)
    large.unlink()
    assert "is gone" in compact.compact(found).refused[TABLE]
    take(late_logs, found, 5)
    assert synced(found).left == []
    assert compact.compact(found).refused == {}
    is_sound(found)


# -- holds, and other ledgers -----------------------------------------------------------------------------------------
def test_a_hold_is_named_and_keeps_nothing_that_is_gone(settings: Make, tmp_path: Path, raw_gone: None) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    write(tmp_path / "logs" / "bad.json", json.dumps({"Records": MENDED[:2]}))
    ingest.ingest([str(tmp_path / "logs")], found, source="aws_cloudtrail")
    placed = hold.add(found, ACCOUNT, None, None, None, "case 7")
    for path in (*files(found), *of_quarantine(found)):
        path.unlink()
    assert [part.holds for part in listed(found).parts] == [(placed.hold.id,)] * 2
    assert len(done_without(found).parts) == 2
    assert rows(found, PLACES) == []


def test_a_ledger_of_an_earlier_version_is_read_and_gets_the_table(settings: Make, tmp_path: Path) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    with opened(found) as lake, lake.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE written_off")
    assert query.lacking(found, f"FROM {TABLE}") == []
    with opened(found, reading=True, catalogs=True) as lake:
        assert check.check(lake) == []
    assert listed(found).message == "nothing to write off"
    assert ledger(found, WRITTEN_OFF) == []


# -- the command ------------------------------------------------------------------------------------------------------
def test_no_lake_is_made_by_looking_for_lost_files(settings: Make) -> None:
    with pytest.raises(ConfigError, match="there is no lake"):
        listed(settings())
    assert not Path(settings().lake).exists()


def test_the_command_lists_first_and_status_tells(settings: Make, tmp_path: Path, raw_gone: None) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0, 1)
    files(found)[0].unlink()

    def run(*command: str) -> Any:
        return CliRunner().invoke(app, [*command, "--lake", found.lake])

    asked = run("catalog", "write-off")
    assert asked.exit_code == 1
    assert "write off" in asked.stdout
    assert f"{EACH} rows of 1 lost file to be written off" in asked.stderr
    assert "nothing was written off; to give up these rows, use --yes --reason TEXT" in asked.stderr
    assert "say why" in str(run("catalog", "write-off", "--yes").exception)
    assert "no table 'vpc_flo'; did you mean 'vpc_flow'" in str(run("catalog", "write-off", "vpc_flo").exception)
    assert run("catalog", "write-off", "vpc_flow").exit_code == 0
    done = run("catalog", "write-off", "--yes", "--reason", WHY, "--by", "ann", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["parts"][0]["rows"] == EACH
    assert run("catalog", "check").exit_code == 0
    told = f"{EACH} rows of aws_cloudtrail in table {TABLE} written off as lost"
    assert told in run("status").stdout
    assert json.loads(run("status", "--json").stdout)["written_off"][0]["rows"] == EACH
    answer = run("query", f"SELECT count(*) AS number FROM {TABLE}", "--format", "jsonl")
    assert json.loads(answer.stdout) == {"number": EACH}
    assert f"the answer may lack {EACH} rows of {TABLE}" in answer.stderr
