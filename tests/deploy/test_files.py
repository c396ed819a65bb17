"""What deploy/ holds, by the linters of each format; the server's own view of it is in tests/flows/test_server.py."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore

from ocsf_lake import config, flows
from ocsf_lake.flows import deployments, watch
from ocsf_lake.ledger.ledger import Ledger
from ocsf_lake.storage import layout
from ocsf_lake.upkeep import health
from ocsf_mappers import registry
from tests.servers import prefect as servers
from tests.servers.postgres import Postgres
from tests.support import PROJECT

DEPLOY = PROJECT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())


def tool(name: str) -> str:
    """A program beside Python or on the path; the test skips where there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"needs {name}")
    return found


def said(*command: str) -> str:
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    return run.stdout + (f"exit code {run.returncode}" if run.returncode else "")


def yaml_of(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


# -- linters ----------------------------------------------------------------------------------------------------------
def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    assert said(tool("hadolint"), str(DEPLOY / "Dockerfile")) == ""


def test_the_kubernetes_manifests_are_valid() -> None:
    files = sorted(map(str, (DEPLOY / "kubernetes").glob("*.yaml")))
    assert files
    assert "exit code" not in said(tool("kubernetes-validate"), "--strict", *files)


def test_systemd_has_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    installed = []
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/ocsf-lake/bin", str(Path(sys.executable).parent))
        path = tmp_path / unit.name.replace("@.", "@1.")
        path.write_text(text, encoding="utf-8")
        installed.append(str(path))
    assert said(analyze, "verify", *installed) == ""


# -- what they name ---------------------------------------------------------------------------------------------------
def every_deployment() -> list[Any]:
    """Those of the file, and those that it has as comments; a copy."""
    return copy.deepcopy(parsed())


@cache
def parsed() -> list[Any]:
    text = (DEPLOY / "prefect.yaml").read_text(encoding="utf-8")
    whole = yaml.safe_load(re.sub(r"^  # (- |  \w)", r"  \1", text, flags=re.MULTILINE))["deployments"]
    assert len(whole) > len(yaml.safe_load(text)["deployments"])
    return list(whole)


def test_every_deployment_names_a_flow_and_parameters_that_it_has() -> None:
    found = every_deployment()
    assert len({item["name"] for item in found}) == len(found)
    for item in found:
        module, _, name = item["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        assert isinstance(flow, Flow)
        parameters = item.get("parameters", {})
        assert parameters.keys() <= flow.parameters.properties.keys()
        assert parameters.get("source", "aws_cloudtrail") in registry.names()
        assert "ocsf-lake" in item["tags"]


def crons(lake: str) -> dict[str, str]:
    """Deployment -> when it runs, for one lake."""
    found = every_deployment()
    deployments.spread(found, lake)
    return {item["name"]: item["schedules"][0]["cron"] for item in found if "schedules" in item}


def test_lakes_and_deployments_start_at_minutes_of_their_own() -> None:
    lakes = [crons(f"s3://lake-{number}") for number in range(100)]
    assert crons("s3://lake-7") == lakes[7]
    for name, cron in lakes[0].items():
        assert CronSchedule(cron=cron, timezone="UTC").cron == cron
        minutes = Counter(found[name].split()[0] for found in lakes)
        # A hundred lakes; as many minutes as the step has, or those of an hour, and none is crowded.
        step = int(cron.split()[0].rpartition("/")[2]) if "/" in cron else 60
        assert len(minutes) == step if step <= 15 else len(minutes) >= 40
        assert max(minutes.values()) <= 100 / step + 12
    daily = {(cron.split()[0], cron.split()[1]) for cron in lakes[0].values() if cron.split()[1] != "*"}
    assert {hour for _, hour in daily} <= {"3", "4", "5"}
    assert len(daily) == 8


def test_every_automation_is_one_that_prefect_accepts() -> None:
    for item in yaml_of("automations.yaml")["automations"]:
        assert AutomationCore.model_validate(item).name.startswith("ocsf-lake: ")


def test_every_check_of_the_lakes_health_has_an_alert() -> None:
    events = {event for item in yaml_of("automations.yaml")["automations"] for event in item["trigger"]["expect"]}
    assert {watch.EVENT.format(check=name) for name in health.CHECKS} == {
        event for event in events if event.startswith("ocsf-lake.")
    }


def test_servers_workers_and_embedded_servers_have_the_same_settings() -> None:
    assert servers.settings() == flows.PREFECT_DEFAULTS


def test_every_setting_of_the_lake_that_deploy_names_exists() -> None:
    known = {f"{config.PREFIX}{name.upper()}" for name in config.Settings.model_fields}
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert set(re.findall(r"\bOCSF_LAKE_[A-Z_]+\b", path.read_text(encoding="utf-8"))) <= known, path


def test_the_image_is_built_from_files_that_the_context_lets_through() -> None:
    allowed = set(re.findall(r"^!(\S+)$", (PROJECT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    assert {name for names in copied for name in names} == allowed
    assert all((PROJECT / name).exists() for name in allowed)


def test_images_are_pinned_and_nothing_runs_as_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    assert re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE)[-1] not in ("0", "root")
    services = yaml_of("compose.yaml")["services"]
    assert all(re.search(r":\d+\.\d+", service["image"]) for service in services.values())
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))


# -- who may do what --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_hardened_and_can_write_what_they_have_to(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name.replace("@.", "@1.")
    shutil.copyfile(unit, installed)
    assert "exit code" not in said(
        tool("systemd-analyze"), "security", "--offline=yes", "--threshold=20", "--no-pager", str(installed)
    )
    text = unit.read_text(encoding="utf-8")
    (states,) = re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)
    written = [f"/var/lib/{state}" for state in states.split()]
    for setting in ("PREFECT_HOME", "OCSF_LAKE_LAKE"):
        assert set(re.findall(rf"^Environment={setting}=(.*)$", text, re.MULTILINE)) <= set(written)
    assert "OCSF_LAKE_LAKE=/var/lib/ocsf-lake/lake\n" in text or "worker" not in unit.name


def test_no_password_stands_in_a_file_and_each_service_has_its_own() -> None:
    services = yaml_of("compose.yaml")["services"]
    given = {name: str(service.get("environment", "")) for name, service in services.items()}
    passwords = {name: set(re.findall(r"\$\{(\w*PASSWORD)", text)) for name, text in given.items()}
    own = {"server": {"PREFECT_DB_PASSWORD"}, "worker": {"LEDGER_DB_PASSWORD"}, "deploy": set()}
    assert {name: found for name, found in passwords.items() if name != "postgres"} == own
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            for word in re.findall(r"://[\w{}$]+:([^@\s]+)@", path.read_text(encoding="utf-8")):
                assert word.startswith("${") or word == "...", path


@pytest.mark.slow
@pytest.mark.integration
def test_server_and_workers_have_database_users_that_cannot_open_the_other_s(postgres_server: Postgres) -> None:
    script = yaml_of("compose.yaml")["configs"]["databases"]["content"].replace("$$", "$")
    environment = {
        "PATH": f"{postgres_server.programs}:/usr/bin:/bin", "PGHOST": "127.0.0.1", "PGPORT": str(postgres_server.port),
        "PREFECT_DB_PASSWORD": "it's one", "LEDGER_DB_PASSWORD": "and another",
    }  # fmt: skip

    def query(user: str, database: str, sql: str) -> list[tuple[Any, ...]]:
        url = f"postgresql://{user}@127.0.0.1:{postgres_server.port}/{database}"
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def run() -> None:
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    query("postgres", "postgres", "CREATE DATABASE prefect")  # a volume of before, with one of the two
    query("postgres", "prefect", "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE flow (id serial, mood mood)")
    run()
    run()
    query("prefect", "prefect", "ALTER TABLE flow ADD COLUMN name text; ALTER TYPE mood ADD VALUE 'bad'")
    query("prefect", "prefect", "CREATE EXTENSION IF NOT EXISTS pg_trgm")
    Ledger(f"postgresql://ledger@127.0.0.1:{postgres_server.port}/ledger").close()
    for user, other in (("prefect", "ledger"), ("ledger", "prefect")):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            query(user, other, "SELECT 1")
    roles = "SELECT rolname, rolsuper, rolcreatedb, rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname IN "
    assert sorted(query("postgres", "postgres", f"{roles} ('ledger', 'prefect')")) == [
        ("ledger", False, False, True),
        ("prefect", False, False, True),
    ]


def reader_statements() -> list[dict[str, Any]]:
    """What the reader's role may do, functions of CloudFormation as text."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, _, node: str(node.value))
    template = yaml.load((DEPLOY / "aws" / "lake.yaml").read_text(encoding="utf-8"), Loader)
    (policy,) = template["Resources"]["Reader"]["Properties"]["Policies"]
    return list(policy["PolicyDocument"]["Statement"])


def allows(action: str, resource: str, prefix: str | None = None) -> bool:
    """Whether the reader's role may do this, as IAM decides: a Deny wins."""
    effects = set()
    for statement in reader_statements():
        named = (statement["Action"], statement["Resource"])
        actions, resources = ([found] if isinstance(found, str) else found for found in named)
        if action not in actions or not any(fnmatch(resource, str(pattern)) for pattern in resources):
            continue
        prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if prefixes is None or (prefix is not None and any(fnmatch(prefix, pattern) for pattern in prefixes)):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


@pytest.mark.slow
def test_the_reader_of_the_template_sees_events_and_nothing_of_quarantine() -> None:
    bucket = "${Bucket.Arn}"
    tables = "arn:${AWS::Partition}:glue:${AWS::Region}:${AWS::AccountId}:table/${GlueDatabase}"
    event = "aws/CLOUD_TRAIL_MGMT/2.0/region=eu-west-1/accountId=1/eventDay=20250311/x.parquet"
    assert allows("s3:GetObject", f"{bucket}/lake/{event}")
    assert allows("s3:ListBucket", "Bucket.Arn", "lake/aws/CLOUD_TRAIL_MGMT/")
    assert allows("s3:GetObject", f"{bucket}/lake/{layout.COMPACTED}/{event}")
    assert allows("s3:ListBucket", "Bucket.Arn", f"lake/{layout.COMPACTED}/aws/CLOUD_TRAIL_MGMT/")
    assert allows("glue:GetTable", f"{tables}/cloud_trail_mgmt")
    for prefix in (layout.QUARANTINE_PREFIX, layout.OUTCOMES_PREFIX, layout.DUPLICATES_PREFIX):
        assert not allows("s3:GetObject", f"{bucket}/lake/{prefix}/source=aws_vpc_flow/x.parquet")
        assert not allows("s3:ListBucket", "Bucket.Arn", f"lake/{prefix}/")
        assert f"{bucket}/lake/_*" in [s["Resource"] for s in reader_statements() if s["Effect"] == "Deny"]
    for table in (layout.QUARANTINE, layout.OUTCOMES, layout.DUPLICATES):
        assert not allows("glue:GetTable", f"{tables}/{table}")
    assert not allows("s3:ListBucket", "Bucket.Arn")
