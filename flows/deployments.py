"""Deployments and automations, from files to a Prefect server; doing it again changes nothing but what changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import Event
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from ocsf_lake import config
from ocsf_lake.flows import schedules
from ocsf_lake.text import plural
from ocsf_mappers import temporary
from ocsf_mappers.errors import ConfigError, WriteError

_VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")

SHOWN_OTHERS = 10
"""So many deployments that a file does not have are named."""

Say = Callable[[str], None]


def server() -> str:
    """The API that is configured.

    Raises:
        ConfigError: None is; Prefect would start a server of its own, which ends with this process.
    """
    url: str | None = PREFECT_API_URL.value()
    if not url:
        raise ConfigError("there is no Prefect server; set PREFECT_API_URL, for example to http://127.0.0.1:4200/api")
    return url


def deploy(file: Path, pool_type: str, say: Say) -> None:
    """Puts the deployments of a file on the server; work pools and queues that are missing are made.

    Args:
        file: As `prefect deploy` reads it, apart from `H` in schedules, which it refuses; see `schedules`.
        pool_type: Of work pools that are made: `process`, `docker`, `kubernetes`, `ecs`.
        say: Called with a line for each thing done.

    Raises:
        ConfigError: The file cannot be read, or names a variable that is not set.
        WriteError: The server refused; Prefect's own words are on stderr.
    """
    text = _text(file)
    missing = sorted(set(_VARIABLE.findall(_without_comments(text))) - set(os.environ))
    if missing:
        raise ConfigError(
            f"{file} reads variables that are not set: {', '.join(missing)}; set them, or delete the deployments of "
            "sources that you do not have"
        )
    definition = _yaml(file, text)
    deployments = definition.get("deployments") or []
    queues = sorted({_queue_of(file, item) for item in deployments})
    rename(deployments, say)
    spread(deployments, config.load().lake)
    with get_client(sync_client=True) as client:
        for pool in dict.fromkeys(pool for pool, _ in queues):
            say(_pool(client, pool, pool_type))
        for pool, queue in queues:
            _queue(client, pool, queue)
    with temporary.directory("deploy") as folder:
        spread_out = Path(folder) / file.name
        spread_out.write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(spread_out)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WriteError(f"prefect deploy failed: {(done.stderr or done.stdout).strip()}")
    for item in deployments:
        when = [str(schedule["cron"]) for schedule in item.get("schedules") or () if "cron" in schedule]
        say(f"deployment {full_name(item)}" + "".join(f", {cron}" for cron in when))
    tidy(deployments, say)


def tidy(deployments: list[dict[str, Any]], say: Say) -> None:
    """Deletes schedules that a file does not have any more, which `prefect deploy` leaves; names such deployments.

    Args:
        deployments: As the file has them, each on the server.
        say: Called with a line for each. Deployments of other files may be in the same work pools, so none is deleted.
    """
    slugs = {full_name(item): [one.get("slug") for one in item.get("schedules") or ()] for item in deployments}
    pools = sorted({item["work_pool"]["name"] for item in deployments})
    others = []
    with get_client(sync_client=True) as client:
        for name, deployment in _deployed(client, WorkPoolFilter(name=WorkPoolFilterName(any_=pools))):
            if name not in slugs:
                others += [name] if not deployment.paused and any(one.active for one in deployment.schedules) else []
                continue
            for schedule in deployment.schedules:
                if schedule.slug and schedule.slug not in slugs[name]:
                    client.delete_deployment_schedule(deployment.id, schedule.id)
                    say(f"schedule {schedule.slug} of {name} is not in the file, and was deleted")
    if others:
        more = f" and {len(others) - SHOWN_OTHERS:,} more" if len(others) > SHOWN_OTHERS else ""
        say(
            f"not in the file, but still scheduled: {', '.join(others[:SHOWN_OTHERS])}{more}; "
            "`prefect deployment delete NAME` ends one"
        )


def _deployed(client: SyncPrefectClient, pools: WorkPoolFilter) -> Iterator[tuple[str, DeploymentResponse]]:
    """Deployments of work pools, each with its full name."""
    flows = {flow.id: flow.name for flow in client.read_flows(work_pool_filter=pools)}
    offset = 0
    while page := client.read_deployments(work_pool_filter=pools, offset=offset):
        yield from ((f"{flows[deployment.flow_id]}/{deployment.name}", deployment) for deployment in page)
        offset += len(page)


def _queue_of(file: Path, deployment: dict[str, Any]) -> tuple[str, str]:
    """The work pool and queue of a deployment, which has all that is needed."""
    pool = deployment.get("work_pool")
    pool = pool if isinstance(pool, dict) else {}
    needed = {
        "name": deployment.get("name"), "entrypoint": deployment.get("entrypoint"), "work_pool.name": pool.get("name"),
        "work_pool.work_queue_name": pool.get("work_queue_name"),
    }  # fmt: skip
    if missing := [name for name, value in needed.items() if not value]:
        raise ConfigError(f"{file}: deployment {deployment.get('name')!r} has no {', '.join(missing)}")
    return str(pool["name"]), str(pool["work_queue_name"])


def full_name(deployment: dict[str, Any]) -> str:
    """A deployment as Prefect names it: `flow/deployment`; flows are named as their functions are."""
    function = re.split(r"[.:]", deployment["entrypoint"])[-1]  # package.module.function, or folder/file.py:function
    return f"{function.replace('_', '-')}/{deployment['name']}"


def rename(deployments: list[dict[str, Any]], say: Say) -> None:
    """Puts today's names in the place of those that the flows had when they were a package of their own, `flows`.

    Args:
        deployments: As a file has them.
        say: Called with a line for each flow.
    """
    ours = {path.stem for path in Path(__file__).parent.glob("*.py")}
    renamed: dict[str, str] = {}
    for item in deployments:
        entrypoint = str(item.get("entrypoint"))
        package, _, name = entrypoint.partition(".")
        module = name.partition(".")[0]
        if package == "flows" and module in ours and not Path("flows", f"{module}.py").exists():
            item["entrypoint"] = renamed[entrypoint] = f"{__package__}.{name}"
    for former, name in renamed.items():
        say(f"entrypoint {former} is {name} now")


def spread(deployments: list[dict[str, Any]], lake: str) -> None:
    """Puts numbers in the place of `H` in schedules, others for each lake and deployment.

    Args:
        deployments: As a file has them.
        lake: Root of the lake, where a deployment's parameters do not name another.

    Raises:
        ConfigError: A cron expression with `H` cannot be read.
    """
    for item in deployments:
        lake_root = str((item.get("parameters") or {}).get("lake") or lake)
        root = _VARIABLE.sub(lambda match: os.environ[match[1]], lake_root)
        for schedule in item.get("schedules") or ():
            if "cron" in schedule:
                schedule["cron"] = schedules.resolved(str(schedule["cron"]), f"{full_name(item)} of {root}")


def automate(file: Path, alerts: str | None, say: Say) -> None:
    """Creates the automations of a file, or renews those that have the same names.

    Args:
        file: As `prefect automation create --from-file` reads it.
        alerts: Notification block, `TYPE/NAME`, that alerts are sent with; None leaves them as events.
        say: Called with a line for each thing done.

    Raises:
        ConfigError: The file cannot be read, or there is no such block.
    """
    automations = _yaml(file, _text(file)).get("automations") or []
    silent = 0
    with get_client(sync_client=True) as client:
        block = _block(client, alerts) if alerts else None
        for item in automations:
            if block is not None:
                item = {**item, "actions": [_action(action, block) for action in item["actions"]]}
            automation = AutomationCore.model_validate(item)
            existing = client.read_automations_by_name(automation.name)
            if existing:
                client.update_automation(existing[0].id, automation)
            else:
                client.create_automation(automation)
            say(f"automation {automation.name}")
            silent += all(action["type"] == "do-nothing" for action in item["actions"])
        _remind(client)
    if silent:
        say(
            f"of {plural(len(automations), 'automation')} {silent} notify nobody: their alerts are only events on the "
            "server; name a notification block with --alerts TYPE/NAME"
        )


def _remind(client: SyncPrefectClient) -> None:
    """Tells the server of runs under way, whose heartbeats automations that were renewed have forgotten."""
    kinds = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    ours = FlowRunFilter(state=FlowRunFilterState(type=kinds), tags=FlowRunFilterTags(all_=["ocsf-lake"]))
    tag = {"prefect.resource.id": "prefect.tag.ocsf-lake", "prefect.resource.role": "tag"}
    for run in client.read_flow_runs(flow_run_filter=ours):
        resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
        event = Event.model_validate({"event": "prefect.flow-run.heartbeat", "resource": resource, "related": [tag]})
        client.request("POST", "/events", json=[event.model_dump(mode="json")])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {str(file)!r}: {error.strerror}") from error


def _yaml(file: Path, text: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file} has no deployments and no automations")
    return document


def _without_comments(text: str) -> str:
    return re.sub(r"(?:^|\s)#.*", "", text, flags=re.MULTILINE)


def _pool(client: SyncPrefectClient, name: str, kind: str) -> str:
    try:
        return f"work pool {name}, of type {client.read_work_pool(name).type}"
    except ObjectNotFound:
        pool = client.create_work_pool(WorkPoolCreate(name=name, type=kind))
        return f"work pool {name}, of type {pool.type}: new"


def _queue(client: SyncPrefectClient, pool: str, name: str) -> None:
    """A queue of a work pool; workers take what is live before what is history."""
    try:
        client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        client.create_work_queue(name, priority=1 if name == "live" else 10, work_pool_name=pool)


def _block(client: SyncPrefectClient, name: str) -> str:
    kind, _, label = name.partition("/")
    try:
        return str(client.read_block_document_by_name(label, kind).id)
    except ObjectNotFound as error:
        raise ConfigError(
            f"there is no notification block {name!r}; name one as TYPE/NAME, see `prefect block ls`"
        ) from error


def _action(action: dict[str, Any], block: str) -> dict[str, Any]:
    if action["type"] != "do-nothing":
        return action
    return {
        "type": "send-notification",
        "block_document_id": block,
        "subject": "{{ automation.name }}",
        "body": "{{ event.resource.name }}: "
        "{{ event.payload.message or event.payload.validated_state.message or event.event }}",
    }
