"""Flows on a real Prefect server with a real PostgreSQL: deployed, scheduled, run by workers, killed, run again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows import deployments
from flows.sync_catalog import check_catalog
from lake import config
from lake import query as lake_query
from tests.organization import Organization
from tests.servers import prefect as servers
from tests.servers.postgres import Postgres
from tests.servers.prefect import Server, until
from tests.support import PROJECT

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("prefect")]

DEPLOY = PROJECT / "deploy"
PATIENCE = 240
"""Seconds until a test gives up on a server; a machine that does nothing else needs a tenth of it."""
HISTORY = Organization(accounts=3, regions=2, first=date(2026, 3, 1), days=6, objects=6)


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
def deployed(server: Server, live: Organization, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """deploy/prefect.yaml on the server, with one run of CloudTrail soon; gives the folder of its logs."""
    logs = live.write(tmp_path_factory.mktemp("live"))
    wanted = yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))
    soon = datetime.now(UTC) + timedelta(seconds=20)
    for item in wanted["deployments"]:
        if item["name"] == "aws_cloudtrail":
            item["schedules"] = [{"interval": 30 * 86_400, "anchor_date": soon.isoformat(), "slug": "soon"}]
        elif "schedules" in item:
            item["schedules"][0]["cron"] = f"0 {(soon.hour + 12) % 24} * * *"
    file = server.folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
    places = {"CLOUDTRAIL_URI": str(logs), "VPC_FLOW_URI": str(logs)}
    server.run("ocsf-lake", "deploy", str(file), "--automations", str(DEPLOY / "automations.yaml"), **places)
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
    settings = config.load(lake=lake["OCSF_LAKE_LAKE"], ledger_url=lake["OCSF_LAKE_LEDGER_URL"])
    with lake_query.connected(settings) as connection:
        return list(connection.sql(sql).fetchall())


def kill(process: Any) -> None:
    """Ends a worker and the runs that it started, as a machine that loses its power does."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.kill()
    process.wait()


# -- schedules --------------------------------------------------------------------------------------------------------
def test_runs_are_scheduled_after_a_deploy(server: Server, deployed: Path) -> None:
    """Prefect 3.8 with SQLAlchemy 2.1 schedules none and says nothing; see pyproject.toml."""
    expected = {
        item["name"]
        for item in yaml.safe_load((DEPLOY / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
        if "schedules" in item
    }

    def scheduled() -> bool:
        found = server.flow_runs(flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})
        ids = {run["deployment_id"] for run in found}
        return expected <= {item["name"] for item in server.post("/deployments/filter") if item["id"] in ids}

    until(scheduled, PATIENCE, "scheduled runs of every deployment with a schedule")


def test_deploying_again_makes_no_automation_twice(server: Server, deployed: Path) -> None:
    def there() -> list[str]:
        return sorted(item["name"] for item in server.post("/automations/filter"))

    before = there()
    assert "ocsf-lake: a source is silent" in before
    with temporary_settings({PREFECT_API_URL: server.url}):
        deployments.automate(DEPLOY / "automations.yaml", None, lambda _: None)
    assert there() == before


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
def test_a_backfill_survives_a_killed_worker_and_counts_each_record_once(
    server: Server, deployed: Path, lake: dict[str, str], tmp_path: Path
) -> None:
    logs = HISTORY.write(tmp_path / "history")
    mine = f"uri LIKE 'file://{logs}%'"
    command = (
        "ocsf-lake", "backfill", "aws_cloudtrail", str(logs), "--from", f"{HISTORY.first}", "--to", f"{HISTORY.last}",
        "--remote", "--days-per-run", "3",
    )  # fmt: skip

    def done(sql: str = f"SELECT count(*) FROM objects WHERE state = 'done' AND {mine}") -> int:
        return int(query(lake, sql)[0][0])

    server.run(*command, **lake)
    workers = [server.worker(f"w{number}", "backfill", **lake) for number in range(2)]
    try:
        until(lambda: 0 < done() < HISTORY.of_objects, PATIENCE, "a batch of the backfill to be done")
        for worker in workers:
            kill(worker)
        assert done() < HISTORY.of_objects
        workers = [server.worker(f"v{number}", "backfill", **lake) for number in range(2)]
        server.run(*command, **lake)
        until(lambda: done() == HISTORY.of_objects, PATIENCE, "the backfill to be done")
    finally:
        for worker in workers:
            servers.end(worker)
    days = f"eventday BETWEEN '{HISTORY.first:%Y%m%d}' AND '{HISTORY.last:%Y%m%d}'"
    counted = "count(*), count(DISTINCT metadata.uid), count(DISTINCT source_object)"
    found = asked(lake, f"SELECT {counted} FROM cloud_trail_mgmt_2_0 WHERE {days}")
    assert found == [(HISTORY.of_records, HISTORY.of_records, HISTORY.of_objects)]


def test_the_catalog_is_checked_by_a_flow(
    server: Server, lake: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in lake.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        assert check_catalog(return_state=True).is_completed()
        next(Path(lake["OCSF_LAKE_LAKE"]).rglob("*.parquet")).unlink()
        state = check_catalog(return_state=True)
    assert (state.type.value, state.message) == ("FAILED", "1 file missing or of another size")
