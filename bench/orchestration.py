"""What Prefect costs beside the work: the same batches as plain calls, and as flow runs on each task runner.

`python -m bench.orchestration` (a Prefect server must be named by PREFECT_API_URL, or an embedded one is started, whose
start is not counted). Each way is a process of its own. CPU seconds are of the process and its children, the server not
among them: they can be compared on a busy machine, wall seconds cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from bench.generate import Parameters, generate

WAYS = {
    "plain calls, 1 worker": ("plain", 1),
    "plain calls, 2 workers": ("plain", 2),
    "threads, 1 worker": ("threads", 1),
    "threads, 2 workers": ("threads", 2),
    "processes, 2 workers": ("processes", 2),
    "dask, 2 workers": ("dask", 2),
}
DAYS = date(2000, 1, 1), date(2099, 12, 31)


def main() -> None:
    """Makes logs, runs each way, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("bench_orchestration"))
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        json.dump(_measured(given.folder, *WAYS[given.way]), sys.stdout)
        return
    data = generate(given.folder / "logs", Parameters(given.records, 0, 0, 0))["cloudtrail"]
    size = data.gzip_bytes // given.batches
    os.environ |= {"OCSF_LAKE_BATCH_BYTES": str(size), "PREFECT_LOGGING_LEVEL": "ERROR"}
    sys.stdout.write(f"{data.describe('record')}, batches of {size / 1e6:.1f} MB\n\n")
    sys.stdout.write(
        "| way | batches | wall s | CPU s | CPU s a batch | above plain calls |\n|---|---:|---:|---:|---:|---:|\n"
    )
    plain: dict[int, float] = {}
    for name, (_, workers) in WAYS.items():
        command = [sys.executable, "-m", "bench.orchestration", "--folder", str(given.folder), "--way", name]
        cost = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
        each = cost["cpu"] / cost["batches"]
        more = each / plain.setdefault(workers, each) - 1
        row = f"| {name} | {cost['batches']} | {cost['wall']:.1f} | {cost['cpu']:.1f} | {each:.2f} | {more:+.1%} |\n"
        sys.stdout.write(row)
        sys.stdout.flush()


def _measured(folder: Path, runner: str, workers: int) -> dict[str, Any]:
    """Runs one way in this process."""
    from ocsf_lake import config
    from ocsf_lake import lake as lakes

    lake, logs = folder / "lake", str((folder / "logs").absolute())
    shutil.rmtree(lake, ignore_errors=True)
    if runner == "plain":
        from ocsf_lake.ingest import run as ingest

        settings = config.load(lake=str(lake), workers=workers)
        planned = ingest.plan([logs], settings, "aws_cloudtrail")
        with _counted() as cost:
            ingest.work(planned.batch_ids, settings)
    else:
        os.environ |= {"OCSF_LAKE_TASK_RUNNER": runner, "OCSF_LAKE_WORKERS": str(workers)}
        from prefect import flow

        from ocsf_lake.flows import fanout
        from ocsf_lake.flows.report import Report
        from ocsf_lake.ingest import run as ingest

        settings = config.load(lake=str(lake))
        planned = ingest.plan([logs], settings, "aws_cloudtrail")

        @flow
        def batches() -> None:
            """What every flow of this project does once its batches are planned."""
            with _counted() as cost:
                report = Report.of("bench", "aws_cloudtrail", planned)
                fanout.work("aws_cloudtrail", planned.batch_ids, settings, report)
                assert not report.failures, report.failures
            flow_cost.update(cost)

        flow_cost: dict[str, Any] = {}
        batches()
        cost = flow_cost
    with lakes.opened(settings) as opened:
        assert not opened.ledger.rows()
    return {**cost, "batches": len(planned.batch_ids)}


@contextmanager
def _counted() -> Iterator[dict[str, float]]:
    """Wall and CPU seconds of the block, children that have ended within it included."""
    cost: dict[str, float] = {}
    began, before = time.perf_counter(), _cpu()
    yield cost
    cost.update(wall=time.perf_counter() - began, cpu=_cpu() - before)


def _cpu() -> float:
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, kinds))


if __name__ == "__main__":
    main()
