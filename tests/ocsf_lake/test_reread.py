"""Objects read again as another source: only those without events, each record once, whatever interrupts it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch, reread
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import marker, records, replays
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.results import State
from ocsf_lake.ledger.tables import BATCHES
from ocsf_lake.query import query
from ocsf_lake.upkeep import check, quarantine, rebuild_ledger, replay, write_off
from ocsf_mappers import col, registry
from ocsf_mappers.errors import ReadError, RetriableError
from tests.ocsf_lake.compacting import PLACES
from tests.ocsf_lake.conftest import HEADER, ON_BOTH, Make, call, contents, cut_off_all, flow, on_either, write
from tests.ocsf_lake.killed import KilledError, killed_at
from tests.ocsf_lake.test_chain import faults
from tests.ocsf_lake.test_discovery import CONTROL
from tests.ocsf_lake.test_ingest import answers, rows
from tests.ocsf_lake.test_replay import LATE, put_mended
from tests.ocsf_lake.test_routing import is_sound

OBJECTS = "SELECT split_part(uri, '/', -1), source, state, read, events, quarantined FROM ledger_objects ORDER BY ALL"
ENTRIES = "SELECT source, split_part(source_object, '/', -1), source_record, state FROM quarantine ORDER BY ALL"


@pytest.fixture
def mistaken(tmp_path: Path, settings: Make) -> Path:
    """Three objects ingested as Resolver query logs: two of CloudTrail, and one with such a record and a bad one."""
    folder = tmp_path / "logs"
    query_log = {"query_timestamp": "2025-03-11T09:00:00Z", "query_name": "a.example.", "srcaddr": "10.0.0.1"}
    write(folder / "a.json", json.dumps({"Records": [call(1), call(2)]}))
    write(folder / "b.json", json.dumps({"Records": [call(3)]}))
    write(folder / "c.json", json.dumps(query_log) + "\n" + json.dumps({"query_name": "no time"}))
    ingest.ingest([str(folder)], settings(batch_objects=10), source="aws_route53_resolver")
    assert rows(settings(), OBJECTS) == [
        ("a.json", "aws_route53_resolver", "done", 1, 0, 1),
        ("b.json", "aws_route53_resolver", "done", 1, 0, 1),
        ("c.json", "aws_route53_resolver", "done", 2, 1, 1),
    ]
    return folder


def entries(settings: Settings) -> list[tuple[object, ...]]:
    return rows(settings, ENTRIES)


@pytest.mark.slow
@ON_BOTH
def test_objects_without_events_are_read_again_and_others_keep_theirs(mistaken: Path, settings: Make) -> None:
    summary = ingest.ingest([str(mistaken)], settings(), source="aws_cloudtrail")
    assert (summary.reread, summary.counts.events) == (2, 3)
    ((kept,),) = [summary.not_read]
    assert (Path(kept.uri).name, kept.state) == ("c.json", State.KEPT)
    assert "read as aws_route53_resolver before and one of its records is an event" in kept.reason
    assert rows(settings(), OBJECTS) == [
        ("a.json", "aws_cloudtrail", "done", 2, 2, 0),
        ("b.json", "aws_cloudtrail", "done", 1, 1, 0),
        ("c.json", "aws_route53_resolver", "done", 2, 1, 1),
    ]
    assert entries(settings()) == [("aws_route53_resolver", "c.json", 2, "open")]
    batches = "SELECT source, objects, read, events, quarantined FROM ledger_batches ORDER BY ALL"
    assert rows(settings(), batches) == [("aws_cloudtrail", 2, 3, 3, 0), ("aws_route53_resolver", 1, 2, 1, 1)]
    meter = "SELECT source, sum(events), sum(quarantined) FROM ledger_meter GROUP BY ALL ORDER BY ALL"
    assert rows(settings(), meter) == [("aws_cloudtrail", 3, 0), ("aws_route53_resolver", 1, 1)]
    is_sound(settings())
    before = contents(Path(settings().lake))
    again = ingest.ingest([str(mistaken)], settings(), source="aws_cloudtrail")
    assert (again.reread, again.known, again.counts.read) == (0, 2, 0)
    assert contents(Path(settings().lake)) == before


@pytest.mark.slow
@on_either("rewritten", "registered", "moved", "begun", "written", "done")
def test_an_interrupted_run_is_continued(
    step: str, mistaken: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(settings(), OBJECTS)
    with killed_at(step, monkeypatch):
        ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    if step in ("rewritten", "registered"):
        assert rows(settings(), OBJECTS) == before
    assert faults(settings()) == []
    ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(2,)]
    assert len(entries(settings())) == 2
    ingest.ingest([str(mistaken / "b.json")], settings(), source="aws_cloudtrail")
    assert entries(settings()) == [("aws_route53_resolver", "c.json", 2, "open")]
    is_sound(settings())


BOOKS = [
    OBJECTS,
    ENTRIES,
    "SELECT source, objects, read, events, quarantined FROM ledger_batches ORDER BY ALL",
    "SELECT source, sum(events), sum(quarantined) FROM ledger_meter GROUP BY ALL ORDER BY ALL",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.json", ""])
def test_a_ledger_made_again_has_objects_where_they_are(name: str, mistaken: Path, settings: Make) -> None:
    """Of the batch that they were in others are left; or none, as of that of `d.json`."""
    write(mistaken / "d.json", json.dumps({"Records": [call(4)]}))
    ingest.ingest([str(mistaken / "d.json")], settings(), source="aws_route53_resolver")
    ingest.ingest([str(mistaken / name)], settings(), source="aws_cloudtrail")
    before = answers(settings(), *BOOKS)
    summary = rebuild_ledger.rebuild(settings(), replacing=True)
    assert (summary.exact, summary.missing, summary.unknown) == (True, [], [])
    assert answers(settings(), *BOOKS) == before
    is_sound(settings())
    assert faults(settings()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.json", "d.json", ""])
@pytest.mark.parametrize("dies", [False, True])
def test_a_ledger_made_again_has_objects_of_batches_without_records_where_they_are(
    name: str, dies: bool, mistaken: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that are older than the records stand in a checkpoint alone; `d.json` is all of one."""
    write(mistaken / "d.json", json.dumps({"Records": [call(4)]}))
    ingest.ingest([str(mistaken / "d.json")], settings(), source="aws_route53_resolver")
    for folder in ("_lake", "_ledger"):
        shutil.rmtree(Path(settings().lake) / folder)
    rebuild_ledger.rebuild(settings())
    if dies:
        with monkeypatch.context() as patch:
            patch.setattr(records, "put_reduced", die)
            with pytest.raises(KilledError):
                ingest.ingest([str(mistaken / name)], settings(), source="aws_cloudtrail")
    ingest.ingest([str(mistaken / name)], settings(), source="aws_cloudtrail")
    before = answers(settings(), *BOOKS)
    for _ in range(2):
        summary = rebuild_ledger.rebuild(settings(), replacing=True)
        assert (summary.missing, summary.unknown) == ([], [])
        assert answers(settings(), *BOOKS) == before
    is_sound(settings())
    assert faults(settings()) == []


def test_an_object_that_left_a_batch_without_a_record_and_was_not_read_since_is_read(
    mistaken: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("_lake", "_ledger"):
        shutil.rmtree(Path(settings().lake) / folder)
    rebuild_ledger.rebuild(settings())
    with killed_at("begun", monkeypatch):
        ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    rebuild_ledger.rebuild(settings(), replacing=True)
    assert [name for name, *_ in rows(settings(), OBJECTS)] == ["b.json", "c.json"]
    assert ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail").counts.events == 2
    assert faults(settings()) == []


def die(*_: object) -> None:
    raise KilledError


@pytest.mark.slow
@pytest.mark.parametrize("step", ["moved", "begun"])
def test_an_interrupted_run_is_done_again_by_a_ledger_made_again(
    step: str, mistaken: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_at(step, monkeypatch):
        ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    rebuild_ledger.rebuild(settings(), replacing=True)
    with opened(settings()) as lake:
        check.sync(lake)
    ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(2,)]
    assert [place for _, *place, _ in entries(settings())] == [["b.json", 1], ["c.json", 2]]
    assert faults(settings()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.json", "no_records.json"])
def test_what_a_run_that_died_left_undone_is_in_the_record_when_the_next_one_has_begun(
    name: str, mistaken: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without files of quarantine that are written anew."""
    write(mistaken / "no_records.json", json.dumps({"Records": []}))
    write(mistaken / "one.json", json.dumps({"Records": [call(4)]}))
    others = [str(mistaken / other) for other in ("no_records.json", "one.json")]
    ingest.ingest(others, settings(batch_objects=10), source="aws_cloudtrail")
    other = "aws_cloudtrail" if name == "a.json" else "aws_route53_resolver"
    with monkeypatch.context() as patch:
        patch.setattr(records, "put_reduced", die)
        with pytest.raises(KilledError):
            ingest.ingest([str(mistaken / name)], settings(), source=other)
    ingest.ingest([str(mistaken / name)], settings(), source=other)
    assert faults(settings()) == []
    before = answers(settings(), *BOOKS)
    rebuild_ledger.rebuild(settings(), replacing=True)
    assert answers(settings(), *BOOKS) == before


@pytest.mark.slow
def test_records_of_batches_that_no_object_left_stay_as_they_are(mistaken: Path, settings: Make) -> None:
    """A replay has no objects of its own."""
    replay.replay(settings(), again=True)
    folder = Path(settings().lake) / marker.RECORDS
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with opened(settings()) as lake:
        with lake.ledger.engine.begin() as connection:
            for row in connection.execute(sa.select(BATCHES.c.id)).all():
                Orphans.note_in(connection, row.id, ["_quarantine"])
        reread.clean(lake)
    assert len(before) == 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert faults(settings()) == []


@pytest.mark.slow
def test_a_damaged_record_is_named_and_nothing_is_changed(mistaken: Path, settings: Make) -> None:
    (record,) = (Path(settings().lake) / "_lake/records").iterdir()
    data = record.read_bytes()
    record.write_bytes(data[:20] + bytes(40) + data[60:])
    before = answers(settings(), *BOOKS)
    with pytest.raises(ReadError, match=record.name):
        ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    assert answers(settings(), *BOOKS) == before
    record.write_bytes(data)
    assert ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail").counts.events == 2


@pytest.mark.slow
def test_an_object_may_be_mistaken_twice(mistaken: Path, settings: Make) -> None:
    for name in ("aws_guardduty", "aws_route53_resolver", "aws_guardduty", "aws_cloudtrail"):
        summary = ingest.ingest([str(mistaken / "a.json")], settings(), source=name)
        assert summary.reread == 1
        is_sound(settings())
    assert [entry for entry in entries(settings()) if entry[1] == "a.json"] == []
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(2,)]


@pytest.mark.parametrize("is_written_off", [False, True])
def test_what_is_lost_of_quarantine_is_not_read_again(
    is_written_off: bool, tiny: str, settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would know that it is an event if it came back."""
    from tiny_source import MENDED  # type: ignore[import-not-found]

    found, logs = settings(batch_objects=1), tmp_path / "logs"
    for name in ("one", "two"):
        record = {"id": name, "late": "2025-03-11T10:00:00Z", "account": "111122223333"}
        write(logs / f"{name}.json", json.dumps({"Tiny": [record]}))
        ingest.ingest([str(logs)], found, tiny)
    path, _ = Path(found.lake).glob("_quarantine/**/*.parquet")
    data = path.read_bytes()
    path.unlink()
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda name: MENDED if name == tiny else load(name))
    if is_written_off:
        write_off.write_off(found, None, "lost", "ann")
    summary = ingest.ingest([str(logs)], found, tiny)
    assert (summary.reread, summary.counts.events, [item.state for item in summary.not_read]) == (1, 1, [State.KEPT])
    assert "what quarantine has of its batch is lost: a file of the lake" in summary.not_read[0].reason
    path.write_bytes(data)
    with opened(found) as lake:
        check.sync(lake)
    assert [entry[3] for entry in entries(found)] == ["open"]
    assert ingest.ingest([str(logs)], found, tiny).reread == 1
    assert (len(rows(found, "FROM cloud_trail_mgmt")), entries(found)) == (2, [])


@pytest.mark.slow
def test_what_an_older_mapper_refused_is_read_again_as_the_same_source(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = call(1, eventTime="", apiVersion="2025-03-11T09:00:00Z")
    path = write(tmp_path / "x.json", json.dumps({"Records": [record]}))
    ingest.ingest([str(path)], settings())
    assert ingest.ingest([str(path)], settings(), source="aws_cloudtrail").reread == 0
    assert replay.replay(settings(), again=True).open.total() == 1
    load, mapper = registry.load, registry.load("aws_cloudtrail")
    time = {"time": col.apiVersion.iso8601()}
    events = [dataclasses.replace(event, fields=event.fields | time) for event in mapper.events]
    mended = dataclasses.replace(mapper, events=events)
    monkeypatch.setattr(registry, "load", lambda name: mended if name == mapper.name else load(name))
    assert ingest.ingest([str(path)], settings()).reread == 0
    summary = ingest.ingest([str(path)], settings(), source="aws_cloudtrail")
    assert (summary.reread, summary.counts.events) == (1, 1)
    assert entries(settings()) == []


def test_what_was_set_aside_without_a_source_can_be_read_as_one(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "control", CONTROL)
    assert ingest.ingest([str(path)], settings()).not_read[0].state is State.SET_ASIDE
    assert ingest.ingest([str(path)], settings()).known == 1
    summary = ingest.ingest([str(path)], settings(), source="aws_vpc_flow")
    assert (summary.reread, summary.counts.dropped) == (1, 1)
    is_sound(settings())


@pytest.mark.slow
def test_an_object_that_may_be_in_the_lake_as_a_duplicate_is_kept(settings: Make, tmp_path: Path) -> None:
    drop = settings(duplicates={"aws_cloudtrail": "drop"})
    for name in ("one.json", "two.json"):
        write(tmp_path / "logs" / name, json.dumps({"Records": [call(1)]}))
        ingest.ingest([str(tmp_path / "logs")], drop)
    summary = ingest.ingest([str(tmp_path / "logs" / "two.json")], drop, source="aws_guardduty")
    assert [(item.state, summary.reread) for item in summary.not_read] == [(State.KEPT, 0)]
    assert "may have its records from elsewhere" in summary.not_read[0].reason


@pytest.mark.slow
def test_a_replay_that_is_going_on_is_waited_for(mistaken: Path, settings: Make) -> None:
    refused = pytest.raises(RetriableError, match="replay or purge")
    with opened(settings()) as lake, replays.held(lake.leases, "aws_route53_resolver"), refused:
        ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail")
    assert ingest.ingest([str(mistaken / "a.json")], settings(), source="aws_cloudtrail").reread == 1


def test_what_a_replay_has_made_events_of_meanwhile_is_not_read_again(
    tmp_path: Path, tiny: str, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended between the look at an object, of which no record was an event, and the hold on its quarantine."""
    folder = tmp_path / "refused"
    write(folder / "all.json", json.dumps({"Tiny": list(LATE)}))
    ingest.ingest([str(folder)], settings(), tiny)
    put_mended(monkeypatch)
    move = reread.move

    def after_a_replay(*args: Any) -> list[str]:
        replay.replay(settings())
        return move(*args)

    monkeypatch.setattr(reread, "move", after_a_replay)
    with pytest.raises(RetriableError, match="a replay has made events of the object's records meanwhile"):
        ingest.ingest([str(folder)], settings(), tiny)
    monkeypatch.setattr(reread, "move", move)
    assert ingest.ingest([str(folder)], settings(), tiny).reread == 0
    places = rows(settings(), PLACES)
    assert len(places) == len(set(places)) == len(LATE)
    is_sound(settings())


@pytest.mark.integration
def test_who_has_lost_its_hold_on_a_batch_takes_no_object_out_of_it(
    tmp_path: Path, tiny: str, shared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shared()
    write(tmp_path / "refused" / "all.json", json.dumps({"Tiny": list(LATE)}))
    ingest.ingest([str(tmp_path / "refused")], found, tiny)
    before = rows(found, OBJECTS)
    put_mended(monkeypatch)

    def cut_off(step: str, _: str) -> None:
        if step == "rewritten":
            cut_off_all(found)

    monkeypatch.setattr(batch, "failpoint", cut_off)
    with pytest.raises(LostError):
        ingest.ingest([str(tmp_path / "refused")], found, tiny)
    assert rows(found, OBJECTS) == before
    assert len(rows(found, "SELECT id FROM ledger_batches")) == 1


@pytest.mark.slow
def test_a_source_named_for_a_folder_says_which_objects_stay(settings: Make, tmp_path: Path) -> None:
    write(tmp_path / "logs" / "f.log", "\n".join([HEADER, flow(1), flow(2)]))
    ingest.ingest([str(tmp_path / "logs")], settings())
    before = contents(Path(settings().lake))
    summary = ingest.ingest([str(tmp_path / "logs")], settings(), source="aws_cloudtrail")
    assert [item.reason for item in summary.not_read] == [
        "it was read as aws_vpc_flow before and 2 of its records are events of the lake; nothing was changed"
    ]
    assert contents(Path(settings().lake)) == before
    with query.connected(settings(), "FROM quarantine") as connection:
        assert quarantine.listed(connection) == []
