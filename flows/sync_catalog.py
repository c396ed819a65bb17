"""The flow that holds the catalog against the lake's files."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows import terminal, worker
from flows.report import SHOWN_FAILURES
from lake import lake as lakes


@flow(flow_run_name="check catalog", timeout_seconds=worker.RUN_SECONDS)
def check_catalog(lake: str | None = None) -> State[Any]:
    """Fails when a file that the catalog names is missing or has another size.

    Args:
        lake: Root of the lake; the worker's settings name it when this does not.
    """
    with lakes.opened(worker.settings(lake)) as found:
        problems = found.catalog.check(found.store)
    if not problems:
        return Completed(message="the files are those that the catalog names", data=None)
    rows = [{"problem": terminal.escaped(problem)} for problem in problems[:SHOWN_FAILURES]]
    message = f"{terminal.plural(len(problems), 'file')} missing or of another size"
    create_table_artifact(rows, "catalog", message)
    return Failed(message=message)
