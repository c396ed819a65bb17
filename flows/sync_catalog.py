"""The flow that holds storage, ledger and catalogs against each other, and makes them agree where it is asked to."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from ocsf_lake import lake as lakes
from ocsf_lake import text
from ocsf_lake.flows import report, worker
from ocsf_lake.upkeep import check


@flow(flow_run_name="check catalog", timeout_seconds=worker.RUN_SECONDS)
def check_catalog(lake: str | None = None, repair: bool = False) -> State[Any]:
    """Fails when a query could return wrong rows: files without a partition, missing ones, other columns.

    Args:
        lake: Root of the lake. Default: the one in the worker's settings.
        repair: Makes catalogs and storage agree with the ledger, and fails if they still disagree.
    """
    with lakes.opened(worker.settings(lake)) as open_lake:
        findings = check.sync(open_lake).left if repair else check.check(open_lake)
    if findings:
        rows = [
            report.cells({"where": item.where, "table": item.table, "item": item.item, "says": item.says})
            for item in findings[: report.SHOWN_FAILURES]
        ]
        create_table_artifact(rows, "catalog", text.plural(len(findings), "finding"))
    if check.consistent(findings):
        return Completed(message="storage, ledger and catalogs agree", data=None)
    return Failed(message=f"{text.plural(len(findings), 'finding')}; `ocsf-lake catalog sync` repairs what it can")
