"""The flow that keeps a lake fresh: what is new of one source, each time it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from ocsf_lake.flows import detections, fanout, worker
from ocsf_lake.flows.report import Report
from ocsf_lake.ingest import incremental


def _run_name() -> str:
    parameters = flow_run.parameters
    kind = "sweep" if parameters.get("sweep") else "ingest"
    return f"{kind} {parameters['source']} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M}"


@flow(flow_run_name=_run_name, timeout_seconds=worker.RUN_SECONDS)
def ingest(
    source: str,
    uri: str,
    sweep: bool = False,
    accounts: list[str] | None = None,
    regions: list[str] | None = None,
    lake: str | None = None,
) -> State[Any]:
    """Ingests what is new of a source into the lake.

    Args:
        source: Name of the source.
        uri: Bucket and prefix, or folder, that contains `AWSLogs/`.
        sweep: Looks back as far as objects of this source are known to come late, not only at the latest days.
        accounts: Only these accounts.
        regions: Only these regions.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    settings = worker.settings(lake)
    worker.check("the place of the logs", uri, "name it")
    now = datetime.now(UTC)
    planned = incremental.plan_fresh(source, uri, settings, now, sweep, tuple(accounts or ()), tuple(regions or ()))
    report = Report.of(flow_run.name, source, planned)
    fanout.work(source, planned.batch_ids, settings, report, planned.suspects)
    detections.detect(settings, report)
    return report.publish(settings)
