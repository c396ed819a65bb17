"""The flow that maps what is in quarantine again, once a mapper has learnt what it refused."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from ocsf_lake import text
from ocsf_lake.flows import report, worker
from ocsf_lake.upkeep import replay
from ocsf_lake.upkeep.replay import Summary


@flow(flow_run_name="replay quarantine", timeout_seconds=worker.BACKFILL_SECONDS)
def replay_quarantine(
    source: str | None = None, part: str = "", reason: str | None = None, again: bool = False, lake: str | None = None
) -> State[Any]:
    """Maps open records in quarantine again; those that are still refused stay.

    Args:
        source: Only this source.
        part: Only objects whose names contain this text.
        reason: Only those refused for exactly this reason.
        again: Also those that this mapper has already refused.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    done = replay.replay(worker.settings(lake), source, part, reason, again=again)
    create_markdown_artifact(page(done), "replay-quarantine", message(done))
    return Completed(message=message(done), data=None)


def message(done: Summary) -> str:
    """The run in one line."""
    records = text.plural(done.closed, "record")
    busy = f"; another replay works on {', '.join(done.busy)}" if done.busy else ""
    return (
        f"{records} became events, {done.open.total():,} refused again, {done.untried:,} not tried, "
        f"{done.damage:,} without text{busy}"
    )


def page(done: Summary) -> str:
    """The run in Markdown, with the reasons of those that are refused still."""
    rows = [[report.code(reason), text.count(number)] for reason, number in done.open.most_common(100)]
    parts = [f"{message(done)}.", *([report.table(["still refused", "records"], rows)] if rows else [])]
    return "\n\n".join(parts) + "\n"
