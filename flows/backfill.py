"""The flow that brings a range of days into the lake; run again, it goes on where it stopped."""

from __future__ import annotations

from datetime import date
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from ocsf_lake.flows import detections, fanout, worker
from ocsf_lake.flows.report import Report
from ocsf_lake.ingest import backfill as lake_backfill


@flow(flow_run_name="backfill {source} {first} to {last}", timeout_seconds=worker.BACKFILL_SECONDS)
def backfill(
    source: str,
    uri: str,
    first: date,
    last: date,
    accounts: list[str] | None = None,
    regions: list[str] | None = None,
    lake: str | None = None,
) -> State[Any]:
    """Ingests a range of days into the lake, except what it already has.

    Args:
        source: Name of the source.
        uri: Bucket and prefix, or folder, that contains `AWSLogs/`.
        first: First day of events, UTC.
        last: Last day of events, included.
        accounts: Only these accounts.
        regions: Only these regions.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    settings = worker.settings(lake)
    worker.check("the place of the logs", uri, "name it")
    planned = lake_backfill.planned(source, uri, first, last, settings, tuple(accounts or ()), tuple(regions or ()))
    report = Report.of(flow_run.name, source, planned)
    if not settings.backfill_rules:
        detections.leave_out(settings, planned.batch_ids)  # before a scheduled run can see them
    fanout.work(source, planned.batch_ids, settings, report, planned.suspects)
    if settings.backfill_rules:
        detections.detect(settings, report)
    else:
        detections.leave_out(settings, planned.batch_ids)  # for what was asked meanwhile: their events came since
    return report.publish(settings)
