"""The rules that come along: each finds what it is for, and leaves what only looks like it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ocsf_lake import config
from ocsf_lake.config import Settings
from ocsf_lake.detections import attack, connections, made, new_values, pack, rules, statements
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_lake.ingest import run as ingest
from tests.ocsf_lake.pack_records import CASES, Members

START = datetime(2026, 5, 4, 9, 10, tzinfo=UTC)
OWN: dict[str, Members] = {
    "aws_cloudtrail": {
        "userIdentity.userName": "user@", "userIdentity.arn": "arn:aws:iam::111122223333:user/user@",
        "sourceIPAddress": "198.51.100.@",
    },
    "aws_vpc_flow": {"srcaddr": "198.51.100.@"},
    "aws_route53_resolver": {"srcaddr": "10.0.0.@"},
    "aws_waf": {"httpRequest.clientIp": "198.51.100.@"},
    "aws_alb": {"client_ip": "198.51.100.@"},
    "aws_s3_access": {"requester": "arn:aws:iam::111122223333:user/user@"},
}  # fmt: skip
"""What groups events, so that cases stay apart."""
TIMES = {
    "aws_cloudtrail": ("eventTime", "%Y-%m-%dT%H:%M:%SZ"), "aws_route53_resolver": ("query_timestamp",
    "%Y-%m-%dT%H:%M:%SZ"),
    "aws_guardduty": ("updatedAt", "%Y-%m-%dT%H:%M:%S.000Z"),
    "aws_alb": ("time", "%Y-%m-%dT%H:%M:%S.000000Z"), "aws_s3_access": ("time", "[%d/%b/%Y:%H:%M:%S +0000]"),
}  # fmt: skip


@pytest.fixture(scope="module")
def ours() -> dict[str, Rule]:
    """File -> the rule that it is for."""
    loaded = rules.load([Path(pack.NAME)], {})
    assert {rule.title: rule.reason for rule in loaded if rule.reason} == {}
    assert [note for rule in loaded for note in rule.notes] == []
    found = {rule.stem: rule for rule in loaded if not rule.is_silent}
    assert len(found) == len({rule.stem for rule in loaded}), "one a file"
    return found


def _part(rule: Rule) -> Part:
    base = rule.correlation.bases[0] if rule.correlation else rule
    assert base.log is not None
    return base.log.parts[0]


def _record(part: Part, members: Members, case: int, number: int) -> made.Json:
    said = json.loads(json.dumps(OWN.get(part.source, {}) | members).replace("@", str(case)))
    moment = START + timedelta(days=said.pop("days", 0), seconds=number)
    if part.source in TIMES:
        name, form = TIMES[part.source]
        said[name] = moment.strftime(form)
    elif part.source == "aws_vpc_flow":
        said |= {"start": int(moment.timestamp()), "end": int(moment.timestamp()) + 60}
    elif part.source == "aws_waf":
        said["timestamp"] = int(moment.timestamp()) * 1000
    if part.source == "aws_cloudtrail":
        said["eventID"] = f"e-{case}-{number}"
    return made.record(part, said)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, ours: dict[str, Rule]) -> Settings:
    """One lake with all cases; the names of files say which."""
    folder = tmp_path_factory.mktemp("pack")
    settings = config.load(lake=str(folder / "lake"))
    sources: set[str] = set()
    for number, (stem, case) in enumerate(CASES.items()):
        part = _part(ours[stem])
        sources.add(part.source)
        for which, members in enumerate(case):
            place = folder / part.source / f"{stem}.{('hit', 'miss')[which]}.log"
            place.parent.mkdir(exist_ok=True)
            records = [_record(part, one, 2 * number + which, at) for at, one in enumerate(members)]
            place.write_bytes(made.file_of(part.source, records))
    for source in sorted(sources):
        summary = ingest.ingest([str(folder / source)], settings, source)
        assert not summary.failures
    return settings


def _places(connection: duckdb.DuckDBPyConnection, rule: Rule) -> set[str]:
    if rule.correlation is not None:
        sql = statements.correlated(rule.correlation.counted, Span())
    else:
        arms = [f"SELECT place FROM ({statements.hits(one, [look], Span())})" for one, look in rule.asked.looks]
        sql = " UNION ALL ".join(arms)
    return {place for (place,) in connection.execute(f"SELECT place FROM ({sql})").fetchall()}


@pytest.mark.slow
def test_each_rule_finds_what_it_is_for_and_leaves_what_looks_like_it(lake: Settings, ours: dict[str, Rule]) -> None:
    assert CASES.keys() == ours.keys()
    wrong: list[Any] = []
    with connections.connected(lake, [rule.asked for rule in ours.values()], Span()) as shown:
        for stem, rule in ours.items():
            found = _places(shown.connection, rule)
            if rule.first_seen is not None:
                continue
            hits, missed = ({place for place in found if f"/{stem}.{kind}.log#" in place} for kind in ("hit", "miss"))
            wanted = 1 if rule.correlation else len(CASES[stem][0])
            if len(hits) < wanted or missed:
                wrong.append((stem, len(hits), wanted, sorted(missed)))
    assert wrong == [], str(wrong)


@pytest.mark.slow
def test_each_rule_of_what_is_new_finds_that_and_leaves_what_is_not(lake: Settings, ours: dict[str, Rule]) -> None:
    looked, reasons = 0, dict[int, str]()
    for number, new in new_values.look(lake, [ours[stem].asked for stem in CASES], Span(), None, reasons):
        stem, hit, miss = list(CASES)[number], str(2 * number), str(2 * number + 1)
        found = [row["about"] for row in new.rows("is_new")]
        assert [about for about in found if hit in about], stem
        assert not [about for about in found if miss in about], (stem, found)
        looked += 1
    assert (looked, reasons) == (8, {})


@pytest.mark.slow
def test_rules_say_what_to_do_and_what_they_are_about(ours: dict[str, Rule]) -> None:
    ids = [rule.id for rule in rules.load([pack.FOLDER], {})]
    assert None not in ids
    assert len(ids) == len(set(ids))
    for rule in ours.values():
        assert "Next: " in rule.description, rule.stem
        assert rule.level in ("low", "medium", "high", "critical"), rule.stem
        for tag in rule.tags:
            name = tag.removeprefix("attack.")
            assert name in attack.TACTICS or name.upper() in attack.TECHNIQUES, (rule.stem, tag)
        assert rule.tags, rule.stem
        assert "falsepositives:" in rule.path.read_text(encoding="utf-8"), rule.stem
    tables = {table for rule in ours.values() for table in _part(rule).tables}
    expected = {"cloud_trail_mgmt", "vpc_flow", "route53", "guardduty_findings", "waf", "eks_audit", "alb", "s3_access"}
    assert expected <= tables
