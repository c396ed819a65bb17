"""The flow that removes events which were kept long enough."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ocsf_lake.flows import report, worker
from ocsf_lake.upkeep import retain as lake_retain


@flow(flow_run_name="retain", timeout_seconds=worker.RUN_SECONDS)
def retain(table: str | None = None, dry_run: bool = False, lake: str | None = None) -> State[Any]:
    """Removes what is past its retention period under [retention] in the settings; without rules, nothing.

    Args:
        table: Only this table, or quarantine.
        dry_run: Only reports what would be removed.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    done = lake_retain.retain(worker.settings(lake), table, dry_run=dry_run)
    rows = [report.cells(vars(part)) for part in (*done.parts, *done.held)]
    if rows:
        create_table_artifact(rows, "retain", done.message)
    if done.refused:
        refused = "; ".join(f"nothing of {name} is removed: {reason}" for name, reason in done.refused.items())
        return Failed(message=f"{done.message}; {refused}")
    return Completed(message=done.message, data=None)
