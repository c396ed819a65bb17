"""Batches side by side: on each task runner the same lake, tried again only where that may help."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.states import Failed
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from ocsf_lake import config
from ocsf_lake.flows import fanout
from ocsf_lake.flows.report import Report
from ocsf_lake.ingest.run import BatchFailure, Summary
from ocsf_mappers.errors import ConfigError, RetriableError, WriteError
from tests.flows import embedded
from tests.flows.embedded import DAYS, OBJECTS, RECORDS, RUNNERS
from tests.flows.support import environment
from tests.flows.test_secrets import SECRET
from tests.ocsf_lake.conftest import contents
from tests.servers.postgres import Postgres
from tests.support import PROJECT

SOME = [f"b{number}" for number in range(7)]


@pytest.mark.parametrize(("number", "most", "sizes"), [(0, 3, []), (2, 3, [1, 1]), (7, 3, [2, 2, 3]), (7, 7, [1] * 7)])
def test_batches_are_in_even_groups_and_each_in_one(number: int, most: int, sizes: list[int]) -> None:
    groups = fanout.grouped(SOME[:number], most)
    assert sorted(map(len, groups)) == sizes
    assert [item for group in groups for item in group] == SOME[:number]


@pytest.mark.parametrize(
    ("error", "again"),
    [(RetriableError("throttled"), True), (WriteError("full"), False), (ValueError("defect"), False)],
)
def test_only_errors_that_may_pass_are_tried_again(error: Exception, again: bool) -> None:
    assert fanout.retriable(fanout.work_batches, None, Failed(data=error)) is again  # type: ignore[arg-type]


def test_the_settings_name_the_task_runner() -> None:
    kinds = {"threads": ThreadPoolTaskRunner, "processes": ProcessPoolTaskRunner, "dask": DaskTaskRunner}
    for name, kind in kinds.items():
        assert isinstance(fanout.task_runner(config.load(task_runner=name)), kind)
    cluster = fanout.task_runner(config.load(task_runner="dask", dask_scheduler="tcp://dask:8786"))
    assert cluster.address == "tcp://dask:8786"


def test_dask_that_is_not_installed_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(ConfigError, match=r"ocsf-lake\[dask\]"):
        fanout.task_runner(config.load(task_runner="dask"))


def test_progress_is_told_as_batches_end_and_a_server_that_is_away_stops_none(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []

    def away(_: object, progress: float, __: str) -> None:
        told.append(progress)
        raise httpx.ConnectError("All connection attempts failed")

    monkeypatch.setattr(fanout, "create_progress_artifact", lambda *_: None)
    monkeypatch.setattr(fanout, "update_progress_artifact", away)
    monkeypatch.setattr(fanout, "SHOWN_SECONDS", 0.0)
    throttled = Summary(failures=[BatchFailure("c", "aws_vpc_flow", "slow down", True, "RetriableError")])
    ended = [("1", ["a"], Summary()), ("2", ["b", "c"], throttled), ("3", ["d"], BrokenExecutor())]
    runs = fanout._Runs("aws_vpc_flow", config.load(), Report("run", "aws_vpc_flow"), 4)
    monkeypatch.setattr(runs, "_ended", lambda _: iter(ended))
    assert (runs.side_by_side(["a", "b", "c", "d"]), runs.passing, told) == (["d"], ["c"], [25.0, 50.0, 50.0])


def test_processes_of_a_run_that_is_killed_end_with_it() -> None:
    """The output of this one ends when none of them can write to it any more, which Prefect's worker waits for, too."""
    program = (
        "import multiprocessing, os\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from ocsf_lake.flows.parent import end_with_it\n"
        "pool = ProcessPoolExecutor(2, multiprocessing.get_context('spawn'), initializer=end_with_it)\n"
        "assert pool.submit(os.getpid).result() != os.getpid()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, cwd=PROJECT, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


# -- on the embedded server -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def ran(folder: Path, postgres_server: Postgres) -> subprocess.CompletedProcess[str]:
    """tests/flows/embedded.py, also with a ledger that cannot be opened and with one that can."""
    kept = {name: value for name, value in environment().items() if not name.startswith("PREFECT_")}
    more = {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "400",  # CI may be busy
    }
    ledgers = [
        place.replace("postgres@", f"postgres:{SECRET}@")
        for place in (postgres_server.url("no_such_database"), postgres_server.database())
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.flows.embedded", str(folder), *ledgers],
        cwd=PROJECT, env={**kept, **more}, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def told(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What it prints."""
    found = json.loads(ran.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
@pytest.mark.integration
def test_every_task_runner_makes_the_same_lake(told: dict[str, Any], folder: Path) -> None:
    said = f"{RECORDS} records: {RECORDS} events, 0 quarantined, 0 dropped"
    for runner in RUNNERS:
        state, message = told[runner]
        assert (state, said in message) == ("COMPLETED", True), told[runner]
    first, *others = (contents(folder / runner) for runner in RUNNERS)
    assert first
    assert all(other == first for other in others)


@pytest.mark.slow
@pytest.mark.integration
def test_a_run_tells_what_the_lake_has_under_another_name(told: dict[str, Any]) -> None:
    copied = f"{OBJECTS} objects read a second time under another name"
    assert [copied in told[runner][1] for runner in (*RUNNERS, "copied")] == [False] * len(RUNNERS) + [True]


@pytest.mark.slow
@pytest.mark.integration
def test_a_throttled_batch_is_tried_again_and_counts_once(told: dict[str, Any]) -> None:
    state, message, calls = told["throttled"]
    assert state == "COMPLETED"
    assert f"{RECORDS} records" in message
    assert calls == [3] * (OBJECTS // int(embedded.SETTINGS["OCSF_LAKE_BATCH_OBJECTS"]))


@pytest.mark.slow
@pytest.mark.integration
def test_a_defect_fails_the_run_at_once_and_the_next_run_does_the_rest(told: dict[str, Any]) -> None:
    state, message, calls = told["broken"]
    assert state == "FAILED"
    assert "4 batches failed" in message
    assert calls == [1] * 4
    assert told["afterwards"][0] == "COMPLETED"
    assert f"{RECORDS} records" in told["afterwards"][1]


@pytest.mark.slow
@pytest.mark.integration
def test_an_object_that_ends_its_process_fails_no_other_batch_and_is_left_out(told: dict[str, Any]) -> None:
    """Two deaths are as many attempts; how a batch of several is divided: tests/ocsf_lake/test_attempts.py."""
    first, second = told["deadly"]
    assert (first[0], second[0]) == ("FAILED",) * 2
    assert "2 records: 2 events" in first[1]
    assert "1 batch failed" in first[1]
    assert "3 objects found, 2 known; 0 records" in second[1]
    assert "1 object failed" in second[1]


@pytest.mark.slow
@pytest.mark.integration
def test_a_run_leaves_progress_a_page_and_a_table_of_failures(told: dict[str, Any]) -> None:
    kinds = {kind for _, kind, _ in told["artifacts"]}
    assert kinds == {"progress", "markdown", "table"}
    tables = [(key, json.loads(data)) for key, kind, data in told["artifacts"] if kind == "table"]
    (failures,) = [rows for key, rows in tables if key == "failures-tiny"]
    assert {row["what"] for row in failures} == {"`batch`"}
    assert {row["reason"] for row in failures} == {"`<b>a | defect</b>`"}
    assert told["runs"] == [f"backfill {source} {DAYS[0]} to {DAYS[1]}" for source in ("acme", "tiny")]
    of_acme = [row for key, rows in tables if key == "failures-acme" for row in rows]
    (left_out,) = [row for row in of_acme if row["what"] == "`object`"]
    assert left_out["name"].endswith("1.json`")
    assert "the process ended" in left_out["reason"]


@pytest.mark.slow
@pytest.mark.integration
def test_the_server_and_the_log_of_a_run_hold_no_password(
    ran: subprocess.CompletedProcess[str], told: dict[str, Any], folder: Path
) -> None:
    """Of a run that cannot open its ledger, and of one that can: all that Prefect keeps, and all that it logs."""
    assert SECRET not in ran.stdout + ran.stderr
    assert [state for state, _ in told["ledgers"]] == ["FAILED", "COMPLETED"]
    assert "Traceback" in ran.stderr.split("--- a ledger")[1]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "prefect.db" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
