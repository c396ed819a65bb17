"""A lake of several hosts: ledger, catalog and leases in a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.ingest import batch, plan
from ocsf_lake.ingest import run as ingest
from ocsf_lake.inputs import listing
from ocsf_lake.lake import opened
from ocsf_lake.ledger.leases import LostError
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import retry
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import ConfigError
from tests.ocsf_lake.conftest import Make, contents, cut_off_all
from tests.ocsf_lake.test_ingest import rows
from tests.servers.postgres import Postgres
from tests.support import often

pytestmark = pytest.mark.integration

EVERYTHING = "SELECT id, state, read, events, quarantined, dropped FROM ledger_batches ORDER BY id"


@pytest.mark.slow
def test_a_shared_lake_is_the_same_lake(logs: Path, whole: Path, shared: Make, tmp_path: Path) -> None:
    assert ingest.ingest([str(logs)], shared()).counts.events == 140
    assert ingest.ingest([str(logs)], shared()).counts.read == 0
    assert contents(tmp_path / "lake") == contents(whole)
    assert not list((tmp_path / "lake").glob("_*/*.db"))
    assert rows(shared(), EVERYTHING) == rows(config.load(lake=str(whole)), EVERYTHING)
    assert rows(shared(), "SELECT count(*) FROM cloud_trail_mgmt") == [(80,)]


@pytest.mark.slow
def test_two_hosts_that_begin_at_once_share_the_work(logs: Path, whole: Path, shared: Make, tmp_path: Path) -> None:
    shared_settings = shared()
    with opened(shared_settings):
        pass  # each host finds the tables
    start = threading.Barrier(2)

    def host(_: int) -> int:
        start.wait()
        return ingest.ingest([str(logs)], shared_settings).counts.events

    with ThreadPoolExecutor(2) as hosts:
        events = list(hosts.map(host, range(2)))
    assert sum(events) == 140
    assert contents(tmp_path / "lake") == contents(whole)
    assert rows(shared(), EVERYTHING) == rows(config.load(lake=str(whole)), EVERYTHING)
    assert rows(shared(), "SELECT max(attempts) FROM ledger_batches") == [(1,)]


@pytest.mark.slow
def test_a_batch_is_held_by_one_worker_on_any_host(logs: Path, shared: Make) -> None:
    planned = ingest.plan([str(logs)], shared())
    with opened(shared()) as one, opened(shared()) as other, one.leases.held(planned.batch_ids[0]) as lease:
        assert lease is not None
        lease.check()
        with other.leases.held(planned.batch_ids[0]) as second, one.leases.held(planned.batch_ids[0]) as third:
            assert (second, third) == (None, None)
        assert ingest.work(planned.batch_ids, shared()).busy == 1
    assert ingest.work(planned.batch_ids, shared()).busy == len(planned.batch_ids) - 1


@pytest.mark.slow
def test_a_worker_that_lost_its_batch_cannot_finish_it(
    logs: Path, whole: Path, shared: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes on after its connection was cut, while another one does the batch."""
    (planned, *_) = ingest.plan([str(logs)], shared()).batch_ids
    cut = False

    def cut_off(step: str, _: str) -> None:
        nonlocal cut
        if step == "written" and not cut:
            cut = True
            cut_off_all(shared())
            assert ingest.work([planned], shared()).counts.read

    monkeypatch.setattr(batch, "failpoint", cut_off)
    monkeypatch.setattr(retry, "sleep", lambda _: None)
    summary = ingest.work([planned], shared())
    assert (summary.busy, summary.counts.read) == (1, 0)
    assert rows(shared(), f"SELECT attempts, state FROM ledger_batches WHERE id = '{planned}'") == [(2, "done")]
    ingest.ingest([str(logs)], shared())
    assert contents(tmp_path / "lake") == contents(whole)


def test_the_result_of_an_older_attempt_is_refused(logs: Path, shared: Make) -> None:
    (planned, *_) = ingest.plan([str(logs)], shared()).batch_ids
    with opened(shared()) as lake:
        found = lake.ledger.batch(planned)
        assert found is not None
        old, new = lake.ledger.begin(found), lake.ledger.begin(found)
        registered: list[str] = []
        with pytest.raises(LostError):
            lake.ledger.finish(old, batch.Result({}), lambda: registered.append("old"))
        lake.ledger.finish(new, batch.Result({}), lambda: registered.append("new"))
        with pytest.raises(LostError):
            lake.ledger.finish(new, batch.Result({}), lambda: registered.append("again"))
        assert registered == ["new"]
        assert [row.state for row in lake.ledger.rows([planned])] == [State.DONE]


class Outage:
    """The server stopped, once, for what would be a minute: pauses are added up and none is made."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.slept = 0.0
        self.stopped = self.away = False

    def begin(self) -> None:
        if not self.stopped:
            self.stopped = self.away = True
            self.server.stop()

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        if self.slept >= 60:
            self.end()

    def end(self) -> None:
        if self.away:
            self.away = False
            self.server.start()


@pytest.fixture
def outage(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    found = Outage(postgres_server)
    monkeypatch.setattr(retry, "sleep", found.sleep)
    yield found
    found.end()


@pytest.mark.slow
@pytest.mark.parametrize("when", often(["opening", "listing", "working"], ["working"]))
def test_the_database_may_be_gone_for_a_minute(
    when: str, logs: Path, whole: Path, shared: Make, outage: Outage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = shared()
    listed, pages = 0, listing.pages

    def one_by_one(*given: Any) -> Iterator[list[ObjectRef]]:
        nonlocal listed
        for page in pages(*given):
            for ref in page:
                listed += 1
                if when == "listing" and listed == 6:
                    outage.begin()
                yield [ref]

    monkeypatch.setattr(plan, "CHUNK", 1)
    monkeypatch.setattr(listing, "pages", one_by_one)
    if when == "working":
        monkeypatch.setattr(batch, "failpoint", lambda step, _: outage.begin() if step == "part" else None)
    if when == "opening":
        outage.begin()
    summary = ingest.ingest([str(logs)], asked)
    assert outage.slept >= 60
    assert (summary.counts.events, summary.listed, listed) == (140, 10, 10)
    assert contents(tmp_path / "lake") == contents(whole)
    assert rows(shared(), EVERYTHING) == rows(config.load(lake=str(whole)), EVERYTHING)


@pytest.mark.slow
def test_a_ledger_belongs_to_one_lake(logs: Path, shared: Make, tmp_path: Path) -> None:
    ingest.ingest([str(logs)], shared())
    with pytest.raises(ConfigError, match="is that of the lake"):
        ingest.ingest([str(logs)], shared(lake=str(tmp_path / "another")))


def test_no_password_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as told:
        ingest.ingest([], config.load(lake=str(tmp_path), ledger_url="mssql://ann:s3cret@127.0.0.1:1/x"))
    assert "s3cret" not in str(told.value)
