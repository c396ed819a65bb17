"""Folders of samples are recognized for what they are, and published questions find their rows."""

import shutil
from pathlib import Path

import pytest

from ocsf_lake.ingest import run as ingest
from tests.ocsf_lake.conftest import Make
from tests.ocsf_lake.test_ingest import rows
from tests.support import SAMPLE_LOGS

QUESTIONS = {
    "aws_waf": {
        "SELECT http_request.url.path FROM waf WHERE activity_name = 'Post' AND src_endpoint.ip = '203.0.113.10' "
        "ORDER BY ALL": [("/login",), ("/login",)],
        "SELECT firewall_rule.uid, firewall_rule.name, region FROM waf "
        "WHERE firewall_rule.type = 'MANAGED_RULE_GROUP' ORDER BY ALL": [
            ("AWS-AWSManagedRulesCommonRuleSet", "GenericLFI_URIPATH", "eu-west-1"),
            ("AWS-AWSManagedRulesSQLiRuleSet", "SQLi_QUERYARGUMENTS", "eu-west-1"),
        ],
    },
    "aws_network_firewall": {
        "SELECT count(*) FROM network_firewall WHERE src_endpoint.ip = '203.0.113.80'": [(1,)],
        "SELECT disposition, count(*) FROM network_firewall_alerts WHERE severity = 'High' AND action = 'Allowed' "
        "GROUP BY ALL ORDER BY ALL": [("Alert", 1), ("Allowed", 1)],
    },
    "aws_vpc_lattice": {
        "SELECT status_detail, count(*) FROM vpc_lattice WHERE action = 'Denied' GROUP BY ALL ORDER BY ALL": [
            ("AccessDenied", 1), ("Network", 1), ("Service", 1),
        ],
        "SELECT http_request.url.path, http_request.url.query_string FROM vpc_lattice WHERE status_code = '201'": [
            ("/orders", "dry=1&x=%20y")
        ],
        "SELECT dst_endpoint.ip FROM vpc_lattice_resources WHERE src_endpoint.ip = '2001:db8::7'": [("2001:db8::9",)],
    },
    "aws_eks_audit": {
        "SELECT actor.user.uid_alt, actor.user.account.uid FROM eks_audit "
        "WHERE activity_name = 'Delete' AND resources[1].type = 'secrets'": [("AROAEXAMPLE0000000001", "444455556666")],
        "SELECT api.service.name, count(*) FROM eks_audit WHERE accountid = '111122223333' GROUP BY ALL": [
            ("shop-prod", 5)
        ],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("source", QUESTIONS)
def test_a_folder_of_samples_is_ingested_and_asked(source: str, settings: Make, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    shutil.copytree(SAMPLE_LOGS / source, folder, ignore=shutil.ignore_patterns("*.expected.json", "*.md"))
    summary = ingest.ingest([str(folder)], settings())
    assert set(summary.sources) == {source}
    read, kept = rows(settings(), "SELECT sum(read), sum(events + quarantined + dropped) FROM ledger_batches")[0]
    assert read == kept
    assert {question: rows(settings(), question) for question in QUESTIONS[source]} == QUESTIONS[source]
