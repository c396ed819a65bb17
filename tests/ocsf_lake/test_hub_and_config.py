"""Findings of both hubs and items of Config in one folder, ingested without a word about what they are, and asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from ocsf_lake import config
from ocsf_lake.ingest import run as ingest
from ocsf_lake.query import query

SAMPLES = Path(__file__).parents[2] / "sample_logs"
NAMES = {
    "aws_securityhub": ["controls.jsonl", "guardduty.jsonl", "get_findings.json"],
    "aws_securityhub_ocsf": ["controls.jsonl", "get_findings_v2.json"],
    "aws_guardduty": ["get_findings.json"],
    "aws_config": ["history.json", "snapshot.json", "sns.jsonl"],
}
ITEM = {
    "configurationItemCaptureTime": "2026-03-02T10:00:00Z",
    "configurationItemStatus": "OK",
    "resourceType": "AWS::SSM::PatchCompliance",
    "resourceId": "shared-id",
    "awsAccountId": "123456789012",
    "awsRegion": "eu-west-1",
}
"""A resource without an ARN."""
NAMESAKES = [
    ITEM,
    ITEM | {"awsRegion": "us-east-1"},
    ITEM | {"awsAccountId": "111122223333"},
    ITEM | {"resourceType": "AWS::SSM::AssociationCompliance"},
]
ARCHIVED = [("aws_guardduty", "event_bridge.json"), *((name, "event_bridge_lines.jsonl") for name in NAMES)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    (root / "logs").mkdir()
    for source, names in NAMES.items():
        for name in names:
            shutil.copy(SAMPLES / source / name, root / "logs" / f"{source}_{name}")
    namesakes = "\n".join(map(json.dumps, NAMESAKES))
    (root / "logs" / "namesakes.jsonl").write_text(namesakes, encoding="utf-8")
    # an archive of EventBridge holds events of all
    events = []
    for source, name in ARCHIVED:
        text = (SAMPLES / source / name).read_text(encoding="utf-8")
        events += [json.loads(text)] if name.endswith(".json") else map(json.loads, text.splitlines())
    (root / "logs" / "archive.jsonl").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    ingest.ingest([str(root / "logs")], config.load(lake=str(root / "lake"), workers=1))
    return root / "lake"


def rows(lake: Path, sql: str) -> list[tuple[object, ...]]:
    with query.connected(config.load(lake=str(lake))) as connection:
        found: duckdb.DuckDBPyConnection = connection.execute(sql)
        return found.fetchall()


@pytest.mark.slow
def test_every_record_is_an_event_of_its_source_or_a_drop(lake: Path) -> None:
    counts = "SELECT source, sum(events), sum(quarantined), sum(dropped) FROM ledger_batches GROUP BY 1 ORDER BY 1"
    assert rows(lake, counts) == [
        ("aws_config", 16, 0, 2),
        ("aws_guardduty", 6, 0, 0),
        ("aws_securityhub", 18, 0, 0),
        ("aws_securityhub_ocsf", 6, 0, 0),
    ]


@pytest.mark.slow
def test_the_newest_telling_of_a_control_says_how_it_is(lake: Path) -> None:
    newest = """SELECT compliance.status, status FROM security_hub_latest
        WHERE compliance.control = 'S3.8' AND metadata.product.uid LIKE '%:product/%'"""
    assert rows(lake, newest) == [("Pass", "Resolved")]


@pytest.mark.slow
def test_the_newest_state_of_a_resource_is_there_once(lake: Path) -> None:
    newest = """SELECT entity.uid FROM aws_config_latest WHERE class_uid = 3004 AND entity.uid LIKE 'arn:%'
        GROUP BY 1 HAVING count(*) > 1"""
    assert rows(lake, newest) == []
    body = "SELECT entity.data->>'instanceId' FROM aws_config_latest WHERE entity.type = 'AWS::EC2::Instance'"
    assert rows(lake, body) == [("i-0aaaabbbbccccdddd",)]


@pytest.mark.slow
def test_resources_that_share_an_id_do_not_hide_each_other(lake: Path) -> None:
    assert rows(lake, "SELECT count(*) FROM aws_config_latest WHERE entity.uid = 'shared-id'") == [(4,)]
