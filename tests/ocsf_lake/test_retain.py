"""What is past its time goes whole, once, from everywhere; what a hold keeps stays."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ocsf_lake import config
from ocsf_lake.cli import main
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.ingest import batch, moving
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import retained
from ocsf_lake.ledger.compactions import Compactions
from ocsf_lake.ledger.tables import COMPACTIONS, FILES, HOLDS, PURGES, RETAINED, RETIRED
from ocsf_lake.query import query
from ocsf_lake.storage import s3
from ocsf_lake.upkeep import check, compact, expire, hold, rebuild, rebuild_ledger, retain, trace_hints, verify
from ocsf_mappers.errors import ConfigError, ReadError
from tests.ocsf_lake.compacting import EACH, PLACES, TABLE, Make, die_at, dying, files, ledger, log, take
from tests.ocsf_lake.conftest import ON_BOTH, call, contents, sqlite_database, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_compact_readers import Readers, readers, registered  # noqa: F401 - fixtures
from tests.ocsf_lake.test_ingest import rows
from tests.support import often

ACCOUNT, OTHER = "111122223333", "444455556666"
RULES = {"default": "400d"}
PAST = datetime(2026, 6, 1, tzinfo=UTC)
"""More than 400 days after the logs' day."""
DAY = timedelta(days=1)
STEPS = ["planned", "fenced", "complete", "replaced", "recorded", "compacted", "removed"]


def later(days: float = 0) -> Callable[[], datetime]:
    return lambda: PAST + timedelta(days=days)


def consistent(settings: Settings) -> None:
    with opened(settings) as lake:
        assert check.check(lake, deep=True) == []


# -- what goes --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@ON_BOTH
def test_a_partition_goes_whole_and_nothing_of_it_comes_back(settings: Make, tmp_path: Path) -> None:
    logs, found = tmp_path / "logs", settings(retention=RULES)
    take(logs, found, 0, 1)
    take(logs, found, 2, account=OTHER)
    kept = settings(retention={**RULES, "accounts": {OTHER: "forever"}})
    batches = rows(found, "SELECT id, events FROM ledger_batches ORDER BY ALL")
    old = files(found)
    done = retain.retain(kept, clock=later())
    (part,) = done.parts
    assert (part.table, part.account, part.first, part.last) == (TABLE, ACCOUNT, "20250311", "20250311")
    assert (part.partitions, part.rows, part.files, part.rule) == (1, 2 * EACH, 2, 'default = "400d"')
    assert done.message.startswith("12 events of 1 partition removed (")
    assert rows(found, f"SELECT DISTINCT accountid, count(*) FROM {TABLE} GROUP BY ALL") == [(OTHER, EACH)]
    # Its files are there for who reads them just now; then they go.
    assert all(path.exists() for path in old)
    consistent(found)
    assert not [*verify.verify(found, verify.Asked(), verify.Summary())]
    assert retain.retain(kept, clock=lambda: datetime.now(UTC) + timedelta(hours=25)).removed == 2
    assert [path for path in old if path.exists()] == [path for path in old if OTHER in str(path)]
    assert not list(Path(found.lake).glob("compacted/**/_plan.json"))
    consistent(found)
    assert not [*verify.verify(found, verify.Asked(), verify.Summary())]
    # What went is known, with each file's checksum.
    (gone,) = ledger(found, RETAINED)
    assert (gone["account"], gone["region"], gone["day"], gone["rows"]) == (ACCOUNT, "eu-west-1", "20250311", 2 * EACH)
    retired = ledger(found, RETIRED)
    assert {row["merge_id"] for row in retired} == {gone["retention_id"]}
    assert all(row["sha256"] and row["removed_at"] for row in retired)
    (why,) = query.why_empty(found, f"SELECT count(*) FROM {TABLE} WHERE accountid = '{ACCOUNT}'")
    assert why.startswith(f"12 events of {TABLE} asked for were removed by retention, of eventday 20250311 to 20250311")
    with opened(found, reading=True) as lake:
        assert any("12 events of 1 partition removed" in hint for hint in trace_hints.hints(lake, "x", None, None))
    # Nothing is read again, in whichever way, and a lost ledger knows all of it too.
    assert ingest.ingest([str(logs)], found).counts.read == 0
    assert rows(found, "SELECT id, events FROM ledger_batches ORDER BY ALL") == batches
    if found.ledger_url is None:
        (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    summary = rebuild_ledger.rebuild(found, replacing=found.ledger_url is not None)
    assert (summary.missing, summary.unknown) == ([], [])
    assert ledger(found, RETAINED) == [gone]
    assert all(row["removed_at"] for row in ledger(found, RETIRED))  # a hold says that nothing of it is left
    assert rows(found, f"SELECT count(*) FROM {TABLE}") == [(EACH,)]
    assert ingest.ingest([str(logs)], found).counts.read == 0
    consistent(found)


@pytest.mark.slow
def test_what_comes_late_is_mapped_and_goes_with_the_next_run(compactable: Make, late_logs: Path) -> None:
    found = compactable(retention=RULES)
    retain.retain(found, clock=later())
    take(late_logs, found, 4)
    assert [path.parent.name for path in files(found)] == ["g0001"]
    assert len(rows(found, PLACES)) == EACH
    consistent(found)
    (part,) = retain.retain(found, clock=later()).parts
    assert (part.rows, rows(found, PLACES)) == (EACH, [])
    assert sorted(row["rows"] for row in ledger(found, RETAINED)) == [EACH, 4 * EACH]
    retain.retain(found, clock=lambda: datetime.now(UTC) + 2 * DAY)
    assert not [path for path in Path(found.lake).glob("compacted/**/*") if path.is_file()]
    consistent(found)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["judged", "planned"])
def test_what_comes_while_it_is_at_work_is_judged_by_the_next_run(
    step: str, compactable: Make, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of a source whose events are kept longer."""
    found = compactable(retention=RULES)
    at_work = moving.failpoint
    removed = retain._Run._removed

    def late(now: str, _: str) -> None:
        if now == step and step == "planned":
            take(late_logs, found, 4)

    def judged(*given: Any) -> Any:
        take(late_logs, found, 4)
        return removed(*given)

    monkeypatch.setattr(moving, "failpoint", late)
    if step == "judged":
        monkeypatch.setattr(retain._Run, "_removed", judged)
    done = retain.retain(found, clock=later())
    assert (done.parts, done.waiting, len(rows(found, PLACES))) == ([], 1, 5 * EACH)
    monkeypatch.setattr(moving, "failpoint", at_work)
    monkeypatch.setattr(retain._Run, "_removed", removed)
    assert retain.retain(found, clock=later()).parts[0].rows == 5 * EACH
    consistent(found)


def test_a_day_goes_when_it_is_past_and_not_before(compactable: Make) -> None:
    found = compactable(retention={"default": "30d"})
    assert retain.retain(found, clock=lambda: datetime(2025, 4, 10, 23, 59, tzinfo=UTC)).parts == []
    # Days are UTC's, wherever the clock is.
    zone = datetime.fromisoformat("2025-04-11T01:00:00+05:00").tzinfo
    assert retain.retain(found, clock=lambda: datetime(2025, 4, 11, 1, tzinfo=zone)).parts == []
    assert retain.retain(found, clock=lambda: datetime(2025, 4, 11, tzinfo=UTC)).parts


@pytest.mark.slow
def test_a_compacted_partition_goes_too(compactable: Make, late_logs: Path) -> None:
    found = compactable(retention=RULES)
    compact.compact(found)
    take(late_logs, found, 4)
    old = [*files(found), *Path(found.lake).glob("aws/**/*.parquet")]
    assert retain.retain(found, clock=later()).parts[0].rows == 5 * EACH
    assert compact.compact(found, clock=lambda: datetime.now(UTC) + 2 * DAY).removed == len(old) == 6
    assert not [path for path in Path(found.lake).glob("compacted/**/*") if path.is_file()]
    consistent(found)


def test_nothing_goes_without_a_rule(compactable: Make) -> None:
    found = compactable()
    assert retain.retain(found, clock=later(36_500)).message.startswith("no retention is set, so nothing is removed")
    others = compactable(retention={"tables": {"vpc_flow": "1d"}})
    assert retain.retain(others, clock=later(36_500)).parts == []
    assert len(files(found)) == 4


def test_a_misspelt_rule_stops_all(compactable: Make) -> None:
    found = compactable(retention={"default": "1d", "tables": {"cloud_trail_mgm": "7y"}})
    with pytest.raises(ConfigError, match="did you mean 'cloud_trail_mgmt'"):
        retain.retain(found, clock=later())
    assert len(files(found)) == 4


def test_a_table_of_several_sources_has_the_longest_of_their_rules(settings: Make, tmp_path: Path) -> None:
    found = settings(retention={"sources": {"aws_cloudtrail": "30d"}})
    take(tmp_path / "logs", found, 0)
    with opened(found) as lake:
        (partition,) = retained.partitions(lake.ledger.engine, TABLE)
    assert partition.sources == {"aws_cloudtrail"}
    assert retain.retain(found, dry_run=True, clock=later()).parts
    run = retain._Run(lake, PAST.date(), [], retain.Summary())
    partition.sources.add("aws_eks_audit")  # which has no rule
    assert run.over(TABLE, partition) is None


def test_events_of_no_account_go_by_the_longest_rule_of_any(settings: Make, tmp_path: Path) -> None:
    """And those of no day, which lakes of earlier versions have, by when they came."""
    found = settings(retention={"default": "30d", "accounts": {OTHER: "60d"}})
    write(tmp_path / "logs" / "one.json.gz", json.dumps({"Records": [call(0, "x")]}))
    ingest.ingest([str(tmp_path / "logs")], found, "aws_cloudtrail")
    assert retain.retain(found, dry_run=True, clock=lambda: datetime(2025, 5, 10, tzinfo=UTC)).parts == []
    (part,) = retain.retain(found, clock=lambda: datetime(2025, 5, 11, tzinfo=UTC)).parts
    assert (part.first, part.account, part.rule) == ("20250311", "unknown", f'accounts.{OTHER} = "60d"')
    values, last_done = ("unknown", ACCOUNT, "unknown"), "2025-07-01T23:59:59+00:00"
    partition = retained.Held(values, {"aws_cloudtrail"}, last_done=last_done)
    with opened(found) as lake:
        for day, is_over in ((30, False), (31, True)):
            run = retain._Run(lake, datetime(2025, 7, 1).date() + DAY * day, [], retain.Summary())  # noqa: DTZ001
            assert (run.over(TABLE, partition) is not None) is is_over


def test_files_that_an_export_takes_are_left_to_the_next_run(
    compactable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compactable(export_region="eu-central-1", retention=RULES)
    given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
    with monkeypatch.context() as patched:
        patched.setattr(export, "failpoint", die_at("planned"))
        with pytest.raises(KilledError):
            export.export(*given, clock=later())
    assert (done := retain.retain(found, clock=later())).waiting == 1
    assert done.parts == []
    assert export.export(*given, clock=later()).events == 4 * EACH
    assert retain.retain(found, clock=later()).parts[0].rows == 4 * EACH


@pytest.mark.slow
def test_a_lost_file_of_a_day_that_stays_is_made_again(settings: Make, tmp_path: Path) -> None:
    """Though the batch's other files went."""
    found = settings(retention={"accounts": {OTHER: "1d"}}, compact_grace_hours=0)
    log(tmp_path / "logs", 0)
    log(tmp_path / "logs", 1, account=OTHER)
    ingest.ingest([str(tmp_path / "logs")], found)
    retain.retain(found, clock=later())
    retain.retain(found, clock=lambda: datetime.now(UTC) + DAY)
    (path,) = files(found)
    data = path.read_bytes()
    path.unlink()
    with opened(found) as lake:
        repair = check.sync(lake)
        assert (repair.refused, repair.left) == ([], [])
    assert path.read_bytes() == data
    assert [item for item in Path(found.lake).rglob("*.parquet") if OTHER in str(item)] == []


@pytest.mark.slow
def test_a_lost_file_of_a_day_that_goes_meanwhile_is_not_made_again(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(retention=RULES)
    take(tmp_path / "logs", found, 0)
    files(found)[0].unlink()
    made = rebuild._made

    def slowly(*given: Any) -> object:
        files_of_then = made(*given)
        retain.retain(found, clock=later())
        return files_of_then

    monkeypatch.setattr(rebuild, "_made", slowly)
    with opened(found) as lake:
        repair = check.sync(lake)
    assert list(verify.verify(found, verify.Asked(), verify.Summary())) == []
    assert (len(repair.refused), repair.rebuilt) == (1, [])
    assert rows(found, PLACES) == []


# -- whatever dies ----------------------------------------------------------------------------------------------------
class Seen:
    """What each reader sees: all of the first records or none, and no record twice."""

    def __init__(self, readers: Readers) -> None:  # noqa: F811
        self.readers = readers

    def check(self, early: set[int], late: int = 0) -> None:
        for name in ("ledger", "glue", "iceberg"):
            counted = getattr(self.readers, name)()
            assert not counted or max(counted.values()) == 1, name
            was_late = [place for place in counted if "_t4." in place[0]]
            assert len(was_late) == late * EACH, name
            assert len(counted) - len(was_late) in {number * EACH for number in early}, name


@pytest.fixture
def seen(readers: Readers) -> Seen:  # noqa: F811
    return Seen(readers)


def with_rules(settings: Settings, **more: Any) -> Settings:
    return settings.model_copy(update={"retention": config.load(retention=RULES).retention, **more})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "with_late"),
    often([*zip(STEPS, cycle([True, False])), ("replaced", True)], at=[("fenced", False), ("replaced", True)]),
)
def test_a_retention_that_dies_is_finished_by_whoever_comes_next(
    step: str, with_late: bool, seen: Seen, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step, with a batch that comes late at every other one, and both where the rows have just gone."""
    found = with_rules(seen.readers.settings, compact_grace_hours=0)
    clock = lambda: datetime.now(UTC) + 500 * DAY  # noqa: E731 - past all grace
    if step == "removed":  # which snapshots keep it from
        retain.retain(found, clock=clock)
        expire.expire(found, timedelta(0), clock=clock)
    with dying(monkeypatch, step):
        retain.retain(found, clock=clock)
    begun = STEPS.index(step) >= STEPS.index("fenced")
    seen.check({0, 4})
    if with_late:
        take(late_logs, found, 4)
        seen.check({0} if begun else {4}, late=1)
    with opened(found) as lake:
        assert not Compactions(lake.ledger.engine).is_fenced(TABLE) or not with_late
    retain.retain(found, clock=clock)
    seen.check({0})
    expire.expire(found, timedelta(0), clock=clock)
    retain.retain(found, clock=clock)
    assert list(Path(found.lake).glob("**/*.parquet")) == []
    assert {row["removed_at"] is None for row in ledger(found, RETIRED)} == {False}
    assert sum(row["rows"] for row in ledger(found, RETAINED)) == (5 if with_late else 4) * EACH
    assert [row for row in ledger(found, COMPACTIONS) if row["state"] != "done"] == []
    consistent(found)


@pytest.mark.slow
def test_a_batch_that_was_slower_registers_its_own_folder(
    seen: Seen, late_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked at the partition before it was emptied, and registers it after that."""
    found = with_rules(seen.readers.settings)
    late = log(late_logs, 4)
    register = batch.register
    times = []

    def slow(*given: Any) -> None:
        times.append(len(times))
        if len(times) == 1:
            retain.retain(found, clock=later())
        register(*given)

    monkeypatch.setattr(batch, "register", slow)
    ingest.ingest([str(late)], found)
    assert len(times) == 2
    assert [path.parent.name for path in files(found)] == ["g0001"]
    seen.check({0}, late=1)
    consistent(found)


@pytest.mark.slow
def test_other_accounts_stay_in_every_catalog(seen: Seen, late_logs: Path) -> None:
    found = with_rules(seen.readers.settings)
    take(late_logs, found, 4, account=OTHER)
    retain.retain(found.model_copy(update={
        "retention": config.load(retention={"accounts": {ACCOUNT: "1d"}}).retention
    }), clock=later())  # fmt: skip
    seen.check({0}, late=1)
    consistent(found)


def test_a_projected_table_is_refused(readers: Readers) -> None:  # noqa: F811
    found = with_rules(readers.settings)
    readers.client.get_table(DatabaseName=readers.place.database, Name=TABLE)
    table = readers.client.get_table(DatabaseName=readers.place.database, Name=TABLE)["Table"]
    given = {key: table[key] for key in ("Name", "StorageDescriptor", "PartitionKeys", "TableType")}
    readers.client.update_table(
        DatabaseName=readers.place.database,
        TableInput={**given, "Parameters": {**table["Parameters"], "projection.enabled": "true"}},
    )
    done = retain.retain(found, dry_run=True, clock=later())
    assert done.parts == []
    assert "partition projection" in done.refused[TABLE]


# -- holds ------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_what_a_hold_keeps_stays_until_it_is_released(compactable: Make) -> None:
    found = compactable(retention=RULES)
    compact.compact(found)
    placed = hold.add(found, ACCOUNT, None, datetime(2025, 3, 11), None, " case 7 ", "ann")  # noqa: DTZ001 - a day
    assert (placed.partitions, placed.rows, placed.hold.reason) == (1, 4 * EACH, "case 7")
    done = retain.retain(found, clock=later())
    assert (done.parts, [(part.hold, part.reason, part.rows) for part in done.held]) == (
        [], [(placed.hold.id, "case 7", 4 * EACH)],
    )  # fmt: skip
    assert done.removed == 0
    assert compact.compact(found, clock=lambda: datetime.now(UTC) + 2 * DAY).held == 4
    assert len(list(Path(found.lake).rglob("*.parquet"))) == 5
    # It outlives the ledger.
    (Path(found.lake) / "_ledger" / "ledger.db").unlink()
    rebuild_ledger.rebuild(found)
    assert retain.retain(found, clock=later()).parts == []
    with pytest.raises(ConfigError, match="there is no hold 'nonesuch'"):
        hold.release(found, "nonesuch")
    released = hold.release(found, placed.hold.id, "bob", "closed")
    with pytest.raises(ConfigError, match="was released already"):
        hold.release(found, placed.hold.id)
    (row,) = ledger(found, HOLDS)
    assert (row["placed_by"], row["released_by"], row["release_reason"]) == ("ann", "bob", "closed")
    assert row["released_at"] == released.released_at
    assert retain.retain(found, clock=later()).parts
    assert retain.retain(found, clock=lambda: datetime.now(UTC) + 500 * DAY).removed == 5
    assert [path for path in Path(found.lake).rglob("*.parquet") if "_lake" not in path.parts] == []


@pytest.mark.parametrize(
    ("account", "table", "first", "last", "is_kept"),
    [
        (None, None, None, None, True),
        (ACCOUNT, TABLE, "2025-03-11", "2025-03-11", True),
        (None, None, "2025-03-12", None, False),
        (None, None, None, "2025-03-10", False),
        (OTHER, None, None, None, False),
        (None, "s3_data", None, None, False),
    ],
)
def test_a_hold_keeps_what_it_names(
    account: str | None, table: str | None, first: str | None, last: str | None, is_kept: bool, compactable: Make
) -> None:
    found = compactable(retention=RULES)
    days = [None if day is None else datetime.fromisoformat(day) for day in (first, last)]
    hold.add(found, account, table, days[0], days[1], "case 7")
    done = retain.retain(found, dry_run=True, clock=later())
    assert (bool(done.held), bool(done.parts)) == (is_kept, not is_kept)


def test_a_hold_that_comes_between_plan_and_fence_wins(compactable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compactable(retention=RULES)

    def failpoint(step: str, _: str) -> None:
        if step == "planned":
            hold.add(found, ACCOUNT, None, None, None, "just now")

    monkeypatch.setattr(moving, "failpoint", failpoint)
    done = retain.retain(found, clock=later())
    assert (done.parts, done.waiting, len(files(found))) == ([], 1, 4)
    assert [row["state"] for row in ledger(found, COMPACTIONS)] == []
    consistent(found)


def test_a_hold_placed_after_events_went_keeps_their_files(compactable: Make) -> None:
    found = compactable(retention=RULES, compact_grace_hours=0)
    old = files(found)
    retain.retain(found, clock=lambda: datetime.now(UTC) - timedelta(minutes=1))
    retain.retain(found.model_copy(update={"compact_grace_hours": 24}), clock=later())
    placed = hold.add(found, None, TABLE, None, None, "case 8")
    assert (placed.partitions, placed.files_only, placed.lost) == (0, 1, 0)
    assert "1 partition already gone, and only the files are still there" in placed.message
    retain.retain(found, clock=lambda: datetime.now(UTC) + 500 * DAY)
    assert all(path.exists() for path in old)
    consistent(found)
    hold.release(found, placed.hold.id)
    assert retain.retain(found, clock=lambda: datetime.now(UTC) + 500 * DAY).removed == 4
    assert hold.add(found, None, None, None, None, "case 9").lost == 1


@pytest.mark.slow
def test_a_hold_keeps_snapshots_of_iceberg(readers: Readers) -> None:  # noqa: F811
    found = readers.settings
    placed = hold.add(found, None, TABLE, None, None, "case 7")
    compact.compact(found)
    clock = lambda: datetime.now(UTC) + 500 * DAY  # noqa: E731
    done = expire.expire(found, clock=clock)
    assert [item.snapshots for item in done.tables] == []
    assert done.left == {f"iceberg {TABLE}": f"hold {placed.hold.id} keeps table {TABLE}"}
    hold.release(found, placed.hold.id)
    assert sum(item.snapshots for item in expire.expire(found, clock=clock).tables) > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("1111", None, None, None, "x"), "'1111' is not an account id"),
        ((None, "cloudtrail", None, None, "x"), "no table 'cloudtrail'"),
        ((None, None, datetime(2025, 3, 2), datetime(2025, 3, 1), "x"), "are none"),  # noqa: DTZ001
        ((None, None, None, None, "  "), "--reason"),
    ],
)
def test_a_hold_that_could_keep_nothing_is_refused(given: Any, message: str, compactable: Make) -> None:
    with pytest.raises(ConfigError, match=message):
        hold.add(compactable(), *given)


# -- quarantine -------------------------------------------------------------------------------------------------------
def refused(settings: Settings, folder: Path) -> Callable[[], datetime]:
    """Brings a record that becomes no event; gives a time at which its own is over."""
    write(folder / "one.json", json.dumps({"Records": [{"eventName": "no time"}]}))
    ingest.ingest([str(folder)], settings, "aws_cloudtrail")
    return lambda: datetime.now(UTC) + 31 * DAY


@pytest.mark.slow
def test_a_purge_that_dies_is_ended_by_the_next_run(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(retention={"quarantine": "30d"})
    over = refused(found, tmp_path / "logs")
    with dying(monkeypatch, "purged"):
        retain.retain(found, clock=over)
    with pytest.raises(ReadError):
        rows(found, "SELECT count(*) FROM quarantine")
    retain.retain(found, clock=over)
    assert rows(found, "SELECT count(*) FROM quarantine") == [(0,)]
    assert ledger(found, PURGES)[0]["entries"] == 1
    consistent(found)
    assert not [*verify.verify(found, verify.Asked(), verify.Summary())]


@pytest.mark.slow
def test_a_hold_that_comes_while_quarantine_is_purged_wins(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(retention={"quarantine": "30d"})
    over = refused(found, tmp_path / "logs")

    def failpoint(step: str, _: str) -> None:
        if step == "purging":
            assert hold.add(found, None, "quarantine", None, None, "case 9").quarantined == 1

    monkeypatch.setattr(moving, "failpoint", failpoint)
    assert retain.retain(found, clock=over).parts == []
    for _ in range(2):
        assert rows(found, "SELECT count(*) FROM quarantine") == [(1,)]
        consistent(found)
        assert not [*verify.verify(found, verify.Asked(), verify.Summary())]
        (Path(found.lake) / "_ledger" / "ledger.db").unlink()
        rebuild_ledger.rebuild(found)


@pytest.mark.slow
def test_quarantine_goes_by_rules_of_its_own(settings: Make, tmp_path: Path) -> None:
    found = settings(retention={"default": "1d", "quarantine": {"sources": {"aws_cloudtrail": "30d"}}})
    write(tmp_path / "logs" / "one.json", json.dumps({"Records": [{"eventName": "no time"}]}))
    write(tmp_path / "logs" / "flow.log", "2 x eni-0a1b nonsense\n")
    ingest.ingest([str(tmp_path / "logs" / "one.json")], found, "aws_cloudtrail")
    ingest.ingest([str(tmp_path / "logs" / "flow.log")], found, "aws_vpc_flow")
    assert rows(found, "SELECT source, count(*) FROM quarantine GROUP BY ALL ORDER BY ALL") == [
        ("aws_cloudtrail", 1), ("aws_vpc_flow", 1),
    ]  # fmt: skip
    now = datetime.now(UTC)
    assert retain.retain(found, clock=lambda: now + 29 * DAY).parts == []
    kept = hold.add(found, ACCOUNT, TABLE, None, None, "case 7").hold
    done = retain.retain(found, "quarantine", clock=lambda: now + 31 * DAY)
    assert [(part.table, part.account, part.rows, part.hold) for part in done.held] == [
        ("quarantine", "aws_cloudtrail", 1, kept.id)
    ]
    result = CliRunner().invoke(app, ["quarantine", "purge", "--older-than", "0", "--yes", "--lake", found.lake])
    assert result.exit_code == 0
    assert "1 record kept by a legal hold" in result.output
    assert rows(found, "SELECT source FROM quarantine") == [("aws_cloudtrail",)]
    hold.release(found, kept.id)
    kept = hold.add(found, None, "quarantine", None, None, "case 8").hold
    assert retain.retain(found, clock=lambda: now + 31 * DAY).parts == []
    hold.release(found, kept.id)
    (part,) = retain.retain(found, clock=lambda: now + 31 * DAY).parts
    assert (part.table, part.account, part.rows) == ("quarantine", "aws_cloudtrail", 1)
    assert part.rule == 'quarantine.sources.aws_cloudtrail = "30d"'
    assert rows(found, "SELECT count(*) FROM quarantine") == [(0,)]
    assert len(ledger(found, PURGES)) == 2
    consistent(found)


# -- the command line -------------------------------------------------------------------------------------------------
def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    code = result.exit_code
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        code = main.report(result.exception) or code
    return code, result.stdout, result.stderr


@pytest.mark.slow
def test_it_lists_first_and_changes_nothing_for_that(compactable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compactable(retention=RULES)
    monkeypatch.setenv("OCSF_LAKE_RETENTION", json.dumps({"tables": {TABLE: "30d"}}))
    before = contents(Path(found.lake)), ledger(found, FILES), ledger(found, COMPACTIONS)
    for given in ([], ["--dry-run"], [TABLE]):
        code, out, said = run("retain", *given, "--lake", found.lake)
        assert code == 0
        assert f"tables.{TABLE}" in out
        assert "24 events of 1 partition would be removed" in said
        assert "nothing was removed; --yes removes it" in said
    code, out, _ = run("retain", "--json", "--lake", found.lake)
    assert json.loads(out)["parts"][0]["rows"] == 4 * EACH
    assert (contents(Path(found.lake)), ledger(found, FILES), ledger(found, COMPACTIONS)) == before
    assert run("retain", "--yes", "--dry-run", "--lake", found.lake)[0] == 2
    assert run("retain", "vpc_flo", "--lake", found.lake)[0] == 2


def test_a_ledger_of_before_can_be_looked_at(compactable: Make) -> None:
    """One that lacks the tables of holds and of what went, and that may not be written."""
    found = compactable(retention=RULES)
    path = Path(found.lake) / "_ledger" / "ledger.db"
    with sqlite_database(path) as connection:
        for table in (HOLDS, RETAINED):
            connection.execute(f"DROP TABLE {table.name}")
    path.chmod(0o400)
    assert retain.retain(found, dry_run=True, clock=later()).parts
    assert run("hold", "list", "--lake", found.lake)[0] == 0
    assert rows(found, "SELECT count(*) FROM ledger_holds, ledger_retained") == [(0,)]
    with opened(found, reading=True) as lake:
        assert check.check(lake) == []


@pytest.mark.slow
def test_holds_by_command(compactable: Make) -> None:
    lake = compactable().lake
    assert run("hold", "add", "--lake", lake)[0] == 2
    why = ("--reason", "case\x1b[31m 7", "--by", "ann")
    code, out, said = run("hold", "add", "--from", "2025-03-01", *why, "--lake", lake)
    assert (code, len(out.strip())) == (0, 12)
    assert "on days 20250301 to ... keeps 24 events of 1 partition" in said
    code, out, _ = run("hold", "list", "--lake", lake)
    assert "\x1b" not in out
    assert "ann" in out
    (held,) = json.loads(run("hold", "list", "--json", "--lake", lake)[1])
    assert held["reason"] == "case\x1b[31m 7"
    assert run("hold", "release", held["id"], "--lake", lake)[0] == 0
    assert run("hold", "release", held["id"], "--lake", lake)[0] == 2
    assert json.loads(run("hold", "list", "--json", "--lake", lake)[1]) == []
    assert len(json.loads(run("hold", "list", "--all", "--json", "--lake", lake)[1])) == 1


# -- S3 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.integration
def test_a_lake_on_s3(bucket: str, moto_server: str, tmp_path: Path) -> None:
    found = config.load(
        lake=f"s3://{bucket}/lake", state=tmp_path / "state", compact_grace_hours=0, catalogs=["glue", "iceberg"],
        glue_endpoint=moto_server, glue_database="retained_lake", retention=RULES,
    )  # fmt: skip
    take(tmp_path / "logs", found, 0, 1)
    take(tmp_path / "logs", found, 2, account=OTHER)
    hold.add(found, OTHER, None, None, None, "case 7")
    done = retain.retain(found, clock=later())
    assert ([part.rows for part in done.parts], [part.rows for part in done.held]) == ([2 * EACH], [EACH])
    client = s3.aws_client("glue", found.lake_access, moto_server)
    (left,) = client.get_partitions(DatabaseName="retained_lake", TableName=TABLE)["Partitions"]
    assert left["Values"] == ["eu-west-1", OTHER, "20250311"]
    assert len(rows(found, PLACES)) == EACH
    consistent(found)
    assert expire.expire(found, timedelta(0)).tables == []
    (placed,) = ledger(found, HOLDS)
    hold.release(found, placed["id"])
    assert retain.retain(found, clock=later()).parts[0].rows == EACH
    clock = lambda: datetime.now(UTC) + DAY  # noqa: E731
    expire.expire(found, timedelta(0), clock=clock)
    assert retain.retain(found, clock=clock).removed == 3
    with opened(found) as lake:
        assert not any(name.endswith(".parquet") for name in lake.store.sizes("aws"))
    consistent(found)
