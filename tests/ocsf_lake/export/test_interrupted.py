"""Exports that are interrupted, meet each other, or meet what else is done to a lake: each event is sent once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.export import run as export
from ocsf_lake.export import shipment
from ocsf_lake.ingest import batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger.exports import ShippedObject
from ocsf_lake.ledger.results import CountError
from ocsf_lake.query import query
from ocsf_lake.storage import fetched, ordered, transfer
from ocsf_lake.storage.fetched import LakeFileError
from ocsf_lake.upkeep import check, replay
from tests.ocsf_lake.conftest import BOUNDS, call, write
from tests.ocsf_lake.export.conftest import (
    API,
    NOON,
    REGION,
    Clock,
    Make,
    Send,
    die_at,
    downloaded,
    held_places,
    objects,
    sent_places,
)
from tests.ocsf_lake.killed import KilledError
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_replay import MENDED, mend  # noqa: F401 - a fixture
from tests.servers.postgres import Postgres
from tests.servers.rgw import S3Server
from tests.support import often

# -- interrupted ------------------------------------------------------------------------------------------------------
BOOKS = (
    "SELECT id, account, day, state, rows FROM ledger_export_shipments",
    "SELECT path, shipment_id, rows FROM ledger_export_files",
    "SELECT shipment_id, first_row, rows, bytes, sha256, written_at IS NULL FROM ledger_export_objects",
)


def books(settings: Settings) -> list[list[tuple[object, ...]]]:
    with query.connected(settings, *BOOKS) as connection:
        return [connection.sql(f"{sql} ORDER BY ALL").fetchall() for sql in BOOKS]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "nth"),
    often([("planned", 1), ("noted", 3), ("put", 1), ("shipped", 1)], [("noted", 3)]),
)
def test_an_interrupted_export_goes_on_with_the_same_objects(
    step: str, nth: int, filled: Make, tmp_path: Path, clock: Clock, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled(export_object_bytes=1, row_group_rows=15)
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at(step, nth))
        patched.setattr(export, "failpoint", die_at(step, nth))
        with pytest.raises(KilledError):
            send(found)
    before = {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in
              objects(tmp_path / "bucket").items()}  # fmt: skip
    # More arrives in the meantime: it does not get into what was planned.
    late = write(tmp_path / "late.json", json.dumps({"Records": [call(600), call(601, "012345678901")]}))
    ingest.ingest([str(late)], found, "aws_cloudtrail")
    send(found)
    clock.go(5)
    send(found)
    after = objects(tmp_path / "bucket")
    assert {name: (after[name].stat().st_ino, after[name].stat().st_mtime_ns) for name in before} == before
    assert sent_places(tmp_path / "bucket") == held_places(found)
    assert not list((tmp_path / "bucket").rglob(".*"))
    assert rows(found, "SELECT count(*) FROM ledger_export_objects WHERE written_at IS NULL") == [(0,)]
    assert send(found).objects == []


@pytest.mark.slow
def test_an_object_that_may_be_there_keeps_its_rows_whatever_a_size_comes_to_mean(
    filled: Make, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade that compresses better: the object that was put ends where it ended."""
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at("put"))
        with pytest.raises(KilledError):
            send(filled(export_object_bytes=1, row_group_rows=15))
    send(filled(compression_level=9))
    assert [path.name.split("-", 1)[1] for path in objects(tmp_path / "bucket").values()] == [
        "000000000000-000000015.parquet", "000000000015-000000025.parquet", "000000000000-000000040.parquet"
    ]  # fmt: skip
    assert sent_places(tmp_path / "bucket") == held_places(filled())
    sums = {path.name: fetched.sha256(path) for path in objects(tmp_path / "bucket").values()}
    assert {str(uri).rpartition("/")[2]: said for uri, said in rows(
        filled(), "SELECT uri, sha256 FROM ledger_export_objects")} == sums  # fmt: skip


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("step", ["noted", "put"])
def test_objects_on_s3_are_put_once(
    step: str, filled: Make, tmp_path: Path, s3_owner: S3Server, bucket: str, send: Send,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    puts: list[str] = []
    really = transfer._put

    def put(fs: Any, path: str, *given: Any, **condition: str) -> None:
        really(fs, path, *given, **condition)
        puts.append(path)

    monkeypatch.setattr(transfer, "_put", put)
    with monkeypatch.context() as patched:
        patched.setattr(shipment, "failpoint", die_at(step))
        with pytest.raises(KilledError):
            send(filled(), f"s3://{bucket}")
    send(filled(), f"s3://{bucket}")
    assert len(puts) == len(set(puts)) == 2
    downloaded(s3_owner, bucket, tmp_path / "bucket")
    assert sent_places(tmp_path / "bucket") == held_places(filled())


@pytest.mark.slow
def test_objects_that_do_not_have_all_rows_are_not_sent(
    filled: Make, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = ordered.Rows.group
    lossy = [True]

    def lose(self: Any, most: int | None) -> pa.Table:
        found = group(self, most)
        return found.slice(1) if lossy[0] and len(found) else found

    monkeypatch.setattr(ordered.Rows, "group", lose)
    with pytest.raises(CountError, match="have 40 rows and its objects 39"):
        send(filled())
    assert objects(tmp_path / "bucket") == {}
    lossy[0] = False
    send(filled())
    assert sent_places(tmp_path / "bucket") == held_places(filled())


# -- at once ----------------------------------------------------------------------------------------------------------
def test_of_two_exports_at_once_one_does_nothing(
    filled: Make, tmp_path: Path, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = filled()
    inside, go_on = threading.Event(), threading.Event()

    def wait(step: str, _: str) -> None:
        if step == "noted":
            inside.set()
            assert go_on.wait(60)

    monkeypatch.setattr(shipment, "failpoint", wait)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, found)
        assert inside.wait(60)
        second = send(found)
        go_on.set()
        assert (second.busy, second.objects) == (True, [])
        assert first.result().events == 80
    assert sent_places(tmp_path / "bucket") == held_places(found)


@pytest.mark.slow
@pytest.mark.integration
def test_two_hosts_that_export_at_once_send_each_event_once(
    logs: Path, postgres_server: Postgres, tmp_path: Path, send: Send
) -> None:
    found = config.load(
        lake=str(tmp_path / "lake"), ledger_url=postgres_server.database(), export_region=REGION, **BOUNDS
    )
    ingest.ingest([str(logs)], found)
    start = threading.Barrier(2)

    def host(_: int) -> int:
        start.wait()
        return send(found).events

    with ThreadPoolExecutor(2) as hosts:
        assert sum(hosts.map(host, range(2))) == 80
    assert sent_places(tmp_path / "bucket") == held_places(found)
    assert rows(found, "SELECT count(*) FROM ledger_export_shipments") == [(2,)]


def test_files_and_rows_are_planned_once_even_by_one_who_lost_the_lease(filled: Make) -> None:
    """What the lease is for is also held by the database."""
    with opened(filled()) as lake:
        found = lake.exports("file:///elsewhere/ext/calls")
        waiting = found.waiting("aws_cloudtrail", API)
        planned = found.plan("111122223333", "20250311", waiting[:2], NOON)
        with pytest.raises(batch.LostError, match="another export has planned"):
            found.plan("111122223333", "20250311", waiting[1:], NOON)
        assert len(found.open()) == 1
        assert found.waiting("aws_cloudtrail", API) == waiting[2:]
        for _ in range(2):
            found.begin(planned, ShippedObject("a", 0, 15, 100, "sum"))
        with pytest.raises(batch.LostError, match="another export is sending these rows"):
            found.begin(planned, ShippedObject("b", 0, 20, 100, "sum"))
        assert [item.uri for item in found.objects(planned)] == ["a"]


# -- what the lake does meanwhile -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_lost_file_keeps_back_its_partition_alone_until_it_is_made_again(
    filled: Make, send: Send, tmp_path: Path
) -> None:
    found = filled()
    (lost, *_) = sorted(Path(found.lake).glob("aws/CLOUD_TRAIL_MGMT/**/accountId=012345678901/**/*.parquet"))
    kept = lost.read_bytes()
    lost.unlink()
    for _ in range(2):
        with pytest.raises(LakeFileError, match="is gone; `ocsf-lake catalog sync`"):
            send(found)
        assert len(objects(tmp_path / "bucket")) == 1
    lost.write_bytes(kept[:-1] + b"x")
    with pytest.raises(LakeFileError, match="other bytes than were written"):
        send(found)
    with opened(found) as lake:
        check.sync(lake, deep=True)
    assert send(found).events == 40
    assert sent_places(tmp_path / "bucket") == held_places(found)


@pytest.mark.slow
def test_a_file_made_again_after_it_was_sent_is_not_sent_again(
    filled: Make, send: Send, tmp_path: Path, clock: Clock
) -> None:
    found = filled()
    send(found)
    for path in sorted(Path(found.lake).glob("aws/CLOUD_TRAIL_MGMT/**/*.parquet")):
        path.unlink()
    with opened(found) as lake:
        assert check.sync(lake).rebuilt
    clock.go(10)
    assert send(found).objects == []
    assert sent_places(tmp_path / "bucket") == held_places(found)


@pytest.mark.slow
def test_replayed_events_are_sent_and_what_is_in_quarantine_or_a_duplicate_is_not(
    settings: Make, send: Send, tmp_path: Path, clock: Clock, mend: Callable[[], None]  # noqa: F811 - a fixture
) -> None:
    found = settings(export_region=REGION, duplicates={"aws_cloudtrail": "mark"})
    records = [call(1), call(1), *MENDED[:2], {"eventName": "no time"}]
    write(tmp_path / "in" / "a.json", json.dumps({"Records": records}))
    ingest.ingest([str(tmp_path / "in")], found, "aws_cloudtrail")
    assert rows(found, "SELECT (SELECT count(*) FROM quarantine), (SELECT count(*) FROM duplicates)") == [(3, 1)]
    assert send(found).events == 2
    mend()
    assert replay.replay(found).closed == 2
    clock.go(10)
    assert send(found).events == 2
    assert sent_places(tmp_path / "bucket") == held_places(found)
    assert [number for _, number in sent_places(tmp_path / "bucket")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_batches_that_are_not_finished_are_not_sent(
    logs: Path, settings: Make, send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(export_region=REGION)
    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", die_at("registered", nth=2))
        with pytest.raises(KilledError):
            ingest.ingest([str(logs)], found)
    partly = send(found).events
    done = rows(found, "SELECT coalesce(sum(events), 0) FROM ledger_batches WHERE state = 'done' "
                "AND source = 'aws_cloudtrail'")  # fmt: skip
    assert [(partly,)] == done
    assert 0 < partly < 80
