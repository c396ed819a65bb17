"""The flow that merges small files of partitions into large ones."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ocsf_lake.flows import report, worker
from ocsf_lake.upkeep import compact as lake_compact


@flow(flow_run_name="compact", timeout_seconds=worker.RUN_SECONDS)
def compact(table: str | None = None, older_than: str = "2d", lake: str | None = None) -> State[Any]:
    """Merges the small files of past days, and removes those whose grace period after a merge is over.

    Args:
        table: Only this table.
        older_than: Only event days that ended at least this long ago: `2d`, `12h`.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    done = lake_compact.compact(worker.settings(lake), table, lake_compact.parsed(older_than))
    rows = [report.cells(vars(item)) for item in done.tables]
    rows += [report.cells({"table": name, "refused": reason}) for name, reason in done.refused.items()]
    create_table_artifact(rows, "compact", done.message)
    if done.refused:
        refused = "; ".join(f"{name} is not compacted: {reason}" for name, reason in done.refused.items())
        return Failed(message=f"{done.message}; {refused}")
    return Completed(message=done.message, data=None)
