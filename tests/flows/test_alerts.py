"""Alerts by blocks of Prefect, and what `deploy` says of automations that reach nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.blocks.core import Block
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from ocsf_lake.alerts.message import Message
from ocsf_lake.alerts.senders import RefusedError
from ocsf_lake.flows import alerts, deployments
from ocsf_lake.receivers import Alerts, Receiver
from ocsf_mappers.errors import ConfigError
from tests.flows.conftest import RunCommand
from tests.servers import receiver as http
from tests.servers.receiver import Answer

PROJECT = Path(__file__).parents[2]
SAMPLE_LOGS = PROJECT / "sample_logs"
ONCALL = Receiver(name="oncall", kind="block", block="custom-webhook/oncall")
TOLD = Message("id1", "[high] title", "text", "high", {})


def test_a_block_that_fails_does_not_count_as_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "server", lambda: "http://127.0.0.1:9/api")
    with http.running() as hook:
        said = {"subject": "{{subject}}", "body": "{{body}}"}
        block = CustomWebhookNotificationBlock(name="oncall", url=f"{hook.url}/T0KEN", json_data=said)
        monkeypatch.setattr(Block, "load", lambda name: block)
        sender = alerts.sender(ONCALL, Alerts())
        sender.send(TOLD)
        assert hook.got[0].json == {"subject": TOLD.title, "body": TOLD.text}
        hook.answer = lambda _: Answer(500)
        with pytest.raises(RefusedError, match="HTTP 500") as error:
            sender.send(TOLD)
        assert "T0KEN" not in str(error.value)


def test_a_block_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> Block:
        raise httpx.ConnectError("All connection attempts failed")

    monkeypatch.setattr(deployments, "server", lambda: "http://127.0.0.1:9/api")
    monkeypatch.setattr(Block, "load", load)
    with pytest.raises(ConfigError, match="receiver oncall: the block 'custom-webhook/oncall' cannot be loaded"):
        alerts.sender(ONCALL, Alerts())


@pytest.mark.slow
def test_detect_tells_receivers_and_says_when_nobody_is_told(
    ocsf_lake: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = str(tmp_path / "lake")
    ocsf_lake("ingest", str(SAMPLE_LOGS / "aws_cloudtrail" / "account_change_keys.json"), "--lake", lake)
    rules = ("--rules", str(SAMPLE_LOGS / "rules"), "--lake", lake)
    run = ocsf_lake("detect", *rules, "--from", "2030-01-01")
    assert (run.code, "findings are not sent" in run.err) == (0, True)
    with http.running() as hook:
        soc = {"name": "soc", "kind": "webhook", "url": hook.url, "key_variable": "SOC_KEY"}
        monkeypatch.setenv("OCSF_LAKE_ALERTS", json.dumps({"receivers": [soc]}))
        run = ocsf_lake("detect", *rules)
        assert (run.code, "SOC_KEY, which is not set" in run.err) == (1, True)
        listed = json.loads(ocsf_lake("alerts", "list", "--json", "--lake", lake).out)
        assert {(row["state"], row["title"]) for row in listed} == {("planned", "Access key made")}
        monkeypatch.setenv("SOC_KEY", "a key")
        assert "sent to soc" in ocsf_lake("alerts", "send", "--lake", lake).err
        assert "nothing to send" in ocsf_lake("alerts", "send", "--lake", lake).err
        assert sorted(hook.keys) == sorted(row["id"] for row in listed)
        run = ocsf_lake("query", "SELECT finding_info.uid FROM detections", "--format", "csv", "--lake", lake)
        assert sorted(run.out.split()[1:]) == sorted(hook.keys)


@pytest.mark.parametrize(("block", "lines"), [(None, 1), ("custom-webhook/oncall", 0)])
def test_deploy_says_which_automations_reach_nobody(
    monkeypatch: pytest.MonkeyPatch, block: str | None, lines: int
) -> None:
    class Client:
        def read_automations_by_name(self, _: str) -> list[Any]:
            return []

        def create_automation(self, _: Any) -> None:
            pass

        def read_flow_runs(self, **_: Any) -> list[Any]:
            return []

    @contextmanager
    def client(**_: bool) -> Iterator[Client]:
        yield Client()

    monkeypatch.setattr(deployments, "get_client", client)
    monkeypatch.setattr(deployments, "_block", lambda *_: "2f6b9fd2-6d2b-4d6f-8f4f-1f6b8e7d2a11")
    said: list[str] = []
    deployments.automate(PROJECT / "deploy/automations.yaml", block, said.append)
    silent = [line for line in said if "notify nobody" in line]
    assert len(silent) == lines
    assert all("of 7 automations 6 notify nobody" in line for line in silent)
