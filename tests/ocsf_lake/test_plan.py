"""Planning: in bounded memory, in the same batches every time, and nothing planned twice."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.ingest import backfill, batch_builder, plan
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.plan import Planner
from ocsf_lake.lake import opened
from ocsf_lake.ledger import ledger
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.ledger.results import State
from ocsf_lake.storage import retry
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import ConfigError, RetriableError
from tests.ocsf_lake.conftest import call, write
from tests.ocsf_lake.test_ingest import rows
from tests.support import SAMPLE_LOGS

Make = Callable[..., Settings]
DAY = date(2025, 3, 11)


def pages(number: int, step: int = 1_000) -> Iterator[list[ObjectRef]]:
    """So many objects as S3 lists them."""
    for start in range(0, number, step):
        yield [
            ObjectRef(f"s3://b/AWSLogs/111122223333/CloudTrail/eu-west-1/2025/03/11/{key:09}.json.gz", f"{key:032x}", 9)
            for key in range(start, min(start + step, number))
        ]


@pytest.fixture
def usual_collections() -> Iterator[None]:
    """Garbage is collected as often as outside tests (see tests/conftest.py)."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.slow
@pytest.mark.usefixtures("usual_collections")
def test_many_objects_are_planned_in_bounded_memory(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(batch_objects=100)
    monkeypatch.setattr(plan, "CHUNK", 200)

    def peak(number: int) -> int:
        with opened(found) as lake:
            planner = Planner(lake, plan.mappers("aws_cloudtrail", config.load())[0])
            tracemalloc.start()
            planned = planner.plan(pages(number, 100), "aws_cloudtrail")
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert planned.listed == number
        return most

    peak(100)  # what a process makes once, which would hide what it should not hold
    first = peak(1_600)
    # Four times as many: what is held is a chunk and the batches not yet written.
    assert peak(6_400) < 1.5 * first
    assert rows(found, "SELECT count(*), sum(objects) FROM ledger_batches") == [(64, 6_400)]


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [
        ({"batch_objects": 3}, [3, 3, 1]),
        ({"batch_objects": 9, "batch_bytes": 20}, [2, 2, 2, 1]),
        ({"batch_objects": 9, "batch_bytes": 1}, [1] * 7),
        # 160 bytes are taken for a record of CloudTrail.
        ({"batch_objects": 9, "batch_records": 2}, [4, 3]),
    ],
)
def test_a_batch_is_bounded_by_objects_bytes_and_records(
    bounds: dict[str, object], sizes: list[int], settings: Make
) -> None:
    refs = [ObjectRef(f"s3://b/{number}", "e", 80 if "batch_records" in bounds else 9) for number in range(7)]
    found = batch_builder.batches("aws_cloudtrail", "v", refs, settings(**bounds))
    assert [len(batch.members) for batch in found] == sizes


@pytest.mark.slow
def test_a_plan_that_was_cut_off_is_continued_with_the_same_batches(settings: Make) -> None:
    mappers = plan.mappers("aws_cloudtrail", config.load())[0]
    with opened(settings("whole", batch_objects=7)) as lake:
        whole = Planner(lake, mappers).plan(pages(1_000, 100), "aws_cloudtrail").batch_ids

    def cut() -> Iterator[list[ObjectRef]]:
        for number, page in enumerate(pages(1_000, 100)):
            if number == 6:
                raise KeyboardInterrupt
            yield page

    with opened(settings("cut", batch_objects=7)) as lake, pytest.MonkeyPatch.context() as patched:
        patched.setattr(plan, "CHUNK", 100)
        with pytest.raises(KeyboardInterrupt):
            Planner(lake, mappers).plan(cut(), "aws_cloudtrail")
        assert 0 < len(lake.ledger.rows()) < len(whole)
        assert sorted(Planner(lake, mappers).plan(pages(1_000, 100), "aws_cloudtrail").batch_ids) == sorted(whole)


def test_what_another_run_planned_meanwhile_is_left_out_of_a_batch(settings: Make) -> None:
    mappers = plan.mappers("aws_cloudtrail", config.load())[0]
    with opened(settings(batch_objects=10)) as lake:
        refs = [ref for page in pages(20) for ref in page]

        def amid() -> Iterator[list[ObjectRef]]:
            yield refs[:5]
            Planner(lake, mappers).plan([refs[3:6]], "aws_cloudtrail")
            yield refs[5:]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(plan, "CHUNK", 1)
            planned = Planner(lake, mappers).plan(amid(), "aws_cloudtrail")
        members = [batch.members for key in planned.batch_ids if (batch := lake.ledger.batch(key))]
    assert sorted(ref for some in members for ref in some) == refs
    # The other one's, which is open; the second of the two here; and what is left of the first.
    assert [len(some) for some in members] == [3, 9, 8]


def test_a_plan_whose_answer_was_lost_keeps_its_batches(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    mappers, written = plan.mappers("aws_cloudtrail", config.load())[0], Ledger.plan
    lost: list[int] = []

    def cut_off(self: Ledger, *given: Any, **named: Any) -> Any:
        found = written(self, *given, **named)
        if len(lost) < 2:
            lost.append(len(found))
            raise RetriableError("the connection was cut after the commit")
        return found

    monkeypatch.setattr(retry, "sleep", lambda _: None)
    monkeypatch.setattr(plan, "WRITTEN_AT_ONCE", 3)
    with opened(settings("whole", batch_objects=7)) as lake:
        whole = Planner(lake, mappers).plan(pages(60), "aws_cloudtrail").batch_ids
    monkeypatch.setattr(Ledger, "plan", cut_off)
    with opened(settings("cut", batch_objects=7)) as lake:
        assert Planner(lake, mappers).plan(pages(60), "aws_cloudtrail").batch_ids == whole
    assert lost == [3, 3]


@pytest.mark.slow
def test_batches_planned_instead_of_another_are_kept_when_the_answer_was_lost(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest.plan([str(logs)], settings(ocsf_version="1.5.0"))
    written, lost = Ledger.plan, []

    def cut_off(self: Ledger, *given: Any, **named: Any) -> Any:
        found = written(self, *given, **named)
        if named.get("instead_of") and not lost:
            lost.append(found)
            raise RetriableError("the connection was cut after the commit")
        return found

    monkeypatch.setattr(retry, "sleep", lambda _: None)
    monkeypatch.setattr(Ledger, "plan", cut_off)
    assert ingest.ingest([str(logs)], settings()).counts.events == 140
    assert lost
    assert rows(settings(), "SELECT DISTINCT state FROM ledger_batches") == [(State.DONE,)]


@pytest.mark.slow
def test_a_batch_that_cannot_be_planned_anew_stays_as_it_was(
    logs: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its objects may never be listed again."""
    before = sorted(ingest.plan([str(logs)], settings(ocsf_version="1.5.0")).batch_ids)
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "_states", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ingest.resume(settings())
    assert sorted(batch for found, _ in ingest.open_batches(settings()).values() for batch in found) == before
    assert ingest.resume(settings()).counts.events == 140


@pytest.mark.slow
def test_an_estimate_says_what_a_backfill_does(logs: Path, settings: Make) -> None:
    asked = ("aws_cloudtrail", str(logs), DAY, DAY, settings())
    before = backfill.estimate(*asked)
    assert not Path(settings().lake).exists()
    assert (before.objects, before.known, before.seconds) == (5, 0, None)
    summary = backfill.backfill(*asked)
    assert (summary.listed, summary.counts.events) == (5, 80)
    assert before.batches == summary.sources["aws_cloudtrail"].batches
    assert before.bytes == summary.sources["aws_cloudtrail"].bytes_in
    after = backfill.estimate(*asked)
    assert (after.objects, after.known, after.batches, after.bytes, after.seconds) == (5, 5, 0, 0, 0)
    assert backfill.planned(*asked).batch_ids == []


def test_a_backfill_of_all_of_history_lists_the_years_that_there_are(logs: Path, settings: Make) -> None:
    some = backfill.estimate("aws_cloudtrail", str(logs), date(2025, 3, 1), date(2025, 3, 31), settings())
    every = backfill.estimate("aws_cloudtrail", str(logs), date.min, date.max, settings())
    assert every.objects == some.objects == 5
    assert every.list_calls < some.list_calls + 100


def test_a_backfill_takes_accounts_regions_and_days(logs: Path, settings: Make) -> None:
    one = backfill.backfill(
        "aws_cloudtrail", str(logs), DAY, DAY, settings(), ("012345678901",), ("us-east-1",)
    )
    assert (one.listed, one.counts.read) == (1, 21)
    # Delivered a day later at most: the day before brings them too.
    assert backfill.estimate("aws_vpc_flow", str(logs), date(2025, 3, 10), date(2025, 3, 10), settings()).objects == 4
    assert backfill.estimate("aws_vpc_flow", str(logs), date(2025, 3, 12), date(2025, 3, 12), settings()).objects == 0
    with pytest.raises(ConfigError, match="before it begins"):
        backfill.planned("aws_vpc_flow", str(logs), DAY, date(2025, 3, 10), settings())


@pytest.mark.slow
def test_objects_of_sources_in_the_same_folders_are_told_apart_by_name(tmp_path: Path, settings: Make) -> None:
    folder = tmp_path / "logs/AWSLogs/111122223333/elasticloadbalancing/eu-west-1/2026/02/03"
    folder.mkdir(parents=True)
    names = {
        "aws_alb": "111122223333_elasticloadbalancing_eu-west-1_app.shop.50dc_20260203T1020Z_10.0.0.1_a.log",
        "aws_nlb": "111122223333_elasticloadbalancing_eu-west-1_net.mail.c6e7_20260203T1020Z_b.log",
        "aws_clb": "111122223333_elasticloadbalancing_eu-west-1_old-shop_20260203T1020Z_203.0.113.1_c.log",
    }
    for source, name in names.items():
        (folder / name).write_bytes((SAMPLE_LOGS / source / "access.log").read_bytes())
    found, uri = settings(), str(tmp_path / "logs")
    first = ingest.ingest([uri], found, "aws_alb")
    assert (set(first.sources), first.listed, first.of_others, first.not_read) == ({"aws_alb"}, 1, 2, [])
    with opened(found) as lake:
        known = lake.ledger.arrow("objects")["uri"].to_pylist()
        assert [Path(name).name for name in known] == [names["aws_alb"]]
    second = ingest.ingest([uri], found)
    assert (set(second.sources), second.known, second.of_others) == ({"aws_nlb", "aws_clb"}, 1, 0)


@pytest.mark.slow
def test_planning_does_no_work(logs: Path, settings: Make) -> None:
    planned = ingest.plan([str(logs)], settings())
    assert (len(planned.batch_ids), planned.listed, planned.known) == (4, 10, 0)
    assert {item.state for item in planned.not_read} == {State.SET_ASIDE, State.SKIPPED}
    assert rows(settings(), "SELECT DISTINCT state, attempts FROM ledger_batches") == [("planned", 0)]
    assert sorted(ingest.plan([str(logs)], settings()).batch_ids) == sorted(planned.batch_ids)
    assert ingest.work(planned.batch_ids, settings()).counts.events == 140
    assert ingest.work(planned.batch_ids, settings()).busy == 4


def test_the_lake_s_own_files_are_no_logs_and_what_lies_beside_them_is_read(tmp_path: Path) -> None:
    # The lake is the folder of the logs, and its ledger is below it, too.
    found = config.load(lake=str(tmp_path), state=tmp_path / "state")
    for name in ("aws/today/a.json", "_logs/b.json"):
        write(tmp_path / name, json.dumps({"Records": [call(len(name))]}))
    uri = str(tmp_path)
    first = ingest.ingest([uri], found)
    assert (first.listed, first.counts.events, first.not_read) == (2, 2, [])
    for source in (None, "aws_cloudtrail"):
        again = ingest.ingest([uri], found, source)
        assert (again.listed, again.known, again.not_read) == (2, 2, [])
        assert again.coverage is not None
        (passed,) = again.coverage.passed.items()
        assert passed[0] == "the lake's own files"
        assert f"{tmp_path.as_uri()}/_lake/ledger.json" in passed[1].some
        assert f"{tmp_path.as_uri()}/state/_ledger/ledger.db" in passed[1].some
    asked = ("aws_cloudtrail", uri, date(2025, 3, 1), date(2025, 3, 31), found)
    assert backfill.estimate(*asked).objects == backfill.backfill(*asked).listed == 2
    # What detections find is written below the lake and ingested by its name.
    named = write(tmp_path / "_detections/c.json", json.dumps({"Records": [call(99)]}))
    assert ingest.ingest([str(named)], found).counts.events == 1
