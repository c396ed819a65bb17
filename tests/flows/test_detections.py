"""Rules in a flow run: what goes wrong with them is in the report, and hides nothing of what was ingested."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ocsf_lake import config
from ocsf_lake.detections import compiled, run
from ocsf_lake.flows import detections
from ocsf_lake.flows.report import Report


def test_a_defect_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(detections, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(compiled, "load", lambda *_: [])
    monkeypatch.setattr(run, "detect", broken)
    report = Report("run", "aws_cloudtrail")
    detections.detect(config.load(lake=str(tmp_path), rules=[tmp_path]), report)
    assert [(failure.task, failure.reason) for failure in report.failures] == [("detect", "a defect")]
