"""A batch that died and whose raw objects are gone: nothing that it wrote is lost, and nothing counts twice."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from ocsf_lake.catalogs.base import Drift, Kind
from ocsf_lake.cli.main import app
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch, unfinished
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import ledger
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import layout, objects, retry, writer
from ocsf_lake.storage.objects import ObjectError
from ocsf_lake.storage.s3 import Access
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import check, compact
from ocsf_mappers import registry
from ocsf_mappers.errors import RetriableError, WriteError
from tests.ocsf_lake.compacting import PLACES, Make, files
from tests.ocsf_lake.compacting import log as of_calls
from tests.ocsf_lake.conftest import OFTEN_SQLITE, at_steps, call, write
from tests.ocsf_lake.killed import killed_at
from tests.ocsf_lake.losing import made_anew, synced
from tests.ocsf_lake.mortal import CrashHarness
from tests.ocsf_lake.test_compact_readers import Readers, readers, registered  # noqa: F401 - fixtures
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_remap import is_sound
from tests.ocsf_lake.test_routing import COUNTS, MIXED
from tests.support import often

ENTRIES = "SELECT source_object, source_record FROM quarantine ORDER BY ALL"
BOOKS = "SELECT sum(read), sum(events), sum(quarantined), sum(dropped) FROM ledger_batches"
OBJECTS = "SELECT state, reason, read FROM ledger_objects ORDER BY uri"
WHOLE = ["kept", "registered", "recorded"]
"""Moments at which all files of a batch are written, and the ledger knows what it came to."""
EACH = 4


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return two_objects(tmp_path / "logs")


def two_objects(folder: Path) -> Path:
    """Writes two objects of four records, of which one becomes no event."""
    for number in range(2):
        times: list[dict[str, str]] = [{"at": f"2025-03-11T09:0{minute}:00Z"} for minute in range(EACH - 1)]
        log(folder, number, [*times, {}])
    return folder


def log(folder: Path, number: int, times: Iterable[dict[str, str]]) -> None:
    records = [{"id": f"{number}-{place}", "account": "111122223333", **time} for place, time in enumerate(times)]
    write(folder / f"{number}.json", json.dumps({"Tiny": records}))


def ingested(logs: Path, settings: Settings) -> ingest.Summary:
    return ingest.ingest([str(logs)], settings, "tiny")


def dead(logs: Path, settings: Settings, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch dies at a step, and its raw objects are gone after that."""
    with killed_at(step, monkeypatch):
        ingested(logs, settings)
    shutil.move(logs, logs.with_name("away"))


def back(logs: Path) -> None:
    shutil.move(logs.with_name("away"), logs)


def aside(settings: Settings) -> list[Path]:
    return sorted((Path(settings.lake) / layout.FOREIGN).rglob("*.parquet"))


# -- all objects are gone ---------------------------------------------------------------------------------------------
@OFTEN_SQLITE
@at_steps(*WHOLE, often=["registered"])
def test_a_batch_that_was_written_whole_is_finished(
    step: str, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    dead(logs, found, step, monkeypatch)
    assert ingest.open_batches(found)
    assert rows(found, PLACES) == []
    with opened(found, reading=True) as lake:
        findings = check.check(lake)
    assert {(one.kind, one.harmless) for one in findings} == {(Kind.FILE_UNFINISHED, False)}
    repair = synced(found)
    (said,) = repair.ended.values()
    assert said == "it was written whole, 6 events and 2 in quarantine"
    assert (len(repair.found), repair.left, repair.refused, aside(found)) == (2, [], [], [])
    is_sound(found)
    assert (len(rows(found, PLACES)), len(rows(found, ENTRIES))) == (6, 2)
    assert rows(found, BOOKS) == [(8, 6, 2, 0)]
    assert rows(found, OBJECTS) == [(State.DONE, None, EACH)] * 2
    # What comes back afterwards is known.
    back(logs)
    assert ingested(logs, found).counts.read == 0
    assert len(rows(found, PLACES)) == 6


@OFTEN_SQLITE
@at_steps("part", "written", often=["written"])
def test_what_may_be_a_part_of_a_batch_is_moved_aside_and_named(
    step: str, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(part_rows=EACH)
    monkeypatch.setattr(writer, "MOST_BYTES", -1)  # each part has files of its own
    dead(logs, found, step, monkeypatch)
    written = {path.read_bytes() for path in Path(found.lake).rglob("*.parquet")}
    assert len(written) == (2 if step == "part" else 4)
    repair = synced(found)
    (said,) = repair.ended.values()
    each = "4 rows in 2 files" if step == "part" else "8 rows in 4 files"
    assert f"the object is gone since it was listed; what its batch had written when it died, {each}" in said
    assert (repair.left, repair.refused) == ([], [])
    is_sound(found)
    assert {path.read_bytes() for path in aside(found)} == written
    assert rows(found, PLACES) == rows(found, ENTRIES) == []
    states = rows(found, OBJECTS)
    assert {(state, read) for state, _, read in states} == {(State.FAILED, 0)}
    assert all(str(reason) in said for _, reason, _ in states)
    assert not ingest.open_batches(found)
    # What comes back is read, and counts once.
    back(logs)
    assert ingested(logs, found).counts.read == 8
    assert (len(rows(found, PLACES)), rows(found, BOOKS)) == (6, [(8, 6, 2, 0)])
    is_sound(found)
    assert {path.read_bytes() for path in aside(found)} == written


@pytest.mark.slow
def test_files_of_one_name_are_moved_beside_each_other(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is planned under its id again, when its objects are back, and dies again; bytes are kept once."""
    found = settings()
    for changed, number in ((False, 2), (False, 2), (True, 3)):
        if changed:
            aside(found)[0].write_bytes(b"of another one")
        dead(logs, found, "written", monkeypatch)
        (said,) = synced(found).ended.values()
        assert (len(aside(found)), f"in {number} files" in said) == (number, True)
        back(logs)
    dead(logs, found, "kept", monkeypatch)
    assert "written whole" in "".join(synced(found).ended.values())
    assert (len(aside(found)), len(rows(found, PLACES))) == (3, 6)
    is_sound(found)


def test_who_may_not_remove_what_was_moved_aside_piles_up_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is on S3 without s3:DeleteObject, or for who dies between the two requests."""
    lake = Store("memory://aside")
    lake.put("a/b.parquet", pa.py_buffer(b"rows"))
    with monkeypatch.context() as patched:

        def refusing(path: str) -> None:
            raise PermissionError(path)

        patched.setattr(lake.fs, "rm_file", refusing)
        for _ in range(3):
            with pytest.raises(PermissionError):
                lake.move_aside("a/b.parquet")
    assert lake.sizes("") == {"a/b.parquet": 4, "_foreign/a/b.parquet": 4}
    lake.move_aside("a/b.parquet")
    assert lake.sizes("") == {"_foreign/a/b.parquet": 4}


def test_what_others_have_moved_aside_is_not_listed(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a hundred thousand files, and a thousand batches."""
    found = settings()
    dead(logs, found, "written", monkeypatch)
    listed: list[str] = []
    sizes = Store.sizes

    def noted(self: Store, prefix: str) -> dict[str, int]:
        listed.append(prefix)
        return sizes(self, prefix)

    monkeypatch.setattr(Store, "sizes", noted)
    assert len(synced(found).ended) == 1
    places = [prefix for prefix in listed if prefix.startswith(layout.FOREIGN)]
    assert len(places) == 2
    assert all("eventDay=20250311" in place or "day=" in place for place in places)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["written", "kept"])
def test_a_run_that_finishes_open_batches_loses_nothing_either(
    step: str, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    dead(logs, found, step, monkeypatch)
    summary = ingest.resume(found)
    whole = step == "kept"
    assert (summary.counts.events, len(aside(found)), len(summary.not_read)) == ((6, 0, 0) if whole else (0, 2, 2))
    assert all("8 rows in 2 files" in item.reason for item in summary.not_read)
    is_sound(found)


def test_a_batch_without_rows_is_finished_by_a_run_as_well(
    tiny: str, tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, logs = settings(), tmp_path / "logs"
    log(logs, 0, [])
    dead(logs, found, "kept", monkeypatch)
    assert ingest.resume(found).not_read == []
    assert rows(found, OBJECTS) == [(State.DONE, None, 0)]
    is_sound(found)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["written", "kept"])
def test_neither_another_mapper_nor_many_failures_lose_it(
    step: str, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a batch is planned anew, as its objects would be read; it is not where they are gone."""
    from tiny_source import MENDED  # type: ignore[import-not-found]

    for number, more in enumerate(({}, {"attempts": 2})):
        found = settings(f"lake{number}", **more)
        with monkeypatch.context() as patched:
            if more:
                patched.setattr(Ledger, "fail", lambda *_, **__: None)  # as of who is killed
                with killed_at("begun", monkeypatch):
                    ingested(logs, found)
            else:
                patched.setattr(registry, "load", lambda _: MENDED)
            dead(logs, found, step, monkeypatch)
        summary = ingest.resume(found)
        assert rows(found, BOOKS) == [(8, 6, 2, 0) if step == "kept" else (None,) * 4]
        assert (len(aside(found)), len(summary.not_read)) == ((0, 0) if step == "kept" else (2, 2))
        assert {state for state, *_ in rows(found, OBJECTS)} == {State.DONE if step == "kept" else State.FAILED}
        is_sound(found)
        back(logs)
        ingested(logs, found)
        assert len(rows(found, PLACES)) == 6
        is_sound(found)


@pytest.mark.slow
def test_what_moved_into_another_generation_meanwhile_is_finished_there(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(batch_objects=1, compact_grace_hours=0)
    for number in range(2, 6):
        log(logs, number, [{"at": "2025-03-11T10:00:00Z"}])
    with killed_at("registered", monkeypatch):
        ingested(logs / "0.json", found)
    for number in range(2, 6):
        ingested(logs / f"{number}.json", found)
    (logs / "0.json").unlink()
    assert compact.compact(found).tables
    (said,) = synced(found).ended.values()
    assert said == "it was written whole, 3 events and 1 in quarantine"
    assert (len(rows(found, PLACES)), aside(found)) == (3 + 4, [])
    assert all(layout.is_compacted(path.relative_to(found.lake).as_posix()) for path in files(found))
    is_sound(found)


@pytest.mark.slow
def test_the_plan_of_a_generation_goes_with_its_files_whatever_a_batch_that_died_has_left_there(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its files had gone, nobody knew it any more: `catalog sync` moved it aside, and `verify lake` missed it."""
    found = settings(batch_objects=1, compact_grace_hours=0)
    later = range(2, 14)
    for number in later:
        log(logs, number, [{"at": "2025-03-11T10:00:00Z"}])
    for number in later:
        ingested(logs / f"{number}.json", found)
        if number == later[3]:
            assert compact.compact(found).tables
            with killed_at("written", monkeypatch):
                ingested(logs / "0.json", found)
    assert compact.compact(found).tables
    with opened(found) as lake:
        assert {one.kind for one in check.check(lake)} == {Kind.FILE_UNFINISHED}
    ingested(logs / "0.json", found)
    assert synced(found).found == []
    is_sound(found)


@pytest.mark.slow
@pytest.mark.parametrize("policy", often(["mark", "drop"], ["drop"]))
def test_where_duplicates_are_looked_for_later_batches_come_first(
    policy: str, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote may be in the lake by now; if nothing came into its partitions since, it is not."""
    logs = tmp_path / "logs"
    for number, later in enumerate((call(1000), call(1))):
        found = settings(f"lake{number}", duplicates={"aws_cloudtrail": policy}, batch_objects=1)
        write(logs / "one.json", json.dumps({"Records": [call(1), call(2)]}))
        write(logs / "later.json", json.dumps({"Records": [later]}))
        with killed_at("kept", monkeypatch):
            ingest.ingest([str(logs / "one.json")], found)
        ingest.ingest([str(logs / "later.json")], found)
        shutil.rmtree(logs)
        synced(found)
        is_sound(found)
        assert (len(rows(found, PLACES)), len(aside(found))) == ((3, 0), (1, 1))[number]


@pytest.mark.slow
def test_which_batch_came_later_is_not_told_by_the_clocks_of_their_hosts(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(duplicates={"aws_cloudtrail": "drop"}, batch_objects=1)
    logs = tmp_path / "logs"
    write(logs / "one.json", json.dumps({"Records": [call(1), call(2)]}))
    write(logs / "later.json", json.dumps({"Records": [call(1)]}))
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "now", lambda: "2099-01-01T00:00:00.000+00:00")
        with killed_at("kept", monkeypatch):
            ingest.ingest([str(logs / "one.json")], found)
    ingest.ingest([str(logs / "later.json")], found)
    shutil.rmtree(logs)
    synced(found)
    is_sound(found)
    assert (len(rows(found, PLACES)), len(aside(found))) == (1, 1)


@pytest.mark.slow
def test_the_record_of_a_batch_that_read_nothing_stays_when_it_is_planned_again(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain has it; an attempt that dies removes only what died attempts have recorded."""
    found = settings()
    dead(logs, found, "begun", monkeypatch)
    ingest.resume(found)
    assert {state for state, *_ in rows(found, OBJECTS)} == {State.FAILED}
    back(logs)
    with killed_at("recorded", monkeypatch):
        ingested(logs, found)
    ingested(logs, found)
    assert len(rows(found, PLACES)) == 6
    is_sound(found)


@OFTEN_SQLITE
def test_the_files_are_still_named_when_the_key_gets_another_content(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    dead(logs, found, "written", monkeypatch)
    synced(found)
    log(logs, 0, [{"at": "2025-03-11T10:00:00Z"}])
    ingested(logs, found)
    ((reason,),) = rows(found, f"SELECT reason FROM ledger_objects WHERE state = '{State.REPLACED}'")
    assert "given another content" in str(reason)
    assert "8 rows in 2 files" in str(reason)


# -- some of them are -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", ["written", pytest.param("kept", marks=pytest.mark.slow)])
def test_rows_of_an_object_that_is_gone_are_not_written_over(
    step: str, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ingest meets the batch, by the object that is there."""
    found = settings()
    with killed_at(step, monkeypatch):
        ingested(logs, found)
    (logs / "0.json").unlink()
    with opened(found, reading=True) as lake:
        assert check.consistent(check.check(lake)), "the next run of the same command finishes it"
    assert synced(found).ended == {}
    summary = ingested(logs, found)
    is_sound(found)
    if step == "kept":
        assert (summary.counts.events, summary.not_read, aside(found)) == (6, [], [])
        return
    ((name, reason),) = [(Path(item.uri).name, item.reason) for item in summary.not_read]
    assert (summary.counts.events, name, len(aside(found))) == (3, "0.json", 2)
    assert "8 rows in 2 files" in reason
    assert rows(found, BOOKS) == [(4, 3, 1, 0)]


@pytest.mark.slow
def test_rows_of_an_object_that_goes_while_its_batch_is_done_again_are_not_written_over(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was there when the attempt asked for it."""
    found = settings()
    with killed_at("written", monkeypatch):
        ingested(logs, found)

    def goes(step: str, _: str) -> None:
        if step == "begun":
            (logs / "0.json").unlink(missing_ok=True)

    monkeypatch.setattr(batch, "failpoint", goes)
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    summary = ingested(logs, found)
    is_sound(found)
    (reason,) = [item.reason for item in summary.not_read]
    assert (summary.counts.events, len(aside(found)), "8 rows in 2 files" in reason) == (3, 2, True)


@pytest.mark.slow
def test_an_object_that_is_left_of_a_batch_that_failed_often_is_not_blamed(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(attempts=2)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "fail", lambda *_, **__: None)  # as of who is killed
        for step in ("begun", "written"):
            with killed_at(step, monkeypatch):
                ingested(logs, found)
    (logs / "0.json").unlink()
    summary = ingested(logs, found)
    assert ([Path(item.uri).name for item in summary.not_read], summary.counts.events) == (["0.json"], 3)
    is_sound(found)


@pytest.mark.slow
def test_a_batch_whose_objects_cannot_be_reached_waits(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_source import MENDED

    found = settings()
    with killed_at("written", monkeypatch):
        ingested(logs, found)
    before = sorted(Path(found.lake).rglob("*.parquet"))
    with monkeypatch.context() as patched:

        def denied(ref: objects.ObjectRef, _: object) -> None:
            raise ObjectError("access denied", object=ref.uri)

        patched.setattr(objects, "_streamed", denied)
        repair = synced(found)
    assert (repair.ended, sorted(Path(found.lake).rglob("*.parquet"))) == ({}, before)
    # Nor is it planned anew for another mapper, which removes what it has written.
    with monkeypatch.context() as patched:

        def silent(ref: objects.ObjectRef, _: object) -> None:
            raise RetriableError("no answer", object=ref.uri)

        patched.setattr(objects, "_streamed", silent)
        patched.setattr(registry, "load", lambda _: MENDED)
        patched.setattr(retry, "pauses", lambda *_: [])
        (failure,) = ingest.resume(found).failures
        assert "no answer" in failure.reason
        assert sorted(Path(found.lake).rglob("*.parquet")) == before
    assert ingested(logs, found).counts.events == 6


# -- records of other sources, catalogs, several at once --------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("step", ["written", "kept"])
def test_records_of_other_sources_end_with_the_batch_they_stand_in(
    step: str, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "logs" / "0.json", MIXED)
    usual = settings("usual")
    ingest.ingest([str(tmp_path / "logs")], usual)
    found = settings()
    with killed_at(step, monkeypatch):
        ingest.ingest([str(tmp_path / "logs")], found)
    written = len(list(Path(found.lake).rglob("*.parquet")))
    shutil.rmtree(tmp_path / "logs")
    assert len(synced(found).ended) == 1
    is_sound(found)
    assert len(aside(found)) == (written if step == "written" else 0)
    if step == "kept":
        assert rows(found, COUNTS) == rows(usual, COUNTS)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["written", "kept", "registered"])
def test_glue_and_iceberg_see_what_the_ledger_does(
    step: str,
    readers: Readers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,  # noqa: F811
) -> None:  # fmt: skip
    path = of_calls(tmp_path, 9)
    with killed_at(step, monkeypatch):
        ingest.ingest([str(tmp_path)], readers.settings)
    path.unlink()
    assert len(synced(readers.settings).ended) == 1
    readers.see(4 if step == "written" else 5)
    is_sound(readers.settings)


@pytest.mark.slow
def test_a_catalog_that_refuses_keeps_nothing_else_back(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    dead(logs, found, "kept", monkeypatch)
    stranger = next(Path(found.lake).rglob("*-6003.parquet")).with_name("stranger.parquet")
    stranger.write_bytes(b"")
    with monkeypatch.context() as patched:

        def refusing(*_: object) -> None:
            raise WriteError("the catalog refused")

        patched.setattr(batch, "register", refusing)
        repair = synced(found)
    assert ("the catalog refused" in "".join(repair.refused), len(repair.moved)) == (True, 1)
    assert {one.kind for one in repair.left} == {Kind.FILE_UNFINISHED}
    assert len(synced(found).ended) == 1
    assert len(rows(found, PLACES)) == 6


@OFTEN_SQLITE
@pytest.mark.slow
def test_who_meets_another_that_ends_a_batch_leaves_it_to_that_one(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    dead(logs, found, "written", monkeypatch)
    met: list[check.Repair | ingest.Summary] = []

    def meanwhile(step: str, _: str) -> None:
        if step == "moved aside":
            met.extend([synced(found), ingest.resume(found)])

    with monkeypatch.context() as patched:
        patched.setattr(unfinished, "failpoint", meanwhile)
        assert len(synced(found).ended) == 1
    first, second = met
    assert isinstance(first, check.Repair)
    assert isinstance(second, ingest.Summary)
    assert (first.ended, second.busy, second.not_read) == ({}, 1, [])
    assert (rows(found, PLACES), len(aside(found))) == ([], 2)
    is_sound(found)


@pytest.mark.parametrize("dies", often([False, True], [False]))
def test_what_a_batch_writes_while_sync_looks_is_not_moved(
    dies: bool, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger was lost, so that what a batch that died had written is nobody's, until it is done again."""
    found = settings()
    with killed_at("written", monkeypatch):
        ingested(logs, found)
    made_anew(found)
    checked = check.check

    def meanwhile(*given: Any) -> list[Drift]:
        findings = checked(*given)
        monkeypatch.setattr(check, "check", checked)
        with killed_at("written", monkeypatch) if dies else nullcontext():
            ingested(logs, found)
        return findings

    monkeypatch.setattr(check, "check", meanwhile)
    repair = synced(found)
    assert ({one.kind for one in repair.found}, repair.moved) == ({Kind.FILE_FOREIGN}, [])
    ingested(logs, found)
    is_sound(found)
    assert (len(rows(found, PLACES)), aside(found)) == (6, [])


def test_two_that_move_the_same_files_aside_do_not_meet(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    ingested(logs, found)
    for name in ("one", "two"):
        next(Path(found.lake).rglob("*-6003.parquet")).with_name(f"{name}.parquet").write_bytes(name.encode())
    moving = Store.move_aside

    def meanwhile(self: Store, name: str) -> None:
        monkeypatch.setattr(Store, "move_aside", moving)
        synced(found)
        moving(self, name)

    monkeypatch.setattr(Store, "move_aside", meanwhile)
    assert synced(found).left == []
    assert sorted(path.name for path in aside(found)) == ["one.parquet", "two.parquet"]


# -- killed -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("step", "some"),
    [
        ("written", ["moving aside", "moved aside"]),
        *(pytest.param(step, [], marks=pytest.mark.slow) for step in ("written", "kept")),
    ],
)
def test_a_sync_that_is_killed_at_a_step_is_done_once(
    step: str, some: list[str], tiny: str, logs: Path, settings: Make, mortals: CrashHarness, tmp_path: Path
) -> None:
    """At some steps, or at all that a sync comes to which nothing ends."""
    found = settings()
    order = found.model_dump(mode="json", exclude_defaults=True)
    assert mortals.do("ingest", order, str(logs), tiny, step=step) == "killed"
    shutil.rmtree(logs)
    shutil.copytree(found.lake, tmp_path / "died")

    def ended() -> tuple[object, ...]:
        is_sound(found)
        left = sorted(path.name for path in Path(found.lake).rglob("*.tmp"))
        return [rows(found, sql) for sql in (PLACES, ENTRIES, OBJECTS, BOOKS)], len(aside(found)), left

    times = Counter(mortals.steps("sync", order))
    assert {"moving aside", "moved aside", "renaming"} <= times.keys() or step == "kept"
    assert {"begun", "kept", "recorded", "committing"} <= times.keys() or step == "written"
    wanted = ended()
    for named in some or times:
        for nth in [times[named]] if some else sorted({1, times[named]}):
            shutil.rmtree(found.lake)
            shutil.copytree(tmp_path / "died", found.lake)
            at = f"killed at {named!r}, the {nth}. time"
            assert mortals.do("sync", order, step=named, nth=nth) == "killed", at
            seen = rows(found, PLACES)
            assert len(seen) == len(set(seen)), at
            synced(found)
            assert ended() == wanted, at


@pytest.mark.slow
@pytest.mark.parametrize("step", ["written", "kept"])
def test_an_ingest_that_meets_such_a_batch_and_is_killed_is_done_once(
    step: str, tiny: str, logs: Path, settings: Make, mortals: CrashHarness, tmp_path: Path
) -> None:
    """One of the objects is there still. What an attempt without the other has written may be moved aside as well."""
    found = settings()
    order = found.model_dump(mode="json", exclude_defaults=True)
    assert mortals.do("ingest", order, str(logs), tiny, step=step) == "killed"
    (logs / "0.json").unlink()
    shutil.copytree(found.lake, tmp_path / "died")

    def ended() -> tuple[list[object], set[bytes]]:
        is_sound(found)
        return [rows(found, sql) for sql in (PLACES, ENTRIES, BOOKS)], {path.read_bytes() for path in aside(found)}

    times = Counter(mortals.steps("ingest", order, str(logs), tiny))
    wanted, moved = ended()
    assert len(moved) == (2 if step == "written" else 0)
    for named, nth in times.items():
        shutil.rmtree(found.lake)
        shutil.copytree(tmp_path / "died", found.lake)
        at = f"killed at {named!r}, the {nth}. time"
        assert mortals.do("ingest", order, str(logs), tiny, step=named, nth=nth) == "killed", at
        seen = rows(found, PLACES)
        assert len(seen) == len(set(seen)), at
        ingested(logs, found)
        found_now, aside_now = ended()
        assert (found_now, moved - aside_now) == (wanted, set()), at


def test_check_says_which_command_ends_it(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    dead(logs, found, "written", monkeypatch)
    asked = ["--lake", found.lake]
    checked = CliRunner().invoke(app, ["catalog", "check", *asked])
    assert checked.exit_code == 1
    assert "no run does it again" in checked.output.replace("\n", " ")
    assert "`ocsf-lake catalog sync` repairs what can be repaired" in checked.output
    done = CliRunner().invoke(app, ["catalog", "sync", *asked])
    assert (done.exit_code, "whose raw objects are gone" in done.output) == (0, True)
    assert CliRunner().invoke(app, ["catalog", "check", *asked]).exit_code == 0


# -- what an attempt may not know -------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", often(["written", "kept"], ["written"]))
def test_rows_of_an_object_that_is_closed_to_us_are_not_written_over(
    step: str, tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 answers so for objects that are gone, where we may not list the bucket."""
    found = settings()
    with killed_at(step, monkeypatch):
        ingested(logs, found)
    with closed("0.json", monkeypatch):
        summary = ingested(logs, found)
    is_sound(found)
    if step == "kept":
        assert (summary.counts.events, summary.not_read, aside(found)) == (6, [], [])
        return
    (reason,) = [item.reason for item in summary.not_read]
    assert reason.startswith("access denied")
    assert (summary.counts.events, len(aside(found)), "8 rows in 2 files" in reason) == (3, 2, True)
    assert ingested(logs, found).counts.events == 3
    is_sound(found)


def test_what_a_later_attempt_has_written_of_an_object_that_was_closed_is_not_lost(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the former attempt does not have it."""
    found = settings()
    log(logs, 0, [{"at": "2025-03-12T09:00:00Z"}])
    with closed("0.json", monkeypatch), killed_at("kept", monkeypatch):
        ingested(logs, found)
    dead(logs, found, "written", monkeypatch)
    written = {path.read_bytes() for path in Path(found.lake).rglob("*.parquet")}
    assert len(written) == 3
    (said,) = synced(found).ended.values()
    assert "5 rows in 3 files" in said
    assert {path.read_bytes() for path in aside(found)} == written
    is_sound(found)


@contextmanager
def closed(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Objects of this name exist, perhaps, and are not given to us."""
    streamed = objects._streamed

    def denied(ref: objects.ObjectRef, access: Access) -> AbstractContextManager[BinaryIO]:
        if ref.uri.endswith(name):
            raise ObjectError("access denied", object=ref.uri)
        return streamed(ref, access)

    with monkeypatch.context() as patched:
        patched.setattr(objects, "_streamed", denied)
        yield
