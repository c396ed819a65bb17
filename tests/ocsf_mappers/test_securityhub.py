"""Security Hub: what the goldens do not say aloud."""

import json

import pytest

from tests import support
from tests.support import SAMPLE_LOGS, Json, as_events, map_bytes

CONTROL: Json = json.loads((SAMPLE_LOGS / "aws_securityhub" / "controls.jsonl").read_text().splitlines()[0])


def told(**members: object) -> Json:
    mapped = map_bytes(support.engine("aws_securityhub"), json.dumps(CONTROL | members).encode())
    assert mapped.rejects.to_pylist() == []
    ((event, _),) = as_events(mapped.events)
    return event


@pytest.mark.parametrize(
    ("arn", "members", "class_uid"),
    [
        ("aws/inspector", {"Vulnerabilities": [{"Id": "CVE-2026-1"}]}, 2002),
        ("aws/inspector", {"Vulnerabilities": [{}], "Compliance": None}, 2004),
        ("aws/securityhub", {"Compliance": None}, 2003),
        ("aws/config", {"Compliance": None}, 2003),
        ("aws/guardduty", {"Compliance": None}, 2004),
        ("example/securityhub", {"Compliance": None}, 2004),
        ("example/scanner", {"Compliance": {"Status": "PASSED"}}, 2003),
    ],
)
def test_the_class_follows_from_what_a_finding_holds(arn: str, members: Json, class_uid: int) -> None:
    assert told(ProductArn=f"arn:aws:securityhub:eu-west-1::product/{arn}", **members)["class_uid"] == class_uid


@pytest.mark.parametrize(
    ("severity", "caption"),
    [
        ({"Label": "LOW", "Normalized": 90}, "Low"),
        ({"Normalized": 89}, "High"),
        ({"Normalized": 90}, "Critical"),
        ({"Normalized": 0}, "Informational"),
        ({"Normalized": 1}, "Low"),
        ({"Product": 8}, "Unknown"),  # of ten, where GuardDuty says so
        ({}, "Unknown"),
    ],
)
def test_a_label_goes_before_numbers(severity: Json, caption: str) -> None:
    assert told(Severity=severity)["severity"] == caption


def test_region_and_account_are_the_finding_s_not_the_event_s() -> None:
    event = {"version": "0", "detail-type": "Security Hub Findings - Imported", "source": "aws.securityhub"}
    event |= {"account": "111122223333", "region": "us-east-1"}
    here, there = CONTROL, {name: value for name, value in CONTROL.items() if name != "Region"}
    document = json.dumps(event | {"detail": {"findings": [here, there | {"Id": "another"}]}}).encode()
    mapped = map_bytes(support.engine("aws_securityhub"), document)
    clouds = [found["cloud"] for found, _ in as_events(mapped.events)]
    assert [(cloud["region"], cloud["account"]["uid"]) for cloud in clouds] == [("eu-west-1", "123456789012")] * 2


@pytest.mark.parametrize("end", [{"svc_name": "lambda.amazonaws.com"}, {"hostname": "c2.example.com"}])
def test_an_endpoint_of_a_finding_that_is_ocsf_may_have_a_name_alone(end: Json) -> None:
    record = json.loads((SAMPLE_LOGS / "aws_securityhub_ocsf" / "detections.jsonl").read_text().splitlines()[0])
    document = json.dumps(record | {"evidences": [{"src_endpoint": end, "actor": {"user": {"uid": "u-1"}}}]}).encode()
    ((event, _),) = as_events(map_bytes(support.engine("aws_securityhub_ocsf"), document).events)
    (evidence,) = event["evidences"]
    assert (evidence["src_endpoint"], evidence["actor"]) == (end, {"user": {"uid": "u-1"}})


@pytest.mark.parametrize(("told", "coverage"), [("YES", "Complete"), ("PARTIAL", "Partial"), ("NO", "None")])
def test_how_much_of_a_vulnerability_has_a_fix_is_kept_where_ocsf_knows_it(told: str, coverage: str) -> None:
    finding = CONTROL | {"Vulnerabilities": [{"Id": "CVE-2026-1", "FixAvailable": told}]}
    mapped = map_bytes(support.engine("aws_securityhub", "1.5.0"), json.dumps(finding).encode())
    ((event, _),) = as_events(mapped.events)
    assert event["vulnerabilities"][0]["fix_coverage"] == coverage
