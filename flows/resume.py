"""The flow that finishes what killed runs left open."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from ocsf_lake.flows import fanout, worker
from ocsf_lake.flows.report import Report
from ocsf_lake.ingest import run as ingest


@flow(flow_run_name="resume open batches", timeout_seconds=worker.RUN_SECONDS)
def resume(lake: str | None = None) -> State[Any]:
    """Finishes every open batch that no other worker holds, without listing anything.

    Args:
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    settings = worker.settings(lake)
    report = Report(flow_run.name, None)
    for source, (batch_ids, suspects) in ingest.open_batches(settings).items():
        fanout.work(source, batch_ids, settings, report, suspects)
    return report.publish(settings)
