"""Flows on a real Prefect server with a real PostgreSQL: deployed, scheduled, run by workers, killed, run again."""

from __future__ import annotations

import contextvars
import copy
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import yaml
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from ocsf_lake import config
from ocsf_lake import lake as lakes
from ocsf_lake.flows import deployments, fanout
from ocsf_lake.flows.compact import compact
from ocsf_lake.flows.expire_snapshots import expire_snapshots
from ocsf_lake.flows.export import export
from ocsf_lake.flows.replay_quarantine import replay_quarantine
from ocsf_lake.flows.report import Report
from ocsf_lake.flows.retain import retain
from ocsf_lake.flows.sync_catalog import check_catalog
from ocsf_lake.flows.watch import watch
from ocsf_lake.ingest import run as ingest
from ocsf_lake.ingest.run import Summary
from ocsf_lake.ledger.results import State
from ocsf_lake.query import query as lake_query
from ocsf_lake.storage.objects import ObjectRef
from ocsf_mappers.errors import ConfigError
from tests.flows.conftest import RunCommand
from tests.ocsf_lake import compacting
from tests.organization import Organization
from tests.servers import prefect as servers
from tests.servers.postgres import Postgres
from tests.servers.prefect import Server, until
from tests.support import PROJECT

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DEPLOY = PROJECT / "deploy"
DEPLOY_COMMAND = "ocsf-lake deploy deploy/prefect.yaml --automations deploy/automations.yaml"
PATIENCE = 400
"""Seconds until a test gives up on a server; a machine that does nothing else needs a tenth of it."""
SILENCE = servers.HEARTBEAT_SECONDS + 15
"""After so many seconds without a heartbeat a run counts as dead here."""


@pytest.fixture(scope="module")
def server(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    database = postgres_server.database().replace("postgresql:", "postgresql+asyncpg:")
    with servers.started(tmp_path_factory.mktemp("prefect"), database) as found:
        yield found


@pytest.fixture(scope="module")
def lake(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a lake whose ledger is in PostgreSQL."""
    return {
        "OCSF_LAKE_LAKE": str(tmp_path_factory.mktemp("lake")),
        "OCSF_LAKE_LEDGER_URL": postgres_server.database(),
        "OCSF_LAKE_BATCH_OBJECTS": "20",
        "OCSF_LAKE_WORKERS": "1",
    }


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Organization:
    """Today's log of an organisation, in the folder that CLOUDTRAIL_URI names."""
    return Organization(accounts=2, regions=1, first=datetime.now(UTC).date(), days=1, objects=5)


@pytest.fixture(scope="module")
def alerts(server: Server) -> Iterator[list[dict[str, str]]]:
    """What is sent to the notification block custom-webhook/oncall."""
    heard: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        said = {"subject": "{{subject}}", "body": "{{body}}"}
        with temporary_settings({PREFECT_API_URL: server.url}):
            url = f"http://127.0.0.1:{hook.server_port}/"
            CustomWebhookNotificationBlock(name="oncall", url=url, json_data=said).save("oncall")
        yield heard
        hook.shutdown()


@pytest.fixture(scope="module")
def wanted() -> dict[str, Any]:
    """deploy/prefect.yaml, with CloudTrail every few seconds and the rest at night."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))
    never = (datetime.now(UTC).hour + 12) % 24
    # The others have the same form, which tests/deploy looks at; a deployment takes a second.
    names = {"aws_cloudtrail", "aws_cloudtrail-sweep", "backfill", "resume", "watch"}
    found["deployments"] = [item for item in found["deployments"] if item["name"] in names]
    for item in found["deployments"]:
        if item["name"] == "aws_cloudtrail":
            item["schedules"] = [{"interval": 10, "slug": "often"}]
        elif "schedules" in item:
            item["schedules"][0]["cron"] = f"H {never} * * *"
    return found


@pytest.fixture(scope="module")
def deployed(
    server: Server, live: Organization, lake: dict[str, str], alerts: list[dict[str, str]], wanted: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    """All that deploy/ has for a server is on it; gives the folder of CloudTrail's logs."""
    logs = live.write(tmp_path_factory.mktemp("live"))
    automations = yaml.safe_load((DEPLOY / "automations.yaml").read_text(encoding="utf-8"))
    (dead,) = [item for item in automations["automations"] if item["name"].endswith("whose worker died")]
    dead["trigger"]["within"] = SILENCE
    (server.folder / "deploy").mkdir()
    for name, content in (("prefect.yaml", wanted), ("automations.yaml", automations)):
        (server.folder / "deploy" / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copy(DEPLOY / "prefect.env", server.folder / "deploy")
    command = [*DEPLOY_COMMAND.split(), "--alerts", "custom-webhook/oncall"]
    server.run(*command, CLOUDTRAIL_URI=str(logs), OCSF_LAKE_LAKE=lake["OCSF_LAKE_LAKE"])
    return logs


def runs(server: Server, flow: str, *states: str) -> list[dict[str, Any]]:
    """Runs of a flow that are in one of these states."""
    return server.flow_runs(
        flows={"name": {"any_": [flow]}}, flow_runs={"state": {"type": {"any_": list(states)}}}, sort="START_TIME_ASC"
    )


def query(lake: dict[str, str], sql: str) -> list[tuple[Any, ...]]:
    """Rows of the ledger."""
    url = lake["OCSF_LAKE_LEDGER_URL"].replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if not connection.scalar(sa.text("SELECT to_regclass('ocsf_ledger.objects')")):
            return [(0,)]  # no worker has opened the lake so far
        connection.execute(sa.text("SET search_path TO ocsf_ledger"))
        return [tuple(row) for row in connection.execute(sa.text(sql))]


def asked(lake: dict[str, str], sql: str) -> list[tuple[Any, ...]]:
    """Rows of the lake."""
    settings = config.load(lake=lake["OCSF_LAKE_LAKE"], ledger_url=lake.get("OCSF_LAKE_LEDGER_URL"))
    with lake_query.connected(settings) as connection:
        return list(connection.sql(sql).fetchall())


def left_in(server: Server, state: str, **ended: str) -> str:
    """The id of a run that came to this state and then ended so, or whose worker died before the first heartbeat."""
    flow = server.post("/flows/", {"name": "backfill"})["id"]
    waiting = {"flow_id": flow, "tags": ["ocsf-lake"], "state": {"type": "SCHEDULED"}}
    run = str(server.post("/flow_runs/", waiting)["id"])
    for wanted in [{"type": state}, *([ended] if ended else [])]:
        assert server.post(f"/flow_runs/{run}/set_state", {"state": wanted})["status"] == "ACCEPT"
    return run


def kill(process: Any) -> None:
    """Ends a worker and the runs that it started, as a machine that loses its power does."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()


# -- schedules --------------------------------------------------------------------------------------------------------
def test_a_receiver_may_be_a_block_of_the_server(server: Server, alerts: list[dict[str, str]]) -> None:
    receivers = '{"receivers": [{"name": "oncall", "kind": "block", "block": "custom-webhook/oncall"}]}'
    before = len(alerts)
    server.run("ocsf-lake", "alerts", "test", OCSF_LAKE_ALERTS=receivers)
    assert [one["subject"] for one in alerts[before:]] == ["[informational] A test of alerts: nothing was found"]


def test_runs_are_scheduled_after_a_deploy_at_minutes_of_their_own(
    server: Server, deployed: Path, lake: dict[str, str], wanted: dict[str, Any]
) -> None:
    """Prefect 3.8 with SQLAlchemy 2.1 schedules none and says nothing; see pyproject.toml."""
    expected = copy.deepcopy([item for item in wanted["deployments"] if "schedules" in item])
    deployments.spread(expected, lake["OCSF_LAKE_LAKE"])
    crons = {item["name"]: item["schedules"][0].get("cron") for item in expected}
    names = {item["id"]: item["name"] for item in server.post("/deployments/filter")}

    def scheduled() -> dict[str, set[str]] | None:
        found: dict[str, set[str]] = {}
        for run in server.flow_runs(flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}):
            found.setdefault(names[run["deployment_id"]], set()).add(run["expected_start_time"][11:16])
        return found if crons.keys() <= found.keys() else None

    found = until(scheduled, PATIENCE, "scheduled runs of every deployment with a schedule")
    hashed = {name: cron.split() for name, cron in crons.items() if cron}
    assert len(hashed) == 3
    for name, (minute, hour, *_) in hashed.items():
        assert found[name] == {f"{int(hour):02d}:{int(minute):02d}"}
    assert len({minute for minute, *_ in hashed.values()}) > 1


def test_deploying_again_makes_no_automation_twice(server: Server, deployed: Path) -> None:
    def there() -> list[str]:
        return sorted(item["name"] for item in server.post("/automations/filter"))

    before = there()
    assert "ocsf-lake: a source is silent" in before
    with temporary_settings({PREFECT_API_URL: server.url}):
        deployments.automate(server.folder / "deploy/automations.yaml", "custom-webhook/oncall", lambda _: None)
        assert there() == before
        with pytest.raises(ConfigError, match="no notification block 'slack-webhook/nobody'"):
            deployments.automate(DEPLOY / "automations.yaml", "slack-webhook/nobody", lambda _: None)
    assert there() == before


def test_what_a_file_no_longer_has_is_deleted_or_named(server: Server, deployed: Path, wanted: dict[str, Any]) -> None:
    def watching() -> dict[str, Any]:
        (found,) = [item for item in server.post("/deployments/filter") if item["name"] == "watch"]
        return dict(found)

    former = {"slug": "former", "active": True, "schedule": {"cron": "0 3 * * *"}}
    server.post(f"/deployments/{watching()['id']}/schedules", [former])
    without = [item for item in wanted["deployments"] if item["name"] not in ("aws_cloudtrail", "backfill")]
    said: list[str] = []
    with temporary_settings({PREFECT_API_URL: server.url}):
        deployments.tidy(without, said.append)
    assert [line.partition("; ")[0] for line in sorted(said)] == [
        "not in the file, but still scheduled: ingest/aws_cloudtrail",
        "schedule former of watch/watch is not in the file, and was deleted",
    ]
    assert [schedule["slug"] for schedule in watching()["schedules"]] == ["every-15-minutes"]


def test_a_worker_does_what_the_schedule_wants(
    server: Server, deployed: Path, live: Organization, lake: dict[str, str]
) -> None:
    worker = server.worker("live", "live", **lake)
    try:
        done = until(lambda: runs(server, "ingest", "COMPLETED", "FAILED"), PATIENCE, "a scheduled run to end")[0]
    finally:
        servers.end(worker)
    assert done["state_type"] == "COMPLETED", done["state"]
    assert "auto-scheduled" in done["tags"]
    assert done["name"].startswith("ingest aws_cloudtrail 20")
    assert query(lake, "SELECT count(*) FROM objects WHERE state = 'done'") == [(live.of_objects,)]
    assert query(lake, "SELECT sum(read), sum(events) FROM batches") == [(live.of_records, live.of_records)]
    artifacts = server.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [done["id"]]}}})
    kinds = {item["type"]: item["data"] for item in artifacts}
    assert kinds["progress"] == 100.0
    assert f"{live.of_records} records: {live.of_records} events" in kinds["markdown"]
    assert "table" not in kinds


# -- backfill ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class History:
    """A backfill to do.

    Args:
        logs: What there is.
        batch_objects: Objects of a batch.
        days: Of one run.
        kills: How often all workers are killed.
        after: Workers after that; there are two before.
        patience: Seconds for each step.
    """

    logs: Organization
    batch_objects: int
    days: int
    kills: int
    after: int
    patience: float


WEEK = History(
    Organization(3, 2, date(2026, 3, 1), days=6, objects=6), batch_objects=20, days=3, kills=1, after=1,
    patience=PATIENCE,
)  # fmt: skip
MONTH = History(
    Organization(20, 4, date(2026, 5, 1), days=30, objects=9), batch_objects=400, days=3, kills=3, after=2,
    patience=1_800,
)  # fmt: skip


def backfilled(history: History, server: Server, lake: dict[str, str], folder: Path) -> set[str]:
    """Does a backfill whose workers are killed on the way; gives the runs that died, two of them before."""
    logs = history.logs
    logs.write(folder)
    lake = {**lake, "OCSF_LAKE_BATCH_OBJECTS": f"{history.batch_objects}"}
    command = (
        "ocsf-lake", "backfill", "aws_cloudtrail", str(folder), "--from", f"{logs.first}", "--to", f"{logs.last}",
        "--remote", "--days-per-run", f"{history.days}",
    )  # fmt: skip

    def done() -> int:
        mine = f"SELECT count(*) FROM objects WHERE state = 'done' AND uri LIKE 'file://{folder}%'"
        return int(query(lake, mine)[0][0])

    began = time.monotonic()
    killed = {left_in(server, "PENDING"), left_in(server, "RUNNING")}
    workers = [server.worker(f"first{number}", "backfill", **lake) for number in range(2)]
    try:
        submitted = json.loads(server.run(*command, "--json", **lake))
        assert (submitted["estimate"]["objects"], submitted["estimate"]["known"]) == (logs.of_objects, 0)
        assert [run["new"] for run in submitted["runs"]] == [True] * -(-logs.days // history.days)
        with temporary_settings({PREFECT_API_URL: server.url}):  # which forgets what it heard of runs
            deployments.automate(server.folder / "deploy/automations.yaml", "custom-webhook/oncall", lambda _: None)
        for kills in range(history.kills):
            until(
                lambda: done() > logs.of_objects * kills // (history.kills + 1),  # noqa: B023 - asked in this round
                history.patience, "more of the backfill to be done",
            )  # fmt: skip
            for worker in workers:
                kill(worker)
            found = {run["id"] for run in runs(server, "backfill", "RUNNING") if run["deployment_id"]}
            assert found - killed
            killed |= found
            assert done() < logs.of_objects
            workers = [server.worker(f"{kills}after{number}", "backfill", **lake) for number in range(history.after)]
            server.run(*command, **lake)
        until(lambda: done() == logs.of_objects, history.patience, "the backfill to be done")
    finally:
        for worker in workers:
            servers.end(worker)
    took = time.monotonic() - began
    print(f"{logs.of_objects:,} objects, {logs.of_records:,} records, {2 * history.kills} kills, {took:,.0f} seconds")
    return killed


def counted(history: History, lake: dict[str, str]) -> None:
    """Holds that each record is in the lake once."""
    logs = history.logs
    days = f"eventday BETWEEN '{logs.first:%Y%m%d}' AND '{logs.last:%Y%m%d}'"
    counts = "count(*), count(DISTINCT metadata.uid), count(DISTINCT source_object)"
    rows = asked(lake, f"SELECT {counts} FROM cloud_trail_mgmt_2_0 WHERE {days}")
    assert rows == [(logs.of_records, logs.of_records, logs.of_objects)]
    assert query(lake, "SELECT count(*) FROM batches WHERE state <> 'done'") == [(0,)]


def crashed(server: Server, killed: set[str]) -> None:
    """Waits until the automation has marked all these runs."""

    def are_marked() -> bool:
        found = runs(server, "backfill", "CRASHED")
        return killed <= {run["id"] for run in found if "No heartbeat" in (run["state"]["message"] or "")}

    until(are_marked, PATIENCE, "the automation that marks the killed runs as crashed")


@pytest.fixture(scope="module")
def killed(
    server: Server, deployed: Path, lake: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> set[str]:
    """The runs that were killed in a week's backfill, and how it went on: see the last test."""
    return backfilled(WEEK, server, lake, tmp_path_factory.mktemp("history"))


def test_a_backfill_survives_killed_workers_and_counts_each_record_once(
    killed: set[str], lake: dict[str, str]
) -> None:
    assert len(killed) > 2
    counted(WEEK, lake)


@pytest.mark.acceptance
def test_a_backfill_of_a_month_does_so_too(
    server: Server, deployed: Path, lake: dict[str, str], tmp_path: Path
) -> None:
    found = backfilled(MONTH, server, lake, tmp_path / "history")
    counted(MONTH, lake)
    crashed(server, found)


def test_the_catalog_is_checked_by_a_flow(
    server: Server, live: Organization, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCSF_LAKE_LAKE", str(tmp_path / "lake"))
    ingest.ingest([str(live.write(tmp_path / "logs"))], config.load())
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        assert check_catalog(return_state=True).is_completed()
        file = next((tmp_path / "lake").rglob("*.parquet"))
        hidden = file.rename(file.with_suffix(".hidden"))
        state = check_catalog(return_state=True)
        hidden.rename(file)
        assert check_catalog(repair=True, return_state=True).is_completed()
    assert state.is_failed()
    assert "catalog sync" in state.message


def test_a_lake_is_compacted_by_a_flow(server: Server, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    compacting.take(tmp_path / "logs", config.load(lake=str(lake)), 0, 1, 2)
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = compact(older_than="1d", lake=str(lake), return_state=True)
    assert state.is_completed()
    assert state.message == "3 files of 1 partition became 1"
    found = asked({"OCSF_LAKE_LAKE": str(lake)}, "SELECT count(*), count(DISTINCT metadata.uid) FROM cloud_trail_mgmt")
    assert found == [(3 * compacting.EACH, 3 * compacting.EACH)]


def test_snapshots_expire_by_a_flow(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCSF_LAKE_CATALOGS", '["iceberg"]')
    lake = tmp_path / "lake"
    compacting.take(tmp_path / "logs", config.load(lake=str(lake)), 0, 1, 2)
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = expire_snapshots(older_than="0h", lake=str(lake), return_state=True)
    assert state.is_completed()
    assert state.message == "2 snapshots expired, 0 files of metadata removed (0 B)"


def test_events_go_by_a_flow(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = tmp_path / "lake"
    compacting.take(tmp_path / "logs", config.load(lake=str(lake)), 0)
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = retain(lake=str(lake), return_state=True)
        assert state.message.startswith("no retention is set, so nothing is removed")
        monkeypatch.setenv("OCSF_LAKE_RETENTION", '{"default": "30d"}')
        state = retain(lake=str(lake), return_state=True)
    assert state.is_completed()
    assert state.message.startswith(f"{compacting.EACH} events of 1 partition removed")
    assert asked({"OCSF_LAKE_LAKE": str(lake)}, "SELECT count(*) FROM cloud_trail_mgmt") == [(0,)]


def test_quarantine_is_replayed_by_a_flow(server: Server, ready_lake: Path) -> None:
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = replay_quarantine(again=True, lake=str(ready_lake), return_state=True)
    assert state.is_completed()
    assert (state.message or "").startswith("0 records became events, 1 refused again")


def test_events_are_exported_by_a_flow(server: Server, ready_lake: Path, tmp_path: Path) -> None:
    bucket = f"{tmp_path}/aws-security-data-lake-eu-west-1-test"
    lake = shutil.copytree(ready_lake, tmp_path / "lake")
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        first, again = (
            export("aws_vpc_flow", bucket, "flows", lake=str(lake), return_state=True) for _ in range(2)
        )
    assert first.is_completed()
    ((flows,),) = asked({"OCSF_LAKE_LAKE": str(lake)}, "SELECT count(*) FROM vpc_flow")
    assert re.match(rf"{flows} events in \d+ objects? sent to file://{bucket}/ext/flows", first.message or "")
    assert (again.message or "").startswith("0 events in 0 objects")


# -- limits -----------------------------------------------------------------------------------------------------------
def test_a_limit_on_a_source_s_tag_holds_over_all_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `prefect gcl create tag:aws_cloudtrail --limit 4` makes, for a tag of its own."""
    met: list[bool] = []
    together = threading.Barrier(2)

    def work(batch_ids: list[str], _: object) -> Summary:
        try:
            together.wait(1 if batch_ids == ["limited"] else PATIENCE)
            met.append(True)
        except threading.BrokenBarrierError:
            met.append(False)
            together.reset()
        return Summary()

    @flow
    def one_batch(source: str) -> None:
        report = Report("one", source)
        fanout.work(source, [source], config.load(), report)
        assert not report.failures

    def two_runs(source: str) -> list[bool]:
        met.clear()
        with ThreadPoolExecutor(2) as pool:
            for run in [pool.submit(contextvars.copy_context().run, one_batch, source) for _ in range(2)]:
                run.result()
        return met

    monkeypatch.setattr(ingest, "work", work)
    server.post("/v2/concurrency_limits/", {"name": "tag:limited", "limit": 1})
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        assert two_runs("free") == [True, True]
        assert two_runs("limited") == [False, False]
    wanted = {"names": ["tag:limited"], "slots": 1, "mode": "concurrency", "lease_duration": 60}
    lease = server.post("/v2/concurrency_limits/increment-with-lease", wanted)["lease_id"]
    assert (server.folder / "concurrency_leases" / f"{lease}.json").exists()  # a server that starts again knows of it


# -- alerts -----------------------------------------------------------------------------------------------------------
def test_what_watch_finds_is_sent_to_the_notification_block(
    server: Server, deployed: Path, alerts: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = [str(tmp_path / name) for name in ("lake", "other")]
    for lake in found:
        monkeypatch.setenv("OCSF_LAKE_LAKE", lake)
        with lakes.opened(config.load()) as opened:
            opened.ledger.note([ObjectRef("s3://logs/gone", "e", 1)], State.FAILED, "gone", "aws_cloudtrail")
        with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            state = watch(return_state=True)
        assert (state.name, state.message) == ("Findings", "1 finding")

    def bodies() -> list[str]:
        return sorted(item["body"] for item in alerts if item["subject"] == "ocsf-lake: batches failed")

    until(lambda: len(bodies()) == len(found), PATIENCE, "the alert of each lake")
    assert [body.partition(": 1 object")[0] for body in bodies()] == [f"aws_cloudtrail of {lake}" for lake in found]


def of_failed_runs(alerts: list[dict[str, str]]) -> list[str]:
    """The reasons in the alerts of failed runs."""
    return [item["body"].partition(": ")[2] for item in alerts if item["subject"] == "ocsf-lake: a run failed"]


def test_runs_that_end_badly_are_told_and_others_are_not(
    server: Server, deployed: Path, alerts: list[dict[str, str]]
) -> None:
    endings = [("FAILED", "Failed"), ("FAILED", "TimedOut"), ("FAILED", "Quarantined"), ("CRASHED", "Quarantined")]
    for kind, name in [("COMPLETED", "Findings"), *endings]:
        left_in(server, "RUNNING", type=kind, name=name, message=f"{kind} as {name}")

    def told() -> list[str]:
        return sorted(reason for reason in of_failed_runs(alerts) if " as " in reason)

    until(lambda: len(told()) >= len(endings), PATIENCE, "an alert of each of them")
    assert told() == sorted(f"{kind} as {name}" for kind, name in endings)


# -- a project of one's own -------------------------------------------------------------------------------------------
def test_a_project_laid_down_by_init_is_deployed_and_its_own_flow_runs(
    server: Server, live: Organization, ocsf_lake: RunCommand, tmp_path: Path
) -> None:
    """As its files say: deployed from within its folder, one deployment changed to the flow that is there to change."""
    logs = live.write(tmp_path / "logs")
    assert ocsf_lake("init", str(tmp_path / "project")).code == 0
    file = tmp_path / "project" / "deploy" / "prefect.yaml"
    text = file.read_text(encoding="utf-8").replace("work_queue_name: live", "work_queue_name: project")
    wanted = yaml.safe_load(text)
    (ingesting,) = [item for item in wanted["deployments"] if item["name"] == "aws_cloudtrail"]
    documented = re.findall(r"^    (\S+: .*)$", (tmp_path / "project/flows/own.py").read_text(), re.MULTILINE)[:2]
    own = yaml.safe_load("\n".join(documented).replace("/srv/this-project", str(tmp_path / "project")))
    assert own.keys() == {"entrypoint", "pull"}
    ingesting |= own | {"name": "own", "schedules": []}
    (watching,) = [item for item in wanted["deployments"] if item["name"] == "watch"]
    watching |= {"name": "watch-project", "schedules": []}
    wanted["deployments"] = [ingesting, watching]
    file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    said = server.run("bash", "-euc", 'cd "$0" && ocsf-lake deploy', str(file.parents[1]), CLOUDTRAIL_URI=str(logs))
    assert said == ""
    (own_id,) = [item["id"] for item in server.post("/deployments/filter") if item["name"] == "own"]
    own_run = server.post(f"/deployments/{own_id}/create_flow_run")["id"]
    lake = {"OCSF_LAKE_LAKE": str(tmp_path / "lake")}
    server.run(sys.executable, "-m", "prefect.engine", own_run, **lake)  # as workers do
    (ended,) = server.flow_runs(flow_runs={"id": {"any_": [own_run]}})
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert asked(lake, "SELECT count(*) FROM cloud_trail_mgmt") == [(live.of_records,)]


# -- the documentation's commands -------------------------------------------------------------------------------------
def test_the_commands_of_the_page_run_as_they_are_written(server: Server, deployed: Path, lake: dict[str, str]) -> None:
    page = (PROJECT / "docs/production.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith("export ")]
    elsewhere = [line for line in lines if re.match(r"prefect (?:server|worker) start", line) or line == DEPLOY_COMMAND]
    assert len(elsewhere) == 3  # the fixtures run those, on ports and in folders of their own
    for line in lines:
        if line not in elsewhere:
            server.run("bash", "-euc", line, **lake, CLOUDTRAIL_URI=str(deployed))


# -- at last ----------------------------------------------------------------------------------------------------------
def test_runs_that_were_killed_are_marked_as_crashed_and_told(
    server: Server, killed: set[str], alerts: list[dict[str, str]]
) -> None:
    """It takes as long as a living run may be silent; the tests before this one need not wait for it."""
    crashed(server, killed)
    until(lambda: any("No heartbeat" in reason for reason in of_failed_runs(alerts)), PATIENCE, "an alert of it")
    failed = {"filter": {"event": {"prefix": ["prefect.automation.action.failed"]}}}
    assert server.post("/events/filter", failed)["events"] == []
