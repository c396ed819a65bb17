"""Flows on Prefect's embedded server, as a process of its own: prints in JSON what became of them.

`python -m tests.flows.embedded FOLDER`
"""

from __future__ import annotations

import json
import os
import sys
from datetime import date
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.backfill import backfill
from lake import ingest
from lake.ingest import Summary
from ocsf_mappers.errors import RetriableError
from tests.organization import Organization

LOGS = Organization(accounts=2, regions=1, first=date(2026, 3, 1), days=2, objects=4)
SETTINGS = {"OCSF_LAKE_BATCH_OBJECTS": "4", "OCSF_LAKE_RETRIES": "2", "OCSF_LAKE_RETRY_SECONDS": "0"}
RUNNERS = ("threads", "processes", "dask")
real_work = ingest.work


def run(folder: Path, lake: str, runner: str) -> list[str]:
    """The state of a run, and what it says."""
    os.environ["OCSF_LAKE_TASK_RUNNER"] = runner
    days = LOGS.first, LOGS.last
    state = backfill("aws_cloudtrail", str(folder / "logs"), *days, lake=str(folder / lake), return_state=True)
    return [state.type.value, state.message or ""]


def main(folder: Path) -> None:
    """Runs everything in a folder."""
    os.environ |= SETTINGS
    LOGS.write(folder / "logs")
    told: dict[str, Any] = {}
    calls: dict[str, int] = {}

    def throttled(batch_ids: list[str], *given: Any) -> Summary:
        calls[batch_ids[0]] = calls.get(batch_ids[0], 0) + 1
        if calls[batch_ids[0]] < 3:
            raise RetriableError("slow down")
        return real_work(batch_ids, *given)

    def broken(batch_ids: list[str], *_: Any) -> Summary:
        calls[batch_ids[0]] = calls.get(batch_ids[0], 0) + 1
        raise ValueError("<b>a | defect</b>")

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        for runner in RUNNERS:
            told[runner] = run(folder, runner, runner)
        for how in (throttled, broken):
            calls.clear()
            ingest.work = how
            told[how.__name__] = [*run(folder, how.__name__, "threads"), sorted(calls.values())]
        ingest.work = real_work
        told["afterwards"] = run(folder, "broken", "threads")
        with get_client(sync_client=True) as client:
            found = client.read_artifacts()
            told["artifacts"] = [[item.key, item.type, item.data] for item in found]
            told["runs"] = sorted({item.name for item in client.read_flow_runs()})
    sys.stdout.write(json.dumps(told, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
