"""What deploy/ holds, by the linters of each format; the server's own view of it is in tests/flows/test_server.py."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore

import flows
from flows import deployments, watch
from lake import config, health
from ocsf_mappers import registry
from tests.servers import prefect as servers
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
    """Those of the file, and those that it has as comments."""
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
    assert len(daily) == 5


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
