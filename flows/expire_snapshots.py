"""The flow that forgets earlier moments of tables in Iceberg."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from ocsf_lake.flows import report, worker
from ocsf_lake.upkeep import compact
from ocsf_lake.upkeep import expire as lake_expire


@flow(flow_run_name="expire snapshots", timeout_seconds=worker.RUN_SECONDS)
def expire_snapshots(older_than: str = "5d", lake: str | None = None) -> State[Any]:
    """Expires old snapshots of Iceberg's tables, so that files which only they read can be removed.

    Args:
        older_than: Their age: `5d`, `12h`.
        lake: Root of the lake. Default: the one in the worker's settings.
    """
    done = lake_expire.expire(worker.settings(lake), compact.parsed(older_than))
    if done.tables:
        rows = [report.cells(vars(item)) for item in done.tables]
        create_table_artifact(rows, "expire-snapshots", done.message)
    remaining = "".join(f"; {name}: {reason}" for name, reason in done.left.items())
    return Completed(message=f"{done.message}{remaining}", data=None)
