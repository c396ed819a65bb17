"""The flow that looks whether the lake is as it should be, and notifies the server's automations when it is not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed

from ocsf_lake import text
from ocsf_lake.config import Settings
from ocsf_lake.flows import report, worker
from ocsf_lake.ledger.database import MissingError
from ocsf_lake.pages import facts as lake_facts
from ocsf_lake.pages import todo
from ocsf_lake.pages.facts import Facts
from ocsf_lake.upkeep import health
from ocsf_lake.upkeep.health import Alarm

DAYS = 14
"""So many days are on the page of the lake."""
COLUMNS = ["source", f"events, {DAYS} days", "events", "lag, 95 of 100", "days with gaps", "quarantined", "drift"]
BLOCKS = "▁▂▃▄▅▆▇█"
EVENT = "ocsf-lake.{check}"
RESOURCE = "ocsf-lake.source.{source}"
"""The resource of an event; deploy/automations.yaml matches both."""


@flow(flow_run_name="watch", timeout_seconds=worker.RUN_SECONDS)
def watch(lake: str | None = None) -> State[Any]:
    """Emits one event for each problem found by `ocsf_lake.upkeep.health`.

    Also updates the artifact `lake`: a page with a line for each source, and what to do.

    Args:
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    settings, now = worker.settings(lake), datetime.now(UTC)
    findings = health.check(settings, now)
    for finding in findings:
        emit_event(
            EVENT.format(check=finding.check),
            resource={
                "prefect.resource.id": RESOURCE.format(source=finding.source),
                "prefect.resource.name": f"{finding.source} of {settings.lake}",
            },
            payload={"message": text.escaped(finding.message)},
        )
    message = text.plural(len(findings), "finding")
    create_markdown_artifact(lake_page(settings, findings, now), "lake", message)
    return Completed(name="Completed" if not findings else "Findings", message=message, data=None)


def lake_page(settings: Settings, findings: list[Alarm], now: datetime) -> str:
    """The lake in Markdown: each source's last two weeks, and what to do."""
    today = now.astimezone(UTC).date()
    try:
        facts = lake_facts.gather(settings, now, today - timedelta(days=DAYS - 1), today)
    except MissingError:
        return "There is no lake yet: nothing was ingested.\n"
    rows = [_row(facts, name) for name in sorted({source.name for source in facts.heat.sources} | facts.spent.keys())]
    steps = todo.steps(facts)
    parts = [f"# {report.code(settings.lake)}", todo.verdict(steps)]
    if rows:
        parts.append(report.table(COLUMNS, rows))
    lines = [
        f"- **{step.kind}** {report.code(step.what)}" + (f" {report.code(step.command)}" if step.command else "")
        for step in steps
    ]  # fmt: skip
    parts += ["## What to do", "\n".join(lines)] if lines else []
    parts += ["## Findings", page(findings)]
    parts.append(f"Updated {now:%Y-%m-%d %H:%M} UTC. `ocsf-lake report --out lake.html` shows more.")
    return "\n\n".join(parts) + "\n"


def _row(facts: Facts, name: str) -> list[str]:
    """One source: events a day as a line of blocks, lag, gaps, quarantine, drift."""
    events = facts.events_of.get(name, {})
    lag = next((row for row in facts.lags.newest() if row.source == name), None)
    missing = sum(row.missing for source in facts.heat.sources if source.name == name for row in source.rows)
    spent = facts.spent.get(name)
    drift = sum(item.source == name for item in facts.drift)
    return [
        report.code(name), sparkline([events.get(day, 0) for day in facts.days]), f"{sum(events.values()):,}",
        todo.minutes(lag.p95) if lag else "", f"{missing:,}" if facts.heat.judged else "not judged",
        f"{spent.quarantined:,}" if spent else "0", f"{drift:,}",
    ]  # fmt: skip


def sparkline(numbers: Sequence[int]) -> str:
    """Numbers as blocks, the largest one the highest; a day without events is a dot."""
    most = max(numbers, default=0)
    return "".join(BLOCKS[(number * len(BLOCKS) - 1) // most] if number else "·" for number in numbers)


def page(findings: list[Alarm]) -> str:
    """The findings in Markdown."""
    if not findings:
        return "Everything is in order.\n"
    rows = [[finding.check, report.code(finding.source), report.code(finding.message)] for finding in findings]
    return report.table(["check", "source", "found"], rows) + "\n"
