"""Public detection rules find on our columns what they find on the raw records: see the `samples` fixture."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from ocsf_mappers import RawObject, registry
from tests import real_logs, sigma
from tests.support import Json, as_events, dig, engine, mapped, own, read

SOURCES = {("aws", "cloudtrail", None): "aws_cloudtrail", (None, None, "dns"): "aws_route53_resolver"}
"""Product, service and category of a rule -> the source whose records it is for."""

IN_BOTH_ENDS = pytest.mark.parametrize("version", ["1.1.0", pytest.param("1.8.0", marks=pytest.mark.acceptance)])
"""The oldest and the newest OCSF version; what their events have in common, docs/ocsf-versions.md tells."""

Place = tuple[str, int]

COLUMNS = {
    "aws_cloudtrail": {
        "errorCode": ("api.response.error",),
        "errorMessage": ("api.response.message",),
        "eventName": ("api.operation",),
        "eventSource": ("api.service.name",),
        "eventType": ("metadata.event_code",),
        "sourceIPAddress": ("src_endpoint.ip", "src_endpoint.domain", "src_endpoint.svc_name"),
        "userAgent": ("http_request.user_agent",),
        "userIdentity.arn": ("actor.user.uid",),
        "userIdentity.type": ("actor.user.type",),
        "userIdentity.userName": ("actor.user.name",),
    },
    "aws_route53_resolver": {
        "answer": ("answers.rdata",),
        "query": ("query.hostname",),
        "record_type": ("query.type",),
    },
}
"""A field of rules -> the columns that hold it, the first one that is filled."""

DOCUMENTS = {"requestParameters": "api.request.data", "responseElements": "api.response.data"}
"""Members that are columns of JSON text."""

DNS_FIELDS = {"query": "query_name", "record_type": "query_type", "answer": "answers.Rdata"}

NEVER = {
    "aws_iam_s3browser_templated_s3_bucket_policy_creation": "a policy is a text, in which its quotes are escaped",
}
"""Rules that cannot match what AWS sends, and why."""

ORDINARY: dict[str, Json] = {
    "aws_cloudtrail": {
        "eventVersion": "1.11", "eventTime": "2026-05-04T09:10:11Z", "eventSource": "ec2.amazonaws.com",
        "eventName": "DescribeTags", "awsRegion": "eu-west-1", "sourceIPAddress": "203.0.113.7", "userAgent": "curl/8",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ada", "accountId": "111122223333"},
        "requestParameters": {"a": 1}, "responseElements": {"b": 2}, "requestID": "0f3c", "eventID": "6b1d",
        "eventType": "AwsApiCall", "managementEvent": True, "recipientAccountId": "111122223333",
        "eventCategory": "Management",
    },
    "aws_route53_resolver": {
        "version": "1.100000", "account_id": "111122223333", "region": "eu-west-1", "vpc_id": "vpc-0a1b2c3d",
        "query_timestamp": "2026-05-04T09:10:11Z", "query_name": "www.example.com.", "query_type": "A",
        "query_class": "IN", "rcode": "NOERROR", "answers": [], "srcaddr": "10.0.0.7", "srcport": "53211",
        "transport": "UDP", "srcids": {"instance": "i-0a1b2c3d"},
    },
}  # fmt: skip
"""A record that no rule is for."""


# -- the two sides ----------------------------------------------------------------------------------------------------
def raw_texts(source: str, record: Json, field: str) -> list[str]:
    """A field of a rule as the record has it; Sigma writes DNS names without their final dot."""
    if source == "aws_cloudtrail":
        return sigma.of_json(record, field)
    texts = sigma.of_json(record, DNS_FIELDS.get(field, field))
    return [text.rstrip(".") for text in texts] if field == "query" else texts


def column_texts(source: str, event: Json, field: str) -> list[str]:
    """The same field as our columns have it."""
    if paths := COLUMNS[source].get(field):
        found = next((texts for path in paths if (texts := sigma.of_json(event, path))), [])
        return [text.rstrip(".") for text in found] if field == "query" else found
    top, _, rest = field.partition(".")
    if top in DOCUMENTS:
        document = dig(event, DOCUMENTS[top])
        return sigma.of_json(json.loads(document), rest) if document is not None else []
    if field == "additionalEventData.MFAUsed" and (mfa := event.get("is_mfa")) is not None:
        return ["Yes" if mfa else "No"]
    text = event.get("unmapped", {}).get(field)
    return [] if text is None else [text]


@cache
def pairs(samples: Path, source: str, version: str) -> dict[Place, tuple[Json, Json]]:
    """Where a record stands -> the record and its event, of all samples, ours too."""
    texts = {
        (where.uri, row["_record"]): row["_raw"]
        for where, chunk in [*real_logs.parts(samples, source), *own(source)]
        for row in chunk.records.to_pylist()
        if "_raw" in row
    }
    events = {
        (lake["source_object"], lake["source_record"]): event
        for found in (real_logs.mapped(samples, source, version), mapped(source, version))
        for event, lake in as_events(found.events)
    }
    assert events.keys() <= texts.keys()
    return {place: (json.loads(texts[place]), event) for place, event in events.items()}


# -- tests ------------------------------------------------------------------------------------------------------------
def found_raw(rule: sigma.Rule, source: str, records: Iterable[Json]) -> list[bool]:
    """For each record whether a rule matches it."""
    return [sigma.matches(rule, lambda field, one=one: raw_texts(source, one, field)) for one in records]


def found_in_columns(rule: sigma.Rule, source: str, events: Iterable[Json]) -> list[bool]:
    """For each event whether a rule matches its columns."""
    return [sigma.matches(rule, lambda field, one=one: column_texts(source, one, field)) for one in events]


@cache
def _rules(samples: Path) -> dict[str, sigma.Rule]:
    found = {path.stem: sigma.load(path) for path in sorted((samples / "sigma").glob("*.yml"))}
    assert len(found) >= 50
    return found


@cache
def _raw_hits(samples: Path, name: str) -> dict[Place, bool]:
    rule = _rules(samples)[name]
    source = SOURCES[rule.log]
    known = pairs(samples, source, "1.1.0")
    return dict(zip(known, found_raw(rule, source, (record for record, _ in known.values())), strict=True))


@pytest.mark.slow
@IN_BOTH_ENDS
def test_every_rule_finds_the_same_records(samples: Path, version: str) -> None:
    differing, hits = {}, {}
    for name, rule in _rules(samples).items():
        source = SOURCES[rule.log]
        raw, events = _raw_hits(samples, name), pairs(samples, source, version)
        assert raw.keys() == events.keys()
        ours = found_in_columns(rule, source, (event for _, event in events.values()))
        hits[name] = sum(raw.values())
        differing[name] = [place for place, found in zip(events, ours, strict=True) if found != raw[place]]
    assert {name: places for name, places in differing.items() if places} == {}
    assert sum(map(bool, hits.values())) >= 20, "rules that find nothing prove nothing"
    assert sum(hits.values()) >= 250


@pytest.mark.slow
@IN_BOTH_ENDS
def test_every_rule_finds_a_record_made_for_it(samples: Path, version: str) -> None:
    missed = {name for name, rule in _rules(samples).items() if not _finds_its_own(rule, version)}
    assert missed == NEVER.keys()


def _finds_its_own(rule: sigma.Rule, version: str) -> bool:
    """Whether a rule finds each record made for it, raw and mapped; the two never differ."""
    source = SOURCES[rule.log]
    records = [_with(source, wanted) for wanted in sigma.wanted(rule)]
    file = io.BytesIO(b"\n".join(json.dumps(record).encode() for record in records))
    chunks = read(registry.load(source), file)
    found = engine(source, version).map([(RawObject("made.jsonl"), chunk) for chunk in chunks])
    events = [event for event, _ in as_events(found.events)]
    raw = found_raw(rule, source, records)
    assert found_in_columns(rule, source, events) == raw, rule.title
    return all(raw)


def _with(source: str, wanted: dict[str, str]) -> Json:
    """An ordinary record but for what a rule wants."""
    record: Json = json.loads(json.dumps(ORDINARY[source]))
    for field, text in wanted.items():
        if field == "answer":
            record["answers"] = [{"Rdata": text, "Type": "TXT", "Class": "IN"}]
            continue
        *steps, last = DNS_FIELDS.get(field, field).split(".") if source == "aws_route53_resolver" else field.split(".")
        place = record
        for step in steps:
            place = place.setdefault(step, {})
        # Where a rule looks into the text of a whole document, some member holds it.
        place[last] = {"member": text} if field in DOCUMENTS else text
    return record
