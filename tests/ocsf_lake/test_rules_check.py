"""`ocsf-lake rules`: a rule that cannot match is an error, one that can in part a warning, and both say why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocsf_lake import config
from ocsf_lake.detections import alternatives, check, inject, logs, made, operations, rules
from ocsf_lake.detections.check import Checked
from tests.ocsf_lake.detecting import written

PLANTED: dict[str, dict[str, Any]] = {
    # rules that can never match, and a piece of the reason
    "contradiction": {"s": {"eventName": "CreateUser"}, "t": {"eventName": "DeleteUser"}, "condition": "s and t"},
    "swallowed": {"s": {"eventName": "CreateUser"}, "f": {"eventName|startswith": "Create"},
    "condition": "s and not f"},
    "regex": {"s": {"eventName|re": "^Create$User"}, "condition": "s"},
    "compared": {"s": {"sourceIPAddress|gt": 5}, "condition": "s"},
    "no_member": {"s": {"eventNames": "CreateUser"}, "condition": "s"},
    "no_inner_member": {"s": {"userIdentity.kind": "Root"}, "condition": "s"},
    "misspelt": {"s": {"eventSource": "iam.amazonaws.com", "eventName": "CreateUsr"}, "condition": "s"},
    "other_source": {"s": {"eventSource": "sts.amazonaws.com", "eventName": "CreateUser"}, "condition": "s"},
    "no_source": {"s": {"eventSource": "iam.amazon.com", "eventName": "CreateUser"}, "condition": "s"},
    "no_value": {"s": {"userIdentity.type": "RootUser"}, "condition": "s"},
    "no_hour": {"s": {"eventTime|hour": 99}, "condition": "s"},
    "no_rule": {"s": {"eventName": "a"}, "condition": "s and t"},
    "looks_ahead": {"s": {"eventName|re": "^(?=Create)"}, "condition": "s"},
    "truth": {"s": {"eventName": "CreateUser"}, "condition": True},
}
REASONS = {
    "contradiction": "contradiction", "swallowed": "contradiction", "regex": "no text was found",
    "compared": "compared with a number",
    "no_member": "did you mean 'eventName'", "no_inner_member": "userIdentity.kind: no record",
    "misspelt": "did you mean 'CreateUser'",
    "other_source": "which iam.amazonaws.com", "no_source": "no service is 'iam.amazon.com'",
    "no_value": "never 'RootUser'", "no_hour": "no time is such",
    "no_rule": "cannot be used", "looks_ahead": "cannot be used", "truth": "cannot be used",
}  # fmt: skip
PARTLY: dict[str, dict[str, Any]] = {
    "one_of_two": {"s": {"eventSource": "iam.amazonaws.com", "eventName": ["CreateUser", "CreateUsr"]},
    "condition": "s"},
    "no_filter": {"s": {"eventName": "CreateUser"}, "f": {"userIdentity.kind": "Root"}, "condition": "s and not f"},
    "no_parameter": {
        "s": {"eventSource": "iam.amazonaws.com", "eventName": "CreateUser", "requestParameters.userNam": "a"},
        "condition": "s",
    },
    "no_values": {"s": {"eventName": "CreateUser"}, "f": {"awsRegion|expand": "%ours%"}, "condition": "s and not f"},
}  # fmt: skip
GOOD: dict[str, dict[str, Any]] = {
    "plain": {"s": {"eventSource": "iam.amazonaws.com", "eventName": "CreateUser"}, "condition": "s"},
    "lambda": {"s": {"eventSource": "lambda.amazonaws.com", "eventName": "AddPermission20150331v2"}, "condition": "s"},
    "wild": {"s": {"eventName|contains": "User", "userAgent|re": r"^[a-z-]+/\d+(\.\d+)*( |$)"}, "condition": "s"},
    "null": {"s": {"errorCode": None, "userIdentity.type": "Root"}, "condition": "s"},
    "all": {"s": {"userAgent|contains|all": ["S3", "Browser"]}, "condition": "s"},
    "between": {"s": {"requestParameters.n|gte": 3, "requestParameters.n|lt": 4}, "condition": "s"},
    "keyword": {"k": ["mimikatz"], "condition": "k"},
    "both_cases": {"s": {"eventName": "CreateUser"}, "t": {"eventName|cased": "CreateUser"}, "condition": "s and t"},
    "other_case": {"s": {"eventCategory": "mANAGEMENT"}, "condition": "s"},
    "times": {"s": {"eventTime|hour": [0, 23], "eventTime|day": 3}, "f": {"eventTime|minute": 10},
    "condition": "s and not f"},
    "at_night": {"s": {"eventTime|contains": ["T00:", "T23:"]}, "condition": "s"},
    "begins": {"s": {"eventCategory|startswith": "Manage"}, "condition": "s"},
    "network": {"s": {"sourceIPAddress|cidr": ["10.0.0.0/8", "2001:db8::/32"]}, "condition": "s"},
}
OTHERS: dict[str, dict[str, Any]] = {
    "header": {"httpRequest.headers.name": "user-agent", "httpRequest.headers.value|contains": "jndi:"},
    "method": {"httpRequest.httpMethod": "po*"},
    "posted": {"cs-method": "post"},
    "delivered": {"requester": "svc:s3.amazonaws.com"},
    "served": {"service.serviceName|contains": "guard", "service.archived": False},
    "port": {"client_port|contains": "7"},
    "code": {"elb_status_code|startswith": "20", "http_version": "http/1*"},
}
"""The same, of other logs."""
LINES: dict[str, dict[str, Any]] = {
    "a_two_lines": {"s": {"cs-user-agent": ["x\ny", "sqlmap"]}, "condition": "s"},
    "b_no_url": {"s": {"cs-uri": "http://[", "cs-uri-query": "a=1"}, "condition": "s"},
    "c_no_address": {"s": {"client": "nobody", "c-ip": "10.0.0.1"}, "condition": "s"},
    "d_after_those": {"s": {"cs-user-agent": "nikto"}, "condition": "s"},
}
"""Rules of a log of lines with what cannot be in a line, and one that is tried after them."""
DEAD = {
    "aws_delete_saml_provider": "status",
    "aws_iam_s3browser_templated_s3_bucket_policy_creation": "is not found",
    "aws_route_53_domain_transferred_to_another_account": "which route53domains.amazonaws.com has",
}
PARTLY_DEAD = {
    "aws_ec2_startup_script_change": ("requestParameters.userData",),
    "aws_s3_data_management_tampering": ("PutBucketEncryption", "PutBucketLifecycle", "PutBucketReplication",
    "ReplicateObject"),
    "aws_elasticache_security_group_modified_or_deleted": ("AuthorizeCacheSecurityGroupEgress",
    "RevokeCacheSecurityGroupEgress"),
    "aws_cloudtrail_console_login_success_from_susp_locations": ("a filter never filters", "Legitimate_Countries"),
    "aws_update_login_profile": ("a filter never filters", "ARN"),
}
"""Published rules, and a piece of what is wrong with each."""


@pytest.fixture(scope="module")
def checked(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checked]:
    folder = tmp_path_factory.mktemp("rules")
    written(folder, **{name: {"detection": said} for name, said in (PLANTED | PARTLY | GOOD).items()})
    dead = {"name": "base", "detection": PLANTED["misspelt"]}
    counted = {"title": "counted", "correlation": {
        "type": "event_count", "rules": ["base"], "group-by": ["userIdentity.kind"], "timespan": "1h",
        "condition": {"gte": 2},
    }}  # fmt: skip
    written(folder, counted=[dead, counted])
    web = {"category": "webserver"}
    for name, said in LINES.items():
        written(folder, **{name: {"logsource": web, "detection": said}})
    for name, selection in OTHERS.items():
        service = {"header": "waf", "method": "waf", "delivered": "s3", "served": "guardduty"}.get(name, "alb")
        log = {"product": "aws", "service": service}
        written(folder, **{name: {"logsource": log, "detection": {"s": selection, "condition": "s"}}})
    loaded = rules.load([folder, samples / "sigma"], {})
    found = check.check(config.load(lake=str(folder / "none")), loaded, {"cloud_trail_mgmt": "20260101"})
    assert not (folder / "none").exists()
    return {one.rule.title if one.rule.stem == "counted" else one.rule.stem: one for one in found}


def _said(one: Checked, severity: str) -> str:
    return " | ".join(problem.reason for problem in one.problems if problem.severity == severity)


@pytest.mark.slow
def test_rules_that_can_never_match_are_errors(checked: dict[str, Checked]) -> None:
    for name in PLANTED:
        assert checked[name].status == "error", name
        assert REASONS[name] in _said(checked[name], "error"), (name, checked[name].problems)
    assert "which it counts, cannot" in _said(checked["counted"], "error")
    assert "userIdentity.kind" in _said(checked["counted"], "error")


def test_rules_that_match_in_part_are_warnings(checked: dict[str, Checked]) -> None:
    reasons = {
        "one_of_two": "CreateUsr", "no_filter": "never filters", "no_parameter": "userName", "no_values": "%ours%",
    }  # fmt: skip
    for name, reason in reasons.items():
        assert checked[name].status == "warning", name
        assert reason in _said(checked[name], "warning"), (name, checked[name].problems)


def test_good_rules_are_left_alone(checked: dict[str, Checked]) -> None:
    for name in GOOD | OTHERS:
        assert [p for p in checked[name].problems if "blind" not in p.reason] == [], name
        assert checked[name].tried == checked[name].found > 0, name


def test_what_cannot_be_in_a_line_is_named_and_keeps_back_no_other_rule(checked: dict[str, Checked]) -> None:
    assert "'x\\ny' cannot be in a line" in _said(checked["a_two_lines"], "warning")
    assert "cannot be in a line" in _said(checked["b_no_url"], "error")
    assert checked["c_no_address"].status == "error"
    assert checked["d_after_those"].found > 0


def test_published_rules_that_are_dead_are_named_and_no_others(checked: dict[str, Checked], samples: Path) -> None:
    published = {path.stem for path in (samples / "sigma").glob("*.yml")}
    wrong = {name for name in published if [p for p in checked[name].problems if "blind" not in p.reason]}
    assert wrong == DEAD.keys() | PARTLY_DEAD.keys()
    for name, reason in DEAD.items():
        assert reason in _said(checked[name], "error"), name
    for name, pieces in PARTLY_DEAD.items():
        assert checked[name].status == "warning", name
        assert all(piece in _said(checked[name], "warning") for piece in pieces), (name, checked[name].problems)


def test_rules_without_events_are_blind(checked: dict[str, Checked]) -> None:
    assert "blind since 20260101" in _said(checked["plain"], "warning")
    assert "blind: this lake has no events in route53" in _said(checked["net_dns_mal_cobaltstrike"], "warning")


@pytest.mark.slow
def test_rules_for_what_redaction_hides_are_errors(tmp_path: Path) -> None:
    loaded = written(
        tmp_path, ada={"detection": {"s": {"userIdentity.userName": "ada"}, "condition": "s"}},
        made={"detection": {"s": {"eventName": "CreateUser"}, "condition": "s"}},
    )  # fmt: skip
    settings = config.load(lake=str(tmp_path / "none"), redact=({"name": "people", "path": "actor.user.name"},))
    assert [one.status for one in check.check(settings, loaded)] == ["error", "ok"]


def test_names_are_looked_up() -> None:
    assert operations.problem_of_name("CreateFunction20150331", "lambda.amazonaws.com") is None
    assert operations.problem_of_name("ConsoleLogin", "signin.amazonaws.com") is None
    assert operations.problem_of_name("GetObject", None) is None
    assert "did you mean" in (operations.problem_of_name("GetObjekt", None) or "")
    assert operations.problem_of_source("ec2.amazonaws.com") is None
    assert len(operations.load().members) > 15_000


def test_made_records_are_what_their_source_has() -> None:
    for log in logs.LOGS:
        for part in log.parts:
            assert made.record(part, {}) == made.ORDINARY[part.source]
            assert made.file_of(part.source, [made.record(part, {})])
    record = made.record(logs.ALB, {"c-ip": "203.0.113.1", "cs-uri-query": "a=1", "cs-method": "PUT"})
    assert record["client"] == "203.0.113.1:49152"
    assert record["request"] == "PUT https://shop.example.com:443/cart?a=1 HTTP/1.1"
    with pytest.raises(made.Impossible):
        made.record(logs.ALB, {"nothing": "x"})


def test_many_alternatives_are_some_with_each_part_in_one(tmp_path: Path) -> None:
    said = {
        "a": {"eventName": [f"a{n}" for n in range(40)], "awsRegion": [f"b{n}" for n in range(30)]}, "condition": "a",
    }  # fmt: skip
    (rule,) = written(tmp_path, many={"detection": said})
    assert rule.parsed is not None
    found = alternatives.of(rule.parsed)
    assert len(found) <= 2 * alternatives.MOST
    assert len({str(atom) for alternative in found for atom in alternative}) == 70
    assert inject.record(logs.CLOUDTRAIL, found[3])["eventName"] in {f"a{n}" for n in range(40)}
    assert json.dumps(found[0][0].field)
