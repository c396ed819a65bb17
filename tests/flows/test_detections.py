"""Rules in a flow run: what goes wrong with them is in the report, and hides nothing of what was ingested."""

from __future__ import annotations

import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.detections import compiled, run
from ocsf_lake.detections.statements import Span
from ocsf_lake.flows import backfill as flow
from ocsf_lake.flows import detections, fanout, worker
from ocsf_lake.flows.report import Report
from ocsf_lake.ingest import run as ingest
from ocsf_lake.lake import opened
from tests.ocsf_lake.conftest import call, write

RULE = """
title: Any call
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventSource|contains: amazonaws}, condition: s}
"""


def test_a_defect_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(detections, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(compiled, "load", lambda *_: [])
    monkeypatch.setattr(run, "detect", broken)
    report = Report("run", "aws_cloudtrail")
    detections.detect(config.load(lake=str(tmp_path), rules=[tmp_path]), report)
    assert [(failure.task, failure.reason) for failure in report.failures] == [("detect", "a defect")]


# -- history ----------------------------------------------------------------------------------------------------------
def _findings(settings: Settings) -> dict[str, int]:
    with opened(settings, reading=True) as lake:
        return {row["id"]: row["events"] for row in lake.ledger.arrow("findings").to_pylist()}


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Logs of two days; what a flow run needs of Prefect is left out, so that it runs here."""

    def work(_: str, batch_ids: list[str], settings: Settings, *__: Any) -> None:
        ingest.work(batch_ids, settings)

    monkeypatch.setattr(detections, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(fanout, "work", work)
    monkeypatch.setattr(Report, "publish", lambda report, _: report)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "any.yml").write_text(RULE)
    for day in (1, 6):
        name = f"111122223333_CloudTrail_eu-west-1_202603{day:02}T0900Z_{day:016}.json"
        folder = f"logs/AWSLogs/111122223333/CloudTrail/eu-west-1/2026/03/{day:02}"
        write(tmp_path / folder / name, json.dumps(call(day, eventTime=f"2026-03-{day:02}T09:00:00Z")))
    return tmp_path


def _backfill(settings: Settings, folder: Path, first: int, last: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(worker, "settings", lambda _: settings)
    days = date(2026, 3, first), date(2026, 3, last)
    return flow.backfill.fn("aws_cloudtrail", str(folder / "logs"), *days)


@pytest.mark.slow
def test_a_backfill_asks_the_rules_and_the_schedule_finds_nothing_twice(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.load(lake=str(history / "lake"), workers=1, rules=[str(history / "rules")])
    assert not _backfill(settings, history, 1, 1, monkeypatch).failures
    first = _findings(settings)
    assert list(first.values()) == [1]
    # the schedule, a second backfill over the first one's day, and again the schedule
    for step in (None, 6, None):
        if step:
            _backfill(settings, history, 1, step, monkeypatch)
        else:
            detections.detect(settings, Report("run", "aws_cloudtrail"))
    assert sorted(_findings(settings).values()) == [1, 1]
    assert first.items() < _findings(settings).items()


def test_history_may_be_left_out_also_of_the_schedule(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [str(history / "rules")]
    settings = config.load(lake=str(history / "lake"), workers=1, rules=rules, backfill_rules=False)
    _backfill(settings, history, 1, 6, monkeypatch)
    detections.detect(settings, Report("run", "aws_cloudtrail"))
    assert _findings(settings) == {}
    # who names the time asks of it all the same
    assert run.detect(settings, compiled.load(settings.rules, {}), Span(0)).new == 2
