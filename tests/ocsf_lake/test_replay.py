"""Quarantine that can be worked with: replayed once, whatever interrupts it, and never emptied silently."""

import dataclasses
import gzip
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path

import pyarrow.compute as pc
import pytest

from ocsf_lake import config
from ocsf_lake.catalogs.base import Kind
from ocsf_lake.config import Settings
from ocsf_lake.ingest import batch, undo
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.parts import Piece, Source
from ocsf_lake.lake import opened
from ocsf_lake.ledger import marker, replays, results
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.orphans import Orphans
from ocsf_lake.ledger.results import Batch, State
from ocsf_lake.query import query
from ocsf_lake.storage.objects import ObjectRef
from ocsf_lake.upkeep import check as catalog_check
from ocsf_lake.upkeep import quarantine, replay
from ocsf_mappers import Delimited, Mapper, coalesce, col, registry
from ocsf_mappers.errors import RetriableError
from ocsf_mappers.readers.streams import Blocks
from tests.ocsf_lake.conftest import (
    BOUNDS,
    HEADER,
    OFTEN_SQLITE,
    ON_BOTH,
    Make,
    at_steps,
    call,
    cut_off_all,
    flow,
    look,
    on_either,
    write,
)
from tests.ocsf_lake.killed import KilledError, killed_at
from tests.ocsf_lake.test_database import OBJECTS_IN_ONE_TABLE
from tests.ocsf_lake.test_ingest import rows

TIMELESS = {name: value for name, value in call(9).items() if name != "eventTime"}
MENDED = [TIMELESS | {"apiVersion": "2025-03-11T09:00:00Z", "eventID": f"late-{number}"} for number in range(4)]
REPLAYED = "SELECT id FROM ledger_batches WHERE kind = 'replay'"
ACCOUNT = "111122223333"
LATE = [{"id": f"late-{number}", "account": ACCOUNT, "late": "2025-03-11T09:00:00Z"} for number in range(4)]
"""Records of `tiny` that a mended mapper maps."""
HOPELESS = {"id": "no time", "account": ACCOUNT, "at": "never"}


@cache
def mended_cloudtrail() -> Mapper:
    """A mapper of CloudTrail for which an event without a time takes that of `apiVersion`; one, compiled once."""
    mapper = registry.load("aws_cloudtrail")
    time = coalesce(col.eventTime.iso8601(), col.apiVersion.iso8601())
    events = [dataclasses.replace(event, fields=event.fields | {"time": time}) for event in mapper.events]
    return dataclasses.replace(mapper, events=events)


@pytest.fixture
def mend(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Puts `mended_cloudtrail` in the place of CloudTrail's mapper."""
    load, mapper = registry.load, mended_cloudtrail()
    return lambda: monkeypatch.setattr(registry, "load", lambda name: mapper if name == mapper.name else load(name))


@pytest.fixture
def mend_tiny(tiny: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Puts a mended mapper in the place of `tiny`'s."""
    return lambda: put_mended(monkeypatch)


def put_mended(patched: pytest.MonkeyPatch) -> None:
    from tiny_source import MENDED as MAPPER  # type: ignore[import-not-found]

    load = registry.load
    patched.setattr(registry, "load", lambda name: MAPPER if name == MAPPER.name else load(name))


@pytest.fixture
def logs_with_rejects(tiny: str, tmp_path: Path, settings: Make) -> Path:
    """Two ingested objects: four records that a mended mapper maps, two that none does, and good ones."""
    folder = tiny_logs(tmp_path / "bad")
    ingest.ingest([str(folder)], settings(), tiny)
    return folder


def tiny_logs(folder: Path) -> Path:
    """Writes the two objects."""
    write(folder / "one.json", json.dumps({"Tiny": [look(1), *LATE[:3], HOPELESS]}))
    write(folder / "two.json", json.dumps({"Tiny": [LATE[3], look(2), {"id": "no time either"}]}))
    return folder


def reject_logs(folder: Path) -> Path:
    """Writes two objects like them of CloudTrail."""
    write(folder / "one.json", json.dumps({"Records": [call(1), *MENDED[:3], {"eventName": "no time"}]}))
    write(folder / "two.json", json.dumps({"Records": [MENDED[3], call(2), {"eventName": "no time"}]}))
    return folder


@pytest.fixture(scope="module")
def rejects(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two objects, not ingested; do not change them."""
    return tiny_logs(tmp_path_factory.mktemp("rejects"))


@pytest.fixture(scope="module")
def uninterrupted(
    tiny: str, rejects: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[tuple[object, ...]]]:
    """The `books` of a lake of these objects whose quarantine was replayed without an interruption."""
    settings = config.load(**{**BOUNDS, "lake": str(tmp_path_factory.mktemp("uninterrupted") / "lake")})
    ingest.ingest([str(rejects)], settings, tiny)
    with pytest.MonkeyPatch.context() as patched:
        put_mended(patched)
        replay.replay(settings)
    return books(settings)


def books(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    """What a reader can see after it is all over."""
    said = {
        "events": "SELECT metadata.uid, source_object, source_record FROM cloud_trail_mgmt",
        "entries": "SELECT source_object, source_record, state, reason, tries FROM quarantine",
        "batches": "SELECT read, events, quarantined, dropped FROM ledger_batches",
        "objects": "SELECT uri, read, events, quarantined, dropped FROM ledger_objects",
        "meter": "SELECT day, sum(events), sum(quarantined) FROM ledger_meter GROUP BY ALL",
        "files": "SELECT path, sha256 FROM ledger_files",
    }
    with query.connected(settings, *said.values()) as connection:
        return {name: connection.sql(f"{sql} ORDER BY ALL").fetchall() for name, sql in said.items()}


def check(settings: Settings) -> None:
    """Whether all counts agree with what is in the tables."""
    counts = "sum(read) = sum(events) + sum(quarantined) + sum(dropped), sum(events), sum(quarantined)"
    asked = [
        "SELECT true, count(*), (SELECT count(*) FROM quarantine WHERE state = 'open') FROM cloud_trail_mgmt",
        f"SELECT {counts} FROM ledger_batches",
        f"SELECT {counts} FROM ledger_objects",
        "SELECT true, sum(events), sum(quarantined) FROM ledger_meter",
    ]
    with query.connected(settings, *asked) as connection:
        found = [connection.sql(sql).fetchall() for sql in asked]
    assert found == [found[0]] * len(asked)


@pytest.mark.slow
@ON_BOTH
def test_what_a_mended_mapper_maps_is_closed_and_the_rest_stays(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    check(settings())
    assert [item.records for item in listed(settings())] == [3, 2, 1]
    mend_tiny()
    summary = replay.replay(settings())
    assert (summary.closed, summary.open.total(), summary.untried) == (4, 2, 0)
    check(settings())
    uids = rows(settings(), "SELECT metadata.uid FROM cloud_trail_mgmt ORDER BY ALL")
    assert [uid for (uid,) in uids if str(uid).startswith("late")] == [f"late-{number}" for number in range(4)]
    assert [(item.records, item.first_record) for item in listed(settings())] == [(1, 3), (1, 5)]
    found = "SELECT state, tries, count(*) FROM quarantine GROUP BY ALL ORDER BY ALL"
    assert rows(settings(), found) == [("closed", 1, 4), ("open", 1, 2)]
    before = books(settings())
    again = replay.replay(settings())
    assert (again.closed, again.open.total(), again.untried) == (0, 0, 2)
    assert books(settings()) == before


def listed(settings: Settings) -> list[quarantine.Group]:
    with query.connected(settings, "FROM quarantine") as connection:
        return quarantine.listed(connection)


@pytest.mark.slow
def test_a_record_refused_again_has_its_new_reason(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    mend_tiny()
    assert replay.replay(settings(), reason="no such reason").closed == 0
    assert replay.replay(settings(), part="two.json").closed == 1
    version = "SELECT DISTINCT mapper_version FROM quarantine WHERE tries = 1 AND state = 'open'"
    ((once,),) = rows(settings(), version)
    assert replay.replay(settings(ocsf_version="1.5.0"), part="two.json").open.total() == 1
    ((twice,),) = rows(settings(), version.replace("1", "2", 1))
    assert once != twice
    of_two = "SELECT max(tries), count(*) FROM quarantine WHERE source_object LIKE '%two.json'"
    assert rows(settings(), of_two) == [(2, 2)]
    check(settings())


@pytest.mark.slow
@pytest.mark.integration
@at_steps("planned", "part", "registered", "recorded", often=("registered",))
@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)
def test_an_interrupted_replay_is_done_once(
    step: str, rejects: Path, uninterrupted: object, settings: Make, mend_tiny: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a ledger in PostgreSQL, before and amid the batch; `test_interrupted` kills a replay at each step."""
    ingest.ingest([str(rejects)], settings(), "tiny")
    mend_tiny()
    with killed_at(step, monkeypatch):
        replay.replay(settings())
    # Nobody sees an event whose entry is open, or an entry closed without its event.
    closed = "SELECT count(*) FROM quarantine WHERE state = 'closed'"
    late = "SELECT count(*) FROM cloud_trail_mgmt WHERE starts_with(metadata.uid, 'late')"
    assert rows(settings(), closed) == rows(settings(), late)
    replay.replay(settings())
    assert books(settings()) == uninterrupted
    check(settings())


AS_BEFORE = (
    "CREATE TABLE replays (batch_id TEXT PRIMARY KEY, source TEXT NOT NULL, state TEXT NOT NULL, "
    "entries BIGINT NOT NULL, closed BIGINT NOT NULL, planned_at TEXT NOT NULL, done_at TEXT, token TEXT)",
    "INSERT INTO replays SELECT id, source, state, 6, -quarantined, planned_at, done_at, 'x' FROM batches "
    "WHERE kind = 'replay'",
    "DELETE FROM batches WHERE kind = 'replay' AND state <> 'done'",
    "UPDATE batches SET reason = 'replay of records in quarantine' WHERE kind = 'replay'",
    *OBJECTS_IN_ONE_TABLE.split(";")[:-1],
)
"""Makes a ledger as the version before had it, which kept replays in a table of their own."""


@pytest.mark.slow
@on_either("planned", "part", "registered", "done")
def test_a_replay_that_an_earlier_version_was_killed_over_is_done_once(
    step: str, rejects: Path, uninterrupted: object, settings: Make, mend_tiny: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ingest.ingest([str(rejects)], settings(), "tiny")
    mend_tiny()
    with killed_at(step, monkeypatch):
        replay.replay(settings())
    with opened(settings()) as lake, lake.ledger.engine.begin() as connection:
        for statement in AS_BEFORE:
            connection.exec_driver_sql(statement)
    if settings().ledger_url is None:
        late = "SELECT count(*) FROM cloud_trail_mgmt WHERE starts_with(metadata.uid, 'late')"
        assert rows(settings(), late) == [(4 if step == "done" else 0,)]  # a reader changes no ledger
    assert ingest.ingest([str(rejects)], settings(), "tiny").counts.read == 0
    assert rows(settings(), "SELECT kind, state FROM ledger_batches ORDER BY ALL") == [
        ("ingest", "done"), ("replay", "done" if step == "done" else "planned")
    ]  # fmt: skip
    replay.replay(settings())
    assert books(settings()) == uninterrupted
    check(settings())
    with opened(settings()) as lake:
        assert catalog_check.check(lake) == []


@pytest.mark.slow
def test_who_lost_a_batch_removes_nothing_of_who_planned_it_again(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that was taken back, and planned and begun once more, is at its first attempt again: another one."""
    mend_tiny()
    begun: list[Batch] = []
    written: list[Path] = []

    def taken_over(failpoint: str, batch_id: str) -> None:
        if failpoint == "written" and not begun:
            written.extend(Path(settings().lake).rglob(f"{batch_id}-*.parquet"))
            with opened(settings()) as lake, lake.leases.held("ab" * 16) as lease:
                assert lease is not None
                (row,) = lake.ledger.arrow("batches").filter(pc.field("kind") == "replay").to_pylist()
                undo.unfinished_replays(lake, "tiny", lease)
                facts = (row["source"], row["mapper_version"], row["ocsf_version"])
                anew = Batch(batch_id, *facts, (), kind=results.Kind.REPLAY)
                lake.ledger.plan([anew])
                begun.append(lake.ledger.begin(anew))
                assert not any(path.exists() for path in written)
                for path in written:
                    path.write_bytes(b"of the other one")

    monkeypatch.setattr(batch, "failpoint", taken_over)
    with pytest.raises(LostError):
        replay.replay(settings())
    assert [found.attempts for found in begun] == [1]
    assert len(written) == 2
    assert all(path.exists() for path in written)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    ("step", "part"), [("planned", ""), ("part", ""), ("part", "two.json"), ("written", "two.json")]
)
def test_a_host_that_was_cut_off_cannot_finish_its_replay(
    step: str, part: str, rejects: Path, uninterrupted: dict[str, list[tuple[object, ...]]], shared: Make,
    mend_tiny: Callable[[], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It goes on after its connection was cut, while another host replays the same entries, or some of them.

    Both where there is a part of a file already; before that the one that is planned anew, after it the other.
    """
    ingest.ingest([str(rejects)], shared(), "tiny")
    mend_tiny()
    cut = False

    def cut_off(failpoint: str, _: str) -> None:
        nonlocal cut
        if failpoint == step and not cut:
            cut = True
            cut_off_all(shared())
            assert replay.replay(shared(), part=part).closed == (1 if part else 4)

    monkeypatch.setattr(batch, "failpoint", cut_off)
    with pytest.raises(LostError):
        replay.replay(shared())
    check(shared())
    replay.replay(shared())
    check(shared())
    events = "SELECT metadata.uid, source_object, source_record FROM cloud_trail_mgmt ORDER BY ALL"
    assert rows(shared(), events) == uninterrupted["events"]
    assert cut
    with opened(shared()) as lake:
        assert catalog_check.check(lake) == []


@pytest.mark.slow
@OFTEN_SQLITE
def test_a_replay_that_is_finished_after_all_is_not_taken_back(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    mend_tiny()
    replay.replay(settings())
    with opened(settings()) as lake, lake.leases.held("ab" * 16) as lease:
        assert lease is not None
        ((batch_id,),) = rows(settings(), REPLAYED)
        lake.ledger.plan([], instead_of=(str(batch_id), lambda _: pytest.fail("it was undone")))
        assert replays.unfinished(lake.ledger, "tiny") == []
        undo.unfinished_replays(lake, "tiny", lease)
    assert rows(settings(), "SELECT state FROM ledger_batches WHERE kind = 'replay'") == [("done",)]


@pytest.mark.slow
def test_the_files_of_a_replay_under_way_are_left_alone(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mend_tiny()

    def sync(failpoint: str, _: str) -> None:
        if failpoint == "written":
            with opened(settings()) as lake:
                repair = catalog_check.sync(lake)
                assert {finding.kind for finding in repair.left} == {Kind.FILE_UNFINISHED}

    monkeypatch.setattr(batch, "failpoint", sync)
    assert replay.replay(settings()).closed == 4
    check(settings())
    with opened(settings()) as lake:
        assert catalog_check.check(lake) == []


def test_a_lost_file_of_a_replay_is_made_again(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    mend_tiny()
    replay.replay(settings())
    before = books(settings())
    ((batch_id,),) = rows(settings(), REPLAYED)
    kept = {path: path.read_bytes() for path in Path(settings().lake).rglob(f"{batch_id}-*.parquet")}
    assert len(kept) > 1
    for path, data in kept.items():
        path.unlink()
        with opened(settings()) as lake:
            assert {item.kind for item in catalog_check.check(lake)} == {Kind.FILE_MISSING}
            repair = catalog_check.sync(lake)
        if "_quarantine_outcomes" in path.parts:
            assert "the file that says of which entries is gone" in repair.refused[0]
            path.write_bytes(data)
        else:
            assert (repair.refused, repair.left) == ([], [])
        assert {path: path.read_bytes() for path in kept} == kept
    assert books(settings()) == before


@pytest.mark.slow
def test_quarantine_is_not_purged_amid_a_replay(logs_with_rejects: Path, settings: Make) -> None:
    with opened(settings()) as lake, query.connected(settings(), "FROM quarantine") as connection:
        files = quarantine.purgeable(lake, connection, quarantine.older_than(timedelta(0)), closed=False)
        with replays.held(lake.leases, "tiny"), pytest.raises(RetriableError, match="a replay is working on"):
            quarantine.purge(lake, files)
    assert len(listed(settings())) == 3


@pytest.mark.slow
def test_an_object_that_is_gone_is_replayed_from_the_text_kept(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    endless = '{"Tiny": [' + json.dumps(look(50)) + ', {"id": "' + "y" * 2_000_000
    write(logs_with_rejects / "cut.json", endless)
    write(logs_with_rejects / "long.json", json.dumps({"Tiny": [{**LATE[0], "id": "late-" + "x" * 2_000_000}]}))
    assert ingest.ingest([str(logs_with_rejects)], settings(), "tiny").counts.quarantined == 2
    for path in logs_with_rejects.iterdir():
        path.unlink()
    mend_tiny()
    summary = replay.replay(settings(), again=True)
    assert summary.closed == 5
    # Of the text that is no record only the beginning was kept; the record of two megabytes was kept whole.
    assert summary.open[replay.GONE] == 1
    assert summary.open.total() == 3
    check(settings())


@pytest.mark.slow
def test_an_object_written_anew_is_not_the_object_of_the_entry(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    write(logs_with_rejects / "one.json", json.dumps({"Tiny": [look(number) for number in range(30, 40)]}))
    mend_tiny()
    assert replay.replay(settings()).closed == 4
    uids = rows(settings(), "SELECT metadata.uid FROM cloud_trail_mgmt WHERE starts_with(metadata.uid, 'late')")
    assert len(uids) == 4
    check(settings())


@pytest.mark.slow
def test_an_object_that_makes_the_reader_fail_keeps_its_entries_and_stops_no_other(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mend_tiny()
    pieces = Source.pieces

    def broken(self: Source, ref: ObjectRef) -> Iterator[Piece]:
        if ref.uri.endswith("one.json"):
            raise ZeroDivisionError("a defect")
        return pieces(self, ref)

    with monkeypatch.context() as patched:
        patched.setattr(Source, "pieces", broken)
        summary = replay.replay(settings())
    assert (summary.closed, summary.open.total()) == (1, 5)
    assert [number for reason, number in summary.open.items() if "a defect" in reason] == [4]
    check(settings())
    states = "SELECT DISTINCT state FROM ledger_objects"
    assert rows(settings(), states) == [("done",)]  # what it was when it was ingested
    assert replay.replay(settings(), again=True).closed == 3
    check(settings())


@pytest.mark.slow
def test_a_line_of_text_is_replayed_from_its_object_alone(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [HEADER, flow(1), flow(2).replace(" ACCEPT OK", ""), ""]
    path = write(tmp_path / "own.log", "\n".join(lines))
    ingest.ingest([str(path)], settings(), source="aws_vpc_flow")
    mapper = registry.load("aws_vpc_flow")
    lenient = dataclasses.replace(mapper, readers=[_Padded(TEXT.columns, TEXT.default)])
    monkeypatch.setattr(registry, "load", lambda name: lenient if name == "aws_vpc_flow" else mapper)
    monkeypatch.setattr(registry, "names", lambda: ["aws_vpc_flow"])
    path.rename(tmp_path / "elsewhere.log")
    assert replay.replay(settings(), again=True).open == {replay.GONE: 1}
    (tmp_path / "elsewhere.log").rename(path)
    assert replay.replay(settings(), again=True).open == {replay.OTHERWISE: 1}
    assert rows(settings(), "SELECT count(*) FROM vpc_flow") == [(1,)]


TEXT: Delimited = next(reader for reader in registry.load("aws_vpc_flow").readers if isinstance(reader, Delimited))


class _Padded(Delimited):
    """A reader that takes short lines, and so gives records another text than they had."""

    def read(self, blocks):  # type: ignore[no-untyped-def]  # a reader of the test alone
        text = b"".join(blocks).decode()
        width = len(text.splitlines()[0].split())
        lines = [line.split() for line in text.splitlines()]
        padded = "\n".join(" ".join([*words, *["-"] * (width - len(words))]) for words in lines)
        return super().read(Blocks(io.BytesIO(padded.encode())))


@pytest.mark.slow
def test_the_end_of_a_damaged_object_is_no_record_to_replay(settings: Make, tmp_path: Path) -> None:
    data = gzip.compress(json.dumps({"Records": [call(1), call(2)]}).encode(), mtime=0)
    path = tmp_path / "cut.json.gz"
    path.write_bytes(data[:-12])
    ingest.ingest([str(path)], settings(), source="aws_cloudtrail")
    assert replay.replay(settings(), again=True).damage == 1


@pytest.mark.slow
def test_purging_lists_first_and_keeps_what_is_open(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mend_tiny()
    replay.replay(settings(), part="one.json")

    def purgeable(days: int, *, closed: bool) -> list[quarantine.Purge]:
        with opened(settings()) as lake, query.connected(settings(), "FROM quarantine") as connection:
            return quarantine.purgeable(lake, connection, quarantine.older_than(timedelta(days=days)), closed=closed)

    assert purgeable(1, closed=False) == []
    assert purgeable(0, closed=True) == []
    (found,) = purgeable(0, closed=False)
    assert (found.entries, found.open) == (6, 3)
    with opened(settings()) as lake:
        with monkeypatch.context() as patched:
            patched.setattr(type(lake.store), "remove", lambda *_: (_ for _ in ()).throw(KilledError()))
            with pytest.raises(KilledError):
                quarantine.purge(lake, [found])
        again = purgeable(0, closed=False)
        assert [item.path for item in again] == [found.path]
        quarantine.purge(lake, again)
    assert rows(settings(), "SELECT count(*) FROM quarantine") == [(0,)]
    assert rows(settings(), "SELECT entries, open FROM ledger_purges") == [(6, 3)]
    assert not (Path(settings().lake) / found.path).exists()
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(5,)]
    assert purgeable(0, closed=False) == []


@pytest.mark.slow
def test_a_mended_object_takes_the_place_of_the_one_that_could_not_be_read(settings: Make, tmp_path: Path) -> None:
    path = write(tmp_path / "own.json", "this is no log")
    ingest.ingest([str(path)], settings())
    assert rows(settings(), "SELECT state FROM ledger_objects") == [("skipped",)]
    write(path, json.dumps(call(1)))
    ingest.ingest([str(path)], settings())
    assert rows(settings(), "SELECT state, events FROM ledger_objects ORDER BY ALL") == [
        (State.DONE, 1), (State.REPLACED, 0)
    ]  # fmt: skip


@pytest.mark.slow
def test_a_replay_keeps_its_record_when_an_attempt_at_it_noted_a_folder_too_late(
    logs_with_rejects: Path, settings: Make, mend_tiny: Callable[[], None]
) -> None:
    """Another one had done it by then."""
    mend_tiny()
    replay.replay(settings())
    ((replayed,),) = rows(settings(), REPLAYED)
    with opened(settings()) as lake, lake.ledger.engine.begin() as connection:
        Orphans.note_in(connection, str(replayed), ["ext"])
    ingest.ingest([str(logs_with_rejects)], settings(), "tiny")
    with opened(settings()) as lake:
        assert [name for name in lake.store.sizes(marker.RECORDS) if str(replayed) in name]
