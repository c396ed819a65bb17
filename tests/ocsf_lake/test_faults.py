"""What goes wrong for real: killed, crowded, throttled, full. The lake ends as if nothing had."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import backfill, batch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from ocsf_lake.ledger import marker
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import retry
from ocsf_mappers.errors import RetriableError, WriteError
from tests.ocsf_lake import faulty
from tests.ocsf_lake.conftest import BOUNDS, call, contents, write
from tests.ocsf_lake.mortal import CrashHarness
from tests.ocsf_lake.test_ingest import rows
from tests.support import often

Make = Callable[..., Settings]
EVERYTHING = "SELECT id, state, read, events, quarantined, dropped FROM ledger_batches ORDER BY id"
LEDGER = {
    "batches": ["id", "state", "objects", "bytes_in", "read", "events", "quarantined", "dropped", "bytes_out"],
    "objects": ["uri", "etag", "batch_id", "state", "read", "events", "quarantined", "dropped"],
    "files": ["path", "batch_id", "partition", "rows", "bytes", "sha256"],
}
"""What the ledger says of the logs, and not of when and by whom they were read."""


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; none is made."""
    pauses: list[float] = []
    monkeypatch.setattr(retry, "sleep", pauses.append)
    return pauses


# -- killed -----------------------------------------------------------------------------------------------------------
def _is_same(lake: Path, other: Path) -> None:
    """Files, catalog and ledger are those of another lake."""
    assert contents(lake) == contents(other)
    mine, theirs = config.load(lake=str(lake)), config.load(lake=str(other))
    with opened(mine) as one, opened(theirs) as two:
        for table in ("cloud_trail_mgmt", "vpc_flow", "quarantine"):
            assert one.files.paths(table) == two.files.paths(table)
            assert one.files.partitions(table) == two.files.partitions(table)
        for name, columns in LEDGER.items():
            assert one.ledger.arrow(name).select(columns) == two.ledger.arrow(name).select(columns)
    shutil.rmtree(lake)


def _is_whole(lake: Path, whole: Path) -> None:
    mine = config.load(lake=str(lake))
    assert rows(mine, "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(80, 80)]
    assert rows(mine, "SELECT count(*) FROM vpc_flow") == [(60,)]
    _is_same(lake, whole)


@pytest.mark.slow
def test_a_worker_killed_amid_a_batch_leaves_it_to_another(
    mortals: CrashHarness, logs: Path, whole: Path, tmp_path: Path
) -> None:
    settings = {"lake": str(tmp_path / "lake"), **BOUNDS}
    planned = ingest.plan([str(logs)], config.load(**settings))
    assert mortals.ingest(logs, settings, step="half a file", nth=2) == "killed"
    assert ingest.work(planned.batch_ids, config.load(**settings)).busy == 0
    again = "SELECT count(*) FROM ledger_batches WHERE attempts = 2 AND state = 'done'"
    assert rows(config.load(**settings), again) == [(1,)]
    ingest.ingest([str(logs)], config.load(**settings))
    _is_whole(tmp_path / "lake", whole)


def test_a_file_that_may_not_grow_stops_the_run(mortals: CrashHarness, logs: Path, whole: Path, tmp_path: Path) -> None:
    settings = {"lake": str(tmp_path / "lake"), **BOUNDS}
    ingest.plan([str(logs)], config.load(**settings))
    smallest = min(len(data) for data in contents(whole).values())
    assert mortals.ingest(logs, settings, file_bytes=smallest - 1) == "WriteError"
    assert not [name for name in contents(tmp_path / "lake") if name.endswith(".parquet")]
    assert mortals.ingest(logs, settings) == "done"
    _is_whole(tmp_path / "lake", whole)


# -- crowded ----------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_two_ingests_at_once(mortals: CrashHarness, logs: Path, whole: Path, tmp_path: Path) -> None:
    settings = {"lake": str(tmp_path / "lake"), **BOUNDS}
    other = CrashHarness.born()
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda each: each.ingest(logs, settings), [mortals, other]))
    other.end()
    assert ended == ["done", "done"]
    assert rows(config.load(**settings), "SELECT max(attempts) FROM ledger_batches") == [(1,)]
    _is_whole(tmp_path / "lake", whole)


@pytest.mark.slow
def test_a_backfill_over_days_that_a_live_run_has_planned(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live run has planned its batches, in other groups than a backfill makes, and does them amid the backfill."""
    day = date(2025, 3, 11)
    live = ingest.plan([str(logs)], settings(batch_objects=3), "aws_cloudtrail").batch_ids
    done: list[int] = []

    def work_meanwhile(step: str, _: str) -> None:
        if step == "begun" and not done:
            done.append(0)
            done.append(ingest.work(live, settings(batch_objects=3)).counts.events)

    monkeypatch.setattr(batch, "failpoint", work_meanwhile)
    events = sum(
        backfill.backfill(source, str(logs), day, day, settings()).counts.events
        for source in ("aws_cloudtrail", "aws_vpc_flow")
    )
    assert events + sum(done) == 140
    assert rows(settings(), "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(80, 80)]
    assert rows(settings(), "SELECT count(*) FROM vpc_flow") == [(60,)]
    assert rows(settings(), "SELECT max(n) FROM (SELECT count(*) AS n FROM ledger_objects GROUP BY uri)") == [(1,)]


# -- objects that change ----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_an_object_replaced_before_it_was_read_counts_once(tmp_path: Path, settings: Make) -> None:
    path = write(tmp_path / "own.json", json.dumps(call(3)))
    planned = ingest.plan([str(path)], settings())
    write(path, json.dumps({"Records": [call(4), call(5)]}))
    summary = ingest.work(planned.batch_ids, settings())
    assert [item.state for item in summary.not_read] == [State.FAILED]
    assert "changed since" in summary.not_read[0].reason
    assert ingest.ingest([str(path)], settings()).counts.events == 2
    assert rows(settings(), "SELECT state, events FROM ledger_objects ORDER BY ALL") == [("done", 2), ("replaced", 0)]
    assert rows(settings(), "SELECT count(*) FROM cloud_trail_mgmt") == [(2,)]
    assert ingest.ingest([str(path)], settings()).counts.read == 0


@pytest.mark.slow
def test_an_object_replaced_after_it_was_read_keeps_both_contents(tmp_path: Path, settings: Make) -> None:
    path = write(tmp_path / "own.json", json.dumps(call(3)))
    ingest.ingest([str(path)], settings())
    write(path, json.dumps(call(4)))
    ingest.ingest([str(path)], settings())
    assert rows(settings(), "SELECT count(*), count(DISTINCT source_etag) FROM cloud_trail_mgmt") == [(2, 2)]
    assert rows(settings(), "SELECT state, count(*) FROM ledger_objects GROUP BY ALL") == [("done", 2)]


# -- stores that fail -------------------------------------------------------------------------------------------------
@pytest.fixture
def in_store(logs: Path) -> Iterator[str]:
    """The logs in a store that can fail."""
    fs = faulty.FaultyFileSystem()
    for path in sorted(logs.rglob("*")):
        if path.is_file():
            fs.pipe_file(f"/logs/{path.relative_to(logs).as_posix()}", path.read_bytes())
    yield "faulty://logs"
    faulty.FaultyFileSystem.store.clear()
    faulty.FaultyFileSystem.pseudo_dirs[:] = [""]


def _there(tmp_path: Path, name: str, **more: object) -> Settings:
    return config.load(**{"lake": f"faulty://{name}", "state": tmp_path / name, **BOUNDS, **more})


@pytest.mark.slow
@pytest.mark.parametrize("seed", often(range(3), [0]))
def test_every_fifth_call_may_fail(seed: int, in_store: str, tmp_path: Path, no_sleep: list[float]) -> None:
    assert ingest.ingest([in_store], _there(tmp_path, "calm")).counts.events == 140
    with faulty.failing(0.2, seed) as faults:
        summary = ingest.ingest([in_store], _there(tmp_path, "rough"))
    assert summary.counts.events == 140
    assert not [item for item in summary.not_read if item.state is State.FAILED]
    assert len(faults) == 5
    assert sum(faults.values()) <= len(no_sleep) + faults["cut short"]
    assert faulty.stored("rough") == faulty.stored("calm")
    assert rows(_there(tmp_path, "rough"), EVERYTHING) == rows(_there(tmp_path, "calm"), EVERYTHING)


@pytest.mark.slow
def test_a_store_that_stays_away_ends_the_run_for_now(
    in_store: str, tmp_path: Path, no_sleep: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = _there(tmp_path, "lake")
    planned = ingest.plan([in_store], there)
    with faulty.failing(1.0, 0), pytest.raises(RetriableError, match="given up after"):
        ingest.work(planned.batch_ids, there)  # whose lake it is cannot be read
    with faulty.failing(1.0, 0), monkeypatch.context() as patched:
        patched.setattr(marker, "check", lambda *_: marker.Marker("it", "is", "known"))  # it goes away after that
        failures = ingest.work(planned.batch_ids, there).failures
    assert len(failures) == len(planned.batch_ids)
    assert all(failure.may_pass and "given up after" in failure.reason for failure in failures)
    assert rows(there, "SELECT DISTINCT failures FROM ledger_batches") == [(0,)]
    assert max(no_sleep) <= retry.MOST_SECONDS
    assert faulty.stored("lake") == {}
    assert ingest.work(planned.batch_ids, there).counts.events == 140


@pytest.mark.slow
def test_a_full_disk_stops_the_run(in_store: str, tmp_path: Path, no_sleep: list[float]) -> None:
    ingest.ingest([in_store], _there(tmp_path, "calm"))
    there = _there(tmp_path, "lake")
    half = sum(map(len, faulty.stored("calm").values())) // 2
    with faulty.holding(half), pytest.raises(WriteError, match="No space left"):
        ingest.ingest([in_store], there)
    assert no_sleep == []
    assert 0 < len(faulty.stored("lake")) < len(faulty.stored("calm"))
    ingest.ingest([in_store], there)
    assert faulty.stored("lake") == faulty.stored("calm")


@pytest.mark.slow
def test_an_object_that_vanished_costs_itself_alone(in_store: str, tmp_path: Path, no_sleep: list[float]) -> None:
    there = _there(tmp_path, "lake")
    planned = ingest.plan([in_store], there)
    gone = next(path for path in sorted(faulty.FaultyFileSystem.store) if path.startswith("/logs/AWSLogs/0123"))
    kept = faulty.FaultyFileSystem.store.pop(gone)
    summary = ingest.work(planned.batch_ids, there)
    assert [(item.state, os.path.basename(item.uri)) for item in summary.not_read] == [  # noqa: PTH119 - a URI
        (State.FAILED, os.path.basename(gone))  # noqa: PTH119
    ]
    assert no_sleep == []
    assert summary.counts.events == 120
    faulty.FaultyFileSystem.store[gone] = kept
    assert ingest.ingest([in_store], there).counts.events == 20
