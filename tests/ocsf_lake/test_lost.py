"""Lost files that something brings back: a sync, a remap, or whoever puts them in their place again."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ocsf_lake.catalogs.base import Kind
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import written_off
from ocsf_lake.ledger.tables import FILES, WRITTEN_OFF
from ocsf_lake.query import query
from ocsf_lake.storage import objects
from ocsf_lake.storage.store import Store
from ocsf_lake.upkeep import (
    check,
    compact,
    lost,
    remap,
    returned,
)
from ocsf_lake.upkeep.lost import Way
from ocsf_mappers import coalesce, col
from ocsf_mappers.errors import ReadError, RetriableError
from tests.ocsf_lake.compacting import EACH, PLACES, TABLE, Make, die_at, files, ledger, take
from tests.ocsf_lake.conftest import ON_BOTH, write
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.losing import ACCOUNT, done_without, listed, made_anew, synced
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_object_lock import Locked, locked  # noqa: F401 - a fixture
from tests.ocsf_lake.test_remap import DAY, is_sound, mapper  # noqa: F401 - a fixture
from tests.ocsf_lake.test_remap import log as tiny_log
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture


# -- what can be brought back -----------------------------------------------------------------------------------------
def test_what_a_sync_makes_again_is_not_written_off(settings: Make, tmp_path: Path) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    (path,) = files(found)
    path.unlink()
    done = done_without(found)
    assert ([part.way for part in done.left], done.parts) == ([Way.SYNC], [])
    assert done.ways == ["`ocsf-lake catalog sync` rebuilds 1 lost file"]
    assert synced(found).left == []
    assert len(rows(found, PLACES)) == EACH


@pytest.mark.slow
@pytest.mark.integration
def test_a_file_that_s3_keeps_as_a_version_is_put_back(locked: Locked) -> None:  # noqa: F811
    """The mistaken deletion of a bucket with versions, which hides the file."""
    found = locked.take(0)
    shutil.rmtree(locked.tmp_path / "logs")
    (key,) = [key for key in locked.keys("aws") if key.endswith("-6003.parquet")]
    locked.client.delete_object(Bucket=locked.bucket, Key=key)
    with pytest.raises(ReadError, match="a file of the lake is gone"):
        rows(found, PLACES)
    done = done_without(found)
    assert ([part.way for part in done.left], done.parts) == ([Way.SYNC], [])
    assert (repair := synced(found)).left == repair.refused == []
    assert len(rows(found, PLACES)) == EACH
    is_sound(found)


def test_a_store_that_does_not_answer_has_lost_nothing(
    settings: Make, tmp_path: Path, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    with monkeypatch.context() as patched:
        for name in ("size", "sizes"):
            patched.setattr(Store, name, lambda *_: (_ for _ in ()).throw(RetriableError("no answer")))
        with pytest.raises(RetriableError):
            done_without(found)
    assert ledger(found, WRITTEN_OFF) == []


def test_what_comes_back_before_it_is_done_is_not_written_off(
    settings: Make, tmp_path: Path, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    (path,) = files(found)
    data = path.read_bytes()
    path.unlink()
    judged = lost.Judge.judged

    def put_back(*given: Any) -> Any:
        found_lost = judged(*given)
        path.write_bytes(data)
        return found_lost

    monkeypatch.setattr(lost.Judge, "judged", put_back)
    assert done_without(found).parts == []
    assert len(rows(found, PLACES)) == EACH


def test_raw_objects_out_of_reach_may_be_there(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    (path,) = files(found)
    path.unlink()

    def denied(ref: objects.ObjectRef, _: object) -> None:
        raise objects.ObjectError("access denied", object=ref.uri)

    monkeypatch.setattr(objects, "opened", denied)
    done = done_without(found)
    assert ([part.way for part in done.left], done.parts) == ([Way.MEND_FIRST], [])
    assert "access denied (object file://" in done.ways[0]
    (part,) = done_without(found, all_of_them=True).parts
    assert "access denied" in part.why
    assert rows(found, PLACES) == []
    is_sound(found)


@pytest.fixture
def tiny_lake(tiny: str, settings: Make, tmp_path: Path) -> Settings:
    """Three objects, each a batch of its own: two of one day."""
    found = settings()
    for number, day in enumerate([11, 11, 12]):
        tiny_log(tmp_path, number, day)
        ingest.ingest([str(tmp_path / "logs")], found, tiny)
    return found


@pytest.mark.slow
def test_a_lost_file_of_a_mapper_that_has_changed_is_made_anew_by_a_remap(
    tiny_lake: Settings, tmp_path: Path, mapper: Any  # noqa: F811
) -> None:
    before = rows(tiny_lake, PLACES)
    files(tiny_lake)[0].unlink()
    mapper(actor__user__name=col.account)
    way = f"`ocsf-lake backfill tiny file://{tmp_path}/logs --from 2025-03-11 --to 2025-03-11 --account {ACCOUNT} "
    (refused,) = synced(tiny_lake).refused
    assert way in refused
    done = done_without(tiny_lake)
    assert ([part.way for part in done.left], done.parts) == ([Way.REMAP], [])
    assert way in done.ways[0]
    summary = remap.remap(tiny_lake, remap.Chosen("tiny", DAY, DAY, below=f"file://{tmp_path}/logs"))
    assert (summary.rows, summary.refused) == (8, {})
    assert rows(tiny_lake, PLACES) == before
    is_sound(tiny_lake)
    made_anew(tiny_lake)
    assert rows(tiny_lake, PLACES) == before
    # What was mapped once more can be lost too; and again when the mapper has changed again.
    [path.unlink() for path in files(tiny_lake) if "g0001" in path.parts]
    assert (repair := synced(tiny_lake)).left == repair.refused == []
    [path.unlink() for path in files(tiny_lake) if "g0001" in path.parts]
    mapper(actor__user__name=col.id)
    assert remap.remap(tiny_lake, remap.Chosen("tiny", DAY, DAY)).refused == {}
    assert rows(tiny_lake, PLACES) == before
    is_sound(tiny_lake)


def test_objects_of_many_days_are_not_mapped_for_each_of_them(
    tiny: str, settings: Make, tmp_path: Path, mapper: Any, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    found = settings(batch_objects=5)
    for number in range(5):
        tiny_log(tmp_path, number, 11 + number)
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    for path in files(found):
        path.unlink()
    mapper(actor__user__name=col.account)
    mapped: list[str] = []
    together: list[int] = []
    pieces, map_all = remap.Source.pieces, remap.Router.map

    def counted(source: Any, ref: Any) -> Any:
        mapped.append(ref.uri)
        return pieces(source, ref)

    monkeypatch.setattr(remap.Source, "pieces", counted)
    monkeypatch.setattr(remap.Router, "map", lambda self, parts: [together.append(len(parts)), map_all(self, parts)][1])
    assert [part.way for part in listed(found).left] == [Way.REMAP] * 5
    assert (len(mapped), together) == (5 + 4, [5, 1, 1, 1, 1])
    mapped.clear()
    assert remap.remap(found, remap.Chosen("tiny", DAY, date(2025, 3, 15))).partitions == 5
    assert len(mapped) == 5 + 4
    assert len(rows(found, PLACES)) == 20


@pytest.mark.slow
def test_a_remap_takes_no_record_of_a_lost_file_that_was_none_of_its_events(
    tiny: str, settings: Make, tmp_path: Path, mapper: Any  # noqa: F811
) -> None:
    """One that was in quarantine then, and would be an event now."""
    found = settings()
    records = [{"id": f"{number}", "at": f"2025-03-11T09:0{number}:00Z", "account": ACCOUNT} for number in range(3)]
    records[1] = {"id": "1", "account": ACCOUNT, "late": "2025-03-11T10:00:00Z"}
    write(tmp_path / "logs" / "1.json", json.dumps({"Tiny": records}))
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    before = rows(found, PLACES)
    assert len(before) == 2
    files(found)[0].unlink()
    mapper(time=coalesce(col.at.iso8601(), col.late.iso8601()))
    assert remap.remap(found, remap.Chosen("tiny", DAY, DAY)).rows == 2
    assert rows(found, PLACES) == before
    is_sound(found)


@pytest.mark.slow
def test_what_a_remap_cannot_do_yet_is_not_written_off(
    tiny_lake: Settings, mapper: Any, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    files(tiny_lake)[0].unlink()
    mapper(actor__user__name=col.account)
    monkeypatch.setattr(compact, "refusal", lambda *_: "the tables are in S3 Tables")
    done = done_without(tiny_lake)
    assert ([part.way for part in done.left], done.parts) == ([Way.MEND_FIRST], [])
    assert "cannot be remapped: the tables are in S3 Tables: fix that" in done.ways[0]
    assert "cannot be remapped: the tables are in S3 Tables: fix that" in synced(tiny_lake).refused[0]
    assert len(done_without(tiny_lake, all_of_them=True).parts) == 1
    is_sound(tiny_lake)


@pytest.mark.slow
def test_a_lost_file_whose_own_objects_are_there_is_made_anew_though_others_of_its_batch_are_gone(
    tiny: str, settings: Make, tmp_path: Path
) -> None:
    """As where raw logs go day by day, and a backfill has read many days in a batch."""
    found = settings()
    for number, day in enumerate([11, 12]):
        tiny_log(tmp_path, number, day)
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    before = rows(found, PLACES)
    for path in files(found):
        path.unlink()
    (tmp_path / "logs" / "0.json").unlink()
    of_day_12, of_day_11 = sorted(listed(found).left + listed(found).parts, key=lambda part: part.way)
    assert (of_day_12.way, of_day_11.way) == (Way.REMAP, Way.WRITE_OFF)
    assert "0.json" in of_day_11.why
    assert any("--from 2025-03-12 --to 2025-03-12" in why for why in synced(found).refused)
    done_without(found)
    assert remap.remap(found, remap.Chosen("tiny", DAY, date(2025, 3, 12))).refused == {}
    assert rows(found, PLACES) == [place for place in before if place[0].endswith("1.json")]
    is_sound(found)


@pytest.mark.slow
def test_a_remap_takes_no_record_that_another_day_has(
    tiny: str, settings: Make, tmp_path: Path, mapper: Callable[..., None]  # noqa: F811
) -> None:
    """By today's mapper as many records come into the day as leave it, so that their number says nothing."""
    found = settings()
    days = [("2025-03-11T23:30:00Z", "2025-03-12T00:30:00Z"), ("2025-03-10T23:30:00Z", "2025-03-11T00:30:00Z")]
    records = [{"id": at, "at": at, "late": late, "account": ACCOUNT} for at, late in days]
    records.append({"id": "last", "at": "2025-03-11T09:00:00Z", "account": ACCOUNT})
    write(tmp_path / "logs" / "1.json", json.dumps({"Tiny": records}))
    ingest.ingest([str(tmp_path / "logs")], found, tiny)
    other = rows(found, f"{PLACES.partition(' ORDER')[0]} WHERE eventday = '20250310'")
    (path,) = [path for path in files(found) if "20250311" in path.parent.name]
    path.unlink()
    mapper(time=coalesce(col.late.iso8601(), col.at.iso8601()))
    (why,) = remap.remap(found, remap.Chosen("tiny", DAY, DAY)).refused.values()
    assert why == "1 events come out, and there were 2"
    assert rows(found, f"{PLACES.partition(' ORDER')[0]} WHERE eventday = '20250310'") == other


@pytest.mark.slow
def test_a_remap_that_cannot_know_what_was_lost_changes_nothing(
    tiny_lake: Settings, tmp_path: Path, mapper: Any  # noqa: F811
) -> None:
    lost_file = files(tiny_lake)[0]
    lost_file.unlink()
    mapper(actor__user__name=col.account)
    with opened(tiny_lake) as lake, lake.ledger.engine.begin() as connection:
        connection.execute(sa.update(FILES).where(FILES.c.path.contains(lost_file.name)).values(rows=3))
    summary = remap.remap(tiny_lake, remap.Chosen("tiny", DAY, DAY))
    assert [*summary.refused.values()] == ["8 events come out, and there were 7"]
    (part,) = done_without(tiny_lake).parts
    assert "its mapper has changed since" in part.why
    assert "cannot be remapped: 8 events come out" in part.why
    assert len(rows(tiny_lake, PLACES)) == 8
    is_sound(tiny_lake)


# -- files that are there again ---------------------------------------------------------------------------------------
@pytest.mark.slow
@ON_BOTH
@pytest.mark.parametrize("is_moved", [False, True])
def test_a_file_that_is_there_again_is_taken_back(is_moved: bool, settings: Make, tmp_path: Path) -> None:
    logs, found = tmp_path / "logs", settings()
    take(logs, found, 0, 1, 2)
    before, path = rows(found, PLACES), files(found)[0]
    data = path.read_bytes()
    path.unlink()
    shutil.rmtree(logs)
    done_without(found)
    if is_moved:
        compact.compact(found)
    path.write_bytes(data)
    with opened(found) as lake:
        (finding,) = check.check(lake)
    assert (finding.kind, finding.harmless) == (Kind.FILE_RETURNED, False)
    repair = synced(found)
    assert (repair.taken_back, repair.left, repair.moved) == ([str(path.relative_to(found.lake))], [], [])
    assert path.exists() is not is_moved
    assert rows(found, PLACES) == before
    assert query.lacking(found, f"FROM {TABLE}") == []
    is_sound(found)
    (row,) = ledger(found, WRITTEN_OFF)
    assert row["taken_back_at"]
    held = ledger(found, FILES)
    assert made_anew(found).missing == []
    assert (rows(found, PLACES), ledger(found, FILES)) == (before, held)
    is_sound(found)
    # It may be lost again.
    next(item for item in files(found) if item.name == path.name).unlink()
    done_without(found)
    assert len(rows(found, PLACES)) == 2 * EACH
    made_anew(found)
    assert len(rows(found, PLACES)) == 2 * EACH
    is_sound(found)


def test_a_file_that_was_exported_and_is_taken_back_is_not_exported_again(
    settings: Make, tmp_path: Path, raw_gone: None
) -> None:
    found = settings(export_region="eu-central-1")
    take(tmp_path / "logs", found, 0, 1, 2)
    given = (found, "aws_cloudtrail", str(tmp_path / "bucket"), "calls", "6003")
    later = {"clock": lambda: datetime.now(UTC) + timedelta(days=1)}
    assert export.export(*given, **later).events == 3 * EACH
    path = files(found)[0]
    data = path.read_bytes()
    path.unlink()
    done_without(found)
    compact.compact(found)
    path.write_bytes(data)
    assert synced(found).taken_back
    assert export.export(*given, **later).waiting == 0
    made_anew(found)
    assert export.export(*given, **later).waiting == 0


def test_a_file_is_taken_back_once(settings: Make, tmp_path: Path, raw_gone: None) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0, 1)
    path = files(found)[0]
    data = path.read_bytes()
    path.unlink()
    done_without(found)
    path.write_bytes(data)
    with opened(found) as lake:
        (finding,) = check.check(lake)
        given = (lake, finding.table, finding.item)
        assert returned.take_back(*given) is None
        assert returned.take_back(*given) == "another run has taken it back meanwhile"


@pytest.mark.slow
def test_a_write_off_that_came_to_nothing_leaves_nothing_to_take_back(
    settings: Make, tmp_path: Path, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died after its record, the file was put back, and its rows went into a merged file."""
    found = settings()
    take(tmp_path / "logs", found, 0, 1, 2)
    before, path = rows(found, PLACES), files(found)[0]
    data = path.read_bytes()
    path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(written_off, "failpoint", lambda step: die_at("recorded")(step, ""))
        with pytest.raises(KilledError):
            done_without(found)
    path.write_bytes(data)
    compact.compact(found)
    made_anew(found)
    assert query.lacking(found, f"FROM {TABLE}") == query.lacking(found, "FROM observables") == []
    compact.compact(found, clock=lambda: datetime.now(UTC) + timedelta(days=30))
    path.write_bytes(data)
    assert synced(found).taken_back == []
    assert rows(found, PLACES) == before


def test_another_file_in_its_place_is_moved_aside(settings: Make, tmp_path: Path, raw_gone: None) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0)
    (path,) = files(found)
    data = path.read_bytes()
    path.unlink()
    done_without(found)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    repair = synced(found)
    assert (repair.taken_back, repair.moved) == ([], [str(path.relative_to(found.lake))])
    assert rows(found, PLACES) == []


@pytest.mark.slow
@ON_BOTH
@pytest.mark.parametrize("step", ["noted", "taken back"])
def test_a_return_that_dies_is_finished_by_the_next_sync(
    step: str, settings: Make, tmp_path: Path, raw_gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    take(tmp_path / "logs", found, 0, 1, 2)
    before, path = rows(found, PLACES), files(found)[0]
    data = path.read_bytes()
    path.unlink()
    done_without(found)
    compact.compact(found)
    path.write_bytes(data)
    with monkeypatch.context() as patched, pytest.raises(KilledError):  # noqa: PT012 - either may die
        patched.setattr(written_off, "failpoint", lambda now: die_at(step)(now, ""))
        synced(found)
    synced(found)
    assert rows(found, PLACES) == before
    # What was left in the old folder is none of the lake's files.
    assert not path.exists()
    is_sound(found)
    made_anew(found)
    assert rows(found, PLACES) == before
