"""A worker that was suspended, or waited between two attempts, while another one worked on the same batch."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake.ingest import batch, unfinished
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.plan import Planner
from ocsf_lake.lake import opened
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import Batch, State
from ocsf_lake.storage import retry
from ocsf_mappers.errors import RetriableError
from tests.ocsf_lake.compacting import PLACES, Make
from tests.ocsf_lake.conftest import cut_off_all
from tests.ocsf_lake.killed import killed_at
from tests.ocsf_lake.losing import synced
from tests.ocsf_lake.test_ingest import rows
from tests.ocsf_lake.test_remap import is_sound
from tests.ocsf_lake.test_unfinished import BOOKS, aside, ingested, two_objects


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return two_objects(tmp_path / "logs")


def test_a_worker_that_lost_its_batch_cannot_end_it_once_its_files_are_moved(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended for longer than the server of PostgreSQL waits, and wakes between two steps of another's."""
    found = settings()

    def meanwhile(step: str, batch_id: str) -> None:
        if step == "recorded":
            with opened(found) as lake, lake.leases.held("another") as lease:
                other = lake.ledger.batch(batch_id)
                assert other is not None
                assert lease is not None
                monkeypatch.setattr(batch, "failpoint", lambda *_: None)
                unfinished.move_aside(lake, other, dict.fromkeys(other.members, "gone"), lease)

    monkeypatch.setattr(batch, "failpoint", meanwhile)
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    ingested(logs, found)
    ingested(logs, found)
    is_sound(found)
    assert (len(rows(found, PLACES)), len(aside(found))) == (6, 2)


@pytest.mark.integration
def test_a_worker_that_wakes_while_it_moves_files_moves_none_that_another_has_written_since(
    tiny: str, logs: Path, shared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shared()
    with killed_at("written", monkeypatch):
        ingested(logs, found)
    (logs / "0.json").unlink()
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    met: list[ingest.Summary] = []

    def meanwhile(step: str, _: str) -> None:
        if step == "moving aside" and not met:
            cut_off_all(found)
            monkeypatch.setattr(unfinished, "failpoint", lambda *_: None)
            met.append(ingest.resume(found))

    monkeypatch.setattr(unfinished, "failpoint", meanwhile)
    assert ingested(logs, found).busy == 1
    assert [summary.counts.events for summary in met] == [3]
    is_sound(found)
    assert (rows(found, BOOKS), len(aside(found))) == ([(4, 3, 1, 0)], 2)


@pytest.mark.integration
@pytest.mark.parametrize("is_gone", [True, False], ids=["objects gone", "another mapper"])
def test_a_worker_that_wakes_before_it_takes_a_batch_out_leaves_it_to_the_one_that_has_begun_it(
    is_gone: bool, tiny: str, logs: Path, shared: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shared()
    with killed_at("written", monkeypatch):
        ingested(logs, found)
    ((batch_id,),) = rows(found, "SELECT id FROM ledger_batches")
    if is_gone:
        for path in logs.iterdir():
            path.unlink()
    else:
        monkeypatch.setattr(Planner, "version", lambda *_: "another")
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    plan = Ledger.plan

    with ExitStack() as stack:

        def meanwhile(self: Ledger, *args: Any, **named: Any) -> list[Batch]:
            if named.get("instead_of"):
                monkeypatch.setattr(Ledger, "plan", plan)
                cut_off_all(found)
                other = stack.enter_context(opened(found))
                assert stack.enter_context(other.leases.held(batch_id)) is not None
                open_batch = other.ledger.batch(batch_id)
                assert open_batch is not None
                other.ledger.begin(open_batch)
            return plan(self, *args, **named)

        monkeypatch.setattr(Ledger, "plan", meanwhile)
        if is_gone:
            synced(found)
        else:
            ingested(logs, found)
        assert Ledger.plan is plan
        assert rows(found, "SELECT id, state FROM ledger_batches") == [(batch_id, "planned")]


def test_what_takes_the_place_of_a_batch_is_decided_anew_after_each_pause(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker may have written all of it since, and the objects may be gone."""
    found = settings()
    with killed_at("begun", monkeypatch):
        ingested(logs, found)
    before = rows(found, "SELECT id FROM ledger_batches")
    plan, pauses = Ledger.plan, list[float]()

    def away(self: Ledger, *args: Any, **named: Any) -> list[Batch]:
        if named.get("instead_of") and not pauses:
            raise RetriableError("the database does not answer")
        return plan(self, *args, **named)

    def meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        with monkeypatch.context() as other:
            other.setattr(Ledger, "plan", plan)
            with killed_at("kept", other):
                ingest.resume(found)
        shutil.move(logs, logs.with_name("away"))

    with monkeypatch.context() as ours:
        ours.setattr(Ledger, "plan", away)
        ours.setattr(retry, "sleep", meanwhile)
        version = Planner.version
        ours.setattr(Planner, "version", lambda self, source: version(self, source) if pauses else "another")
        planned = ingest.plan([str(logs)], found, "tiny")
    assert (len(pauses), rows(found, "SELECT id FROM ledger_batches")) == (1, before)
    assert planned.unread.items == []
    synced(found)
    is_sound(found)
    assert (len(rows(found, PLACES)), aside(found)) == (6, [])


def test_an_object_that_is_left_out_is_reported_once_however_often_that_is_tried(
    tiny: str, logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings()
    with killed_at("written", monkeypatch):
        ingested(logs, found)
    (logs / "0.json").unlink()
    plan, tries = Ledger.plan, list[object]()

    def away(self: Ledger, *args: Any, **named: Any) -> list[Batch]:
        if named.get("instead_of"):
            tries.append(named)
            if len(tries) < 3:
                raise RetriableError("the database does not answer")
        return plan(self, *args, **named)

    monkeypatch.setattr(Ledger, "plan", away)
    monkeypatch.setattr(Planner, "version", lambda *_: "another")
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    planned = ingest.plan([str(logs)], found, "tiny")
    assert (len(tries), planned.unread.numbers) == (3, {State.FAILED: 1})
