"""Flows on Prefect's embedded server, as a process of its own: prints in JSON what became of them.

`python -m tests.flows.embedded FOLDER LEDGER...`
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from ocsf_lake.flows.backfill import backfill
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.run import Summary
from ocsf_mappers.errors import RetriableError

TINY = Path(__file__).parents[1] / "tiny"
"""The folder of the source `tiny`. No module of the tests is imported here: each process would import it again."""
DAYS = date(2026, 3, 1), date(2026, 3, 2)
OBJECTS = 16
RECORDS = 2 * OBJECTS
SETTINGS = {
    "OCSF_LAKE_ATTEMPTS": "2",
    "OCSF_LAKE_BATCH_OBJECTS": "4",
    "OCSF_LAKE_RETRIES": "2",
    "OCSF_LAKE_RETRY_SECONDS": "0",
}
RUNNERS = ("threads", "processes", "dask")
real_work = ingest.work


def run(folder: Path, lake: str, runner: str, source: str = "tiny", logs: str = "logs") -> list[str]:
    """The state of a run, and what it says."""
    os.environ["OCSF_LAKE_TASK_RUNNER"] = runner
    state = backfill(source, str(folder / logs), *DAYS, lake=str(folder / lake), return_state=True)
    return [state.type.value, state.message or ""]


def record(name: str, day: date = DAYS[0]) -> dict[str, str]:
    """A record of the source `tiny`."""
    return {"id": name, "at": f"{day}T09:00:00Z", "account": "111122223333"}


DEADLY = '''
import dataclasses, os, signal
from ocsf_mappers import JsonRecords
from tiny_source import MAPPER as TINY

class Deadly(JsonRecords):
    def read(self, blocks):
        if b"deadly" in blocks.head:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(blocks)

MAPPER = dataclasses.replace(TINY, name="acme", readers=[Deadly()])
'''


def install(folder: Path) -> None:
    """Two sources, here and in the processes that are started: `tiny`, and `acme` whose reader ends the process."""
    package = folder / "package"
    about = package / "acme-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[ocsf_lake.sources]\nacme = acme_source:MAPPER\n")
    (package / "acme_source.py").write_text(DEADLY)
    sys.path += [str(package), str(TINY)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(package), str(TINY), os.environ.get("PYTHONPATH", "")])


def write_logs(folder: Path) -> None:
    """Logs of both sources, of `tiny` two records in each object; the second one of `acme` is deadly."""
    for source in ("logs", "acme"):
        (folder / source).mkdir()
    for number in range(OBJECTS):
        records = [record(f"{number}-{day}", day) for day in DAYS]
        (folder / f"logs/{number}.json").write_text(json.dumps({"Tiny": records}))
    for number, name in enumerate(("before", "deadly", "after")):
        (folder / f"acme/{number}.json").write_text(json.dumps(record(name)))


def main(folder: Path, ledgers: list[str]) -> None:
    """Runs everything in a folder, and one run for each of the ledgers, whose URLs hold a password."""
    os.environ |= SETTINGS
    install(folder)
    write_logs(folder)
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
            os.environ["OCSF_LAKE_WORKERS"] = "1" if runner == "dask" else "2"  # processes show what side by side does
            told[runner] = run(folder, runner, runner)
        for how in (throttled, broken):
            calls.clear()
            ingest.work = how
            told[how.__name__] = [*run(folder, how.__name__, "threads"), sorted(calls.values())]
        ingest.work = real_work
        told["afterwards"] = run(folder, "broken", "threads")
        shutil.copytree(folder / "logs", folder / "copies")
        told["copied"] = run(folder, "throttled", "threads", logs="copies")
        for ledger in ledgers:
            os.environ["OCSF_LAKE_LEDGER_URL"] = ledger
            sys.stderr.write("--- a ledger\n")
            told.setdefault("ledgers", []).append(run(folder, "ledgers", "threads"))
        del os.environ["OCSF_LAKE_LEDGER_URL"]
        # Each death costs a new process, which imports everything.
        os.environ |= {"OCSF_LAKE_WORKERS": "1", "OCSF_LAKE_BATCH_OBJECTS": "1"}
        told["deadly"] = [run(folder, "deadly", "processes", "acme", "acme") for _ in range(2)]
        with get_client(sync_client=True) as client:
            found = client.read_artifacts()
            told["artifacts"] = [[item.key, item.type, item.data] for item in found if item.key]
            told["runs"] = sorted({item.name for item in client.read_flow_runs()})
    sys.stdout.write(json.dumps(told, default=str))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
