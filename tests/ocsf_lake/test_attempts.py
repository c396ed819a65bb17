"""What fails is tried a few times, alone and after everything else; then it is left out, and still named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import attempts, batch, parts, plan
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.parts import Piece, UnreadableError
from ocsf_lake.ledger import ledger
from ocsf_lake.ledger.ledger import Tries
from ocsf_lake.ledger.results import State
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_mappers.errors import RetriableError
from tests.ocsf_lake.conftest import ON_BOTH, write
from tests.ocsf_lake.mortal import CrashHarness
from tests.ocsf_lake.test_ingest import rows

Make = Callable[..., Settings]
TINY = "tiny"
pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Thirty objects of one record each; one of them is called `killer.json`."""
    return _written(tmp_path / "in", 30)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Five of them."""
    return _written(tmp_path / "in", 5)


def _written(folder: Path, objects: int) -> Path:
    for number in range(objects):
        name = "killer.json" if number == objects // 2 else f"{number:02}.json"
        record = {"id": str(number), "at": f"2025-03-11T09:{number:02}:00Z", "account": "111122223333"}
        write(folder / name, json.dumps({"Tiny": [record]}))
    return folder


def names(found: ingest.Summary) -> list[str]:
    return [Path(item.uri).name for item in found.not_read]


@pytest.mark.slow
# -- what ends the process --------------------------------------------------------------------------------------------
def test_an_object_that_ends_the_process_costs_a_few_runs_and_itself(
    mortals: CrashHarness, logs: Path, tmp_path: Path
) -> None:
    bounds = {"lake": str(tmp_path / "lake"), "batch_objects": 100}
    ended = [mortals.ingest(logs, bounds, TINY, reading="killer.json")]
    while ended[-1] == "killed" and len(ended) < 12:
        ended.append(mortals.ingest(logs, bounds, TINY, reading="killer.json"))
    # Three times the batch of thirty, once its tenth of three, three times the object alone.
    assert ended == ["killed"] * 7 + ["done"]
    found = config.load(**bounds)
    assert rows(found, "SELECT count(*) FROM cloud_trail_mgmt") == [(29,)]
    assert rows(found, "SELECT DISTINCT state FROM ledger_batches") == [("done",)]
    failed = "SELECT state, attempts, contains(reason, 'the process ended') FROM ledger_objects WHERE state <> 'done'"
    assert rows(found, failed) == [("failed", 3, True)]
    assert mortals.ingest(logs, bounds, TINY, reading="killer.json") == "done"
    summary = ingest.ingest([str(logs)], found, TINY)
    assert (names(summary), summary.known, summary.counts.read) == (["killer.json"], 29, 0)
    assert ingest.ingest([str(logs)], found, TINY, again=True).counts.events == 1
    assert rows(found, "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(30, 30)]


@pytest.mark.slow
def test_an_object_that_is_named_itself_is_tried_again(mortals: CrashHarness, few: Path, tmp_path: Path) -> None:
    bounds = {"lake": str(tmp_path / "lake"), "batch_objects": 1, "attempts": 2}
    for _ in range(2):  # the first time others are under way as well, the second time it is alone
        assert mortals.ingest(few, bounds, TINY, reading="killer.json") == "killed"
    found = config.load(**bounds)
    assert names(ingest.ingest([str(few)], found, TINY)) == ["killer.json"]
    assert ingest.ingest([str(few / "killer.json")], found, TINY).counts.events == 1


@pytest.mark.slow
def test_another_mapper_tries_again_by_itself(
    mortals: CrashHarness, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = {"lake": str(tmp_path / "lake"), "batch_objects": 1, "attempts": 2}
    for _ in range(2):  # the first time others are under way as well, the second time it is alone
        assert mortals.ingest(few, bounds, TINY, reading="killer.json") == "killed"
    found = config.load(**bounds)
    assert names(ingest.ingest([str(few)], found, TINY)) == ["killer.json"]
    assert names(ingest.ingest([str(few)], found, TINY)) == ["killer.json"]
    monkeypatch.setattr(plan, "program", lambda version: f"{version} of tomorrow")
    assert ingest.ingest([str(few)], found, TINY).counts.events == 1


@pytest.mark.slow
@ON_BOTH
def test_a_batch_that_fails_is_divided_exactly_once(
    settings: Make, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process dies; here it raises what a process that dies leaves in the ledger."""
    found = settings(batch_objects=100, workers=2)
    run = batch.run

    def dies(given: Any, *more: Any) -> Any:
        if any(ref.uri.endswith("killer.json") for ref in given.members):
            more[0].ledger.begin(given)
            raise _DiedError
        return run(given, *more)

    monkeypatch.setattr(batch, "run", dies)
    monkeypatch.setattr(ledger.Ledger, "fail", lambda *_, **__: None)
    deaths = 0
    while True:
        try:
            summary = ingest.ingest([str(logs)], found, TINY)
        except _DiedError:
            deaths += 1
        else:
            break
    assert (deaths, names(summary)) == (7, ["killer.json"])
    assert rows(found, "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt") == [(29, 29)]
    assert rows(found, "SELECT state, count(*) FROM ledger_objects GROUP BY state ORDER BY state") == [
        ("done", 29), ("failed", 1),
    ]  # fmt: skip
    assert rows(found, "SELECT count(*) FROM ledger_traces") == [(0,)]


class _DiedError(BaseException):
    pass


@pytest.mark.slow
def test_batches_that_failed_come_last_and_alone(logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(batch_objects=1, workers=2)
    planned = ingest.plan([str(logs)], found, TINY)
    suspects = planned.batch_ids[:3]
    from ocsf_lake.lake import opened

    with opened(found) as lake:
        for number, name in enumerate(suspects):
            held = lake.ledger.batch(name)
            assert held
            for _ in range(2 - number if number < 2 else 1):
                lake.ledger.begin(held)
    order: list[str] = []
    running: set[str] = set()
    run = batch.run

    def noted(given: Any, *more: Any) -> Any:
        running.add(given.id)
        if given.id in suspects:
            assert running == {given.id}
        order.append(given.id)
        done = run(given, *more)
        running.discard(given.id)
        return done

    monkeypatch.setattr(batch, "run", noted)
    again = ingest.plan([str(logs)], found, TINY)
    assert again.suspects == [*suspects[1:], suspects[0]]
    assert ingest.work(again.batch_ids, found).failures == []
    assert order[-3:] == again.suspects
    assert len(order) == 30


@pytest.mark.slow
def test_an_interrupted_attempt_is_no_failure(logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(batch, "failpoint", interrupted)
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                ingest.ingest([str(logs)], settings(), TINY)
    assert rows(settings(), "SELECT max(failures), max(attempts) FROM ledger_batches") == [(0, 5)]
    assert ingest.ingest([str(logs)], settings(), TINY).counts.events == 30


# -- objects that fail ------------------------------------------------------------------------------------------------
@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], list[int]]:
    """Makes reading one object fail; gives a list that grows with each attempt."""
    pieces = parts.Source.pieces

    def plant(error: Exception) -> list[int]:
        tries: list[int] = []

        def fails(self: parts.Source, ref: ObjectRef) -> Iterator[Piece]:
            if ref.uri.endswith("killer.json"):
                tries.append(1)
                raise error
            yield from pieces(self, ref)

        monkeypatch.setattr(parts.Source, "pieces", fails)
        return tries

    return plant


@pytest.mark.slow
@pytest.mark.parametrize("error", [UnreadableError("in no format"), RecursionError("deep"), ObjectError("denied")])
def test_an_object_is_tried_three_times_and_named_for_ever(
    error: Exception, logs: Path, settings: Make, failing: Callable[[Exception], list[int]]
) -> None:
    tries = failing(error)
    found = settings(batch_objects=100)
    for _ in range(6):
        summary = ingest.ingest([str(logs)], found, TINY)
        assert (names(summary), summary.unread.numbers[State.FAILED]) == (["killer.json"], 1)
    assert len(tries) == 3
    assert "tried 3 times" in summary.not_read[0].reason
    assert rows(found, "SELECT attempts, state FROM ledger_objects WHERE state <> 'done'") == [(3, "failed")]


@pytest.mark.slow
def test_what_a_store_refuses_is_tried_again_after_a_pause(
    logs: Path, settings: Make, failing: Callable[[Exception], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(batch_objects=100)
    tries = failing(ObjectError("denied"))
    for _ in range(4):
        ingest.ingest([str(logs)], found, TINY)
    assert len(tries) == 3
    monkeypatch.setattr(attempts, "FIRST_PAUSE", timedelta(0))
    ingest.ingest([str(logs)], found, TINY)
    assert len(tries) == 4


def test_pauses_double_up_to_a_day() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)

    def due(more: int, ago: timedelta) -> bool:
        tries = Tries(TINY, "denied", 3 + more, (now - ago).isoformat(), None)
        return attempts.is_due(tries, more, None, now)

    assert [due(0, timedelta(minutes=minutes)) for minutes in (14, 15)] == [False, True]
    assert [due(2, timedelta(minutes=minutes)) for minutes in (59, 60)] == [False, True]
    assert [due(60, timedelta(hours=hours)) for hours in (23, 24)] == [False, True]


@pytest.mark.slow
def test_an_object_that_comes_back_is_done(
    logs: Path, settings: Make, failing: Callable[[Exception], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(batch_objects=100)
    with monkeypatch.context():
        failing(ObjectError("denied"))
        ingest.ingest([str(logs)], found, TINY)
    monkeypatch.undo()
    assert ingest.ingest([str(logs)], found, TINY).counts.events == 1


@pytest.mark.slow
def test_one_object_that_the_store_does_not_give_is_left_out(
    logs: Path, settings: Make, failing: Callable[[Exception], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocsf_lake.storage import retry

    monkeypatch.setattr(retry, "sleep", lambda _: None)
    tries = failing(RetriableError("internal error"))
    summary = ingest.ingest([str(logs)], settings(batch_objects=100), TINY)
    assert (summary.counts.events, names(summary), summary.failures) == (29, ["killer.json"], [])
    assert len(tries) == retry.ATTEMPTS
    assert "the store does not give the object" in summary.not_read[0].reason
