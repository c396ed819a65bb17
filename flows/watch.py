"""The flow that looks whether the lake is as it should be, and notifies the server's automations when it is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from ocsf_lake import text
from ocsf_lake.flows import report, worker
from ocsf_lake.upkeep import health
from ocsf_lake.upkeep.health import Alarm

EVENT = "ocsf-lake.{check}"
RESOURCE = "ocsf-lake.source.{source}"
"""The resource of an event; deploy/automations.yaml matches both."""


@flow(flow_run_name="watch", timeout_seconds=worker.RUN_SECONDS)
def watch(lake: str | None = None) -> State[Any]:
    """Emits one event for each thing that is not as it should be, see `ocsf_lake.upkeep.health`.

    Args:
        lake: Root of the lake; the worker's settings name it when this does not.
    """
    findings = health.check(worker.settings(lake), datetime.now(UTC))
    for finding in findings:
        emit_event(
            EVENT.format(check=finding.check),
            resource={
                "prefect.resource.id": RESOURCE.format(source=finding.source),
                "prefect.resource.name": finding.source,
            },
            payload={"message": text.escaped(finding.message)},
        )
    create_markdown_artifact(page(findings), "watch", "What is not as it should be")
    message = text.plural(len(findings), "finding")
    return Completed(name="Completed" if not findings else "Findings", message=message, data=None)


def page(findings: list[Alarm]) -> str:
    """The findings in Markdown."""
    if not findings:
        return "All is as it should be.\n"
    rows = [[finding.check, report.code(finding.source), report.code(finding.message)] for finding in findings]
    return report.table(["check", "source", "found"], rows) + "\n"
