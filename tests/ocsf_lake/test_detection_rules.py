"""Sigma rules as SQL over our columns: what they find is what a plain reading of the raw records finds."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from ocsf_lake.detections import asked, correlations, logs, rules, statements
from ocsf_lake.detections import places as places_of
from ocsf_lake.detections.asked import Look
from ocsf_lake.detections.dialects import ATHENA
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.places import Unmappable
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_mappers import RawObject, registry
from tests import real_logs, sigma, test_sigma
from tests.ocsf_lake import detecting
from tests.ocsf_lake.detecting import Json, of_records, places, shown, written
from tests.support import own, read

LOGS = {"aws_cloudtrail": logs.CLOUDTRAIL, "aws_route53_resolver": logs.ROUTE53}


@cache
def _samples(samples: Path, source: str) -> tuple[dict[tuple[str, int], Json], duckdb.DuckDBPyConnection]:
    """Where a record stands -> the record, of those that became events; and the events as tables."""
    parts = [*real_logs.parts(samples, source), *own(source)]
    records = {
        (where.uri, row["_record"]): row["_raw"]
        for where, chunk in parts
        for row in chunk.records.to_pylist()
        if "_raw" in row
    }
    events = detecting.mapped(source, parts)
    known = zip(events["source_object"].to_pylist(), events["source_record"].to_pylist(), strict=True)
    return {place: json.loads(records[place]) for place in known}, shown(LOGS[source], events)


def _looks(chosen: list[Rule]) -> list[Look]:
    return [dict(rule.asked.looks)[logs.CLOUDTRAIL.relation] for rule in chosen]


@pytest.fixture(scope="module")
def published(samples: Path) -> list[Rule]:
    """Published rules, all of which can be used."""
    found = rules.load([samples / "sigma"], {})
    assert {rule.stem: rule.reason for rule in found if rule.reason} == {}
    return found


@pytest.mark.slow
def test_every_published_rule_finds_what_it_finds_in_the_raw_records(samples: Path, published: list[Rule]) -> None:
    hits = {}
    for rule in published:
        plain = sigma.load(rule.path)
        source = test_sigma.SOURCES[plain.log]
        records, connection = _samples(samples, source)
        found = test_sigma.found_raw(plain, source, records.values())
        expected = {place for place, is_found in zip(records, found, strict=True) if is_found}
        assert places(connection, LOGS[source], rule) == expected, rule.stem
        hits[rule.stem] = len(expected)
    assert sum(hits.values()) >= 250
    assert sum(map(bool, hits.values())) >= 20, "rules that find nothing prove nothing"


@pytest.mark.slow
def test_all_rules_are_counted_in_one_scan(samples: Path, published: list[Rule]) -> None:
    converted = [rule for rule in published if logs.CLOUDTRAIL.source in rule.conditions]
    _, connection = _samples(samples, "aws_cloudtrail")
    relation, looks = logs.CLOUDTRAIL.relation, _looks(converted)
    counted = dict(connection.execute(statements.counts(relation, looks, Span())).fetchall())
    alone = {number: len(places(connection, logs.CLOUDTRAIL, rule)) for number, rule in enumerate(converted)}
    assert counted == {number: events for number, events in alone.items() if events}
    rows = connection.execute(statements.groups(relation, looks, Span())).fetchall()
    assert len(rows) < sum(counted.values())


@pytest.mark.slow
def test_every_rule_is_sql_that_athena_can_read(published: list[Rule]) -> None:
    for rule in published:
        for tree in rule.conditions.values():
            sqlglot.parse_one(ATHENA.sql(tree), read="athena")


# -- modifiers --------------------------------------------------------------------------------------------------------
def _record(number: int, **members: object) -> Json:
    own = {"eventID": f"e{number}", "eventTime": f"2026-05-04T0{number}:10:11Z"}
    record = test_sigma.ORDINARY["aws_cloudtrail"] | own | members
    return {name: value for name, value in record.items() if value is not None}


RECORDS = [
    _record(1, eventName="PutObject", sourceIPAddress="10.1.2.3", userAgent="aws-cli/2.0 S3%x_y", requestParameters={
        "a": {"b": "Hello World"}, "n": 5, "l": ["x", "Yy"], "o": [{"k": "v1"}, {"k": ["v2"]}], "t": True,
        "f": "PutObject", "e": "", "cmd": "-enc", "dot.ted": "z", 'q"uo': "q", "sl/ash~": "s",
        "deep": [{"o": [{"k": "d"}]}], "br": "[not a list", "u": "İSTANBUL ΟΔΟΣ \u212A ẞ",
    }),
    _record(2, eventName="putobject", sourceIPAddress="172.20.0.9", userAgent=None, requestParameters={
        "a": {"b": "hello world!"}, "n": "50", "f": "other", "t": "false", "cmd": "/enc",
    }),
    _record(
        3, eventName="GetObject", sourceIPAddress="2001:db8::1", userAgent="back\\slash*star", requestParameters=None
    ),
    _record(4, eventName="Get?bject", sourceIPAddress="AWS Internal", userAgent="x", requestParameters={
        "a": {"b": None}, "n": 4.5, "b64": "xxSUVYyyy",
    }, resources=[{"ARN": "arn:aws:s3:::listed", "type": "AWS::S3::Bucket"}],
    additionalEventData={"x": [{"y": "listed"}], "keyed.by": "dots"}),
]  # fmt: skip
P = "requestParameters."

CASES: list[tuple[Json, set[int]]] = [
    ({"eventName": "PUTOBJECT"}, {1, 2}),
    ({"eventName|cased": "PutObject"}, {1}),
    ({"eventName": r"Get\?bject"}, {4}),
    ({"eventName": "Get?bject"}, {3, 4}),
    ({"eventName": "*object"}, {1, 2, 3}),
    ({"eventName": "p*o*t"}, {1, 2}),
    ({"eventName|contains|cased": "Obj"}, {1, 3}),
    ({"eventName": ["getobject", "put*", r"get\?bject"]}, {1, 2, 3, 4}),
    ({"userAgent|contains": "S3%x_y"}, {1}),
    ({"userAgent|contains": "%xzy"}, set()),
    ({"userAgent": "aws*%x_y"}, {1}),
    ({"userAgent": "aws*%x?y"}, {1}),
    ({"userAgent": "aws*%xx?"}, set()),
    ({"userAgent|startswith": r"back\slash"}, {3}),
    ({"userAgent|endswith": r"\*star"}, {3}),
    ({"userAgent": None}, {2}),
    ({"userAgent|exists": True}, {1, 3, 4}),
    ({"userAgent|exists": False}, {2}),
    ({"userAgent": "*"}, {1, 3, 4}),
    ({"userAgent|neq": "x"}, {1, 2, 3}),
    ({f"{P}a.b|contains": "hello world"}, {1, 2}),
    ({f"{P}a.b|contains|all": ["hello", "!"]}, {2}),
    ({f"{P}a.b": None}, {3, 4}),
    ({f"{P}n": 5}, {1}),
    ({f"{P}n|gte": 5}, {1, 2}),
    ({f"{P}n|gt": 5}, {2}),
    ({f"{P}n|lt": 5}, {4}),
    ({f"{P}n|lte": 5}, {1, 4}),
    ({f"{P}t": True}, {1}),
    ({f"{P}t": False}, {2}),
    ({f"{P}t": "true"}, {1}),
    ({f"{P}e": ""}, {1}),
    ({f"{P}l": "yy"}, {1}),
    ({f"{P}l|contains": '"'}, set()),
    ({f"{P}o.k": "v2"}, {1}),
    ({f"{P}o.k|startswith": "v"}, {1}),
    ({f"{P}deep.o.k": "d"}, {1}),
    ({f"{P}br": "[not a list"}, {1}),
    ({f"{P}u": "İstanbul ΟΔΟΣ \u212A ẞ"}, {1}),
    ({f"{P}u": ["x", "İstanbul*"]}, {1}),
    ({f"{P}u|endswith": "ΟΔΟΣ k ß"}, {1}),
    ({f"{P}f|fieldref": "eventName"}, {1}),
    ({f"{P}dot.ted": "z"}, {1}),
    ({f'{P}q"uo': "q"}, {1}),
    ({f"{P}sl/ash~": "s"}, {1}),
    ({"additionalEventData.x.y": "listed"}, {4}),
    ({"additionalEventData.keyed.by": "dots"}, {4}),
    ({"sourceIPAddress|cidr": "10.0.0.0/8"}, {1}),
    ({"sourceIPAddress|cidr": ["10.0.0.0/8", "172.16.0.0/12"]}, {1, 2}),
    ({"sourceIPAddress|cidr": "2001:db8::/32"}, {3}),
    ({"sourceIPAddress|cidr": "2001:db8:0:0:0:0:0:0/127"}, {3}),
    ({"sourceIPAddress|cidr": "2001:db9::/32"}, set()),
    ({"sourceIPAddress|cidr": "::/0"}, {3}),
    ({"eventName|re": "^Put.*t$"}, {1}),
    ({"eventName|re|i": "^put.*t$"}, {1, 2}),
    ({f"{P}cmd|windash": "-enc"}, {1, 2}),
    ({f"{P}b64|base64offset|contains": "IEX"}, {4}),
    ({"eventTime|hour": 3}, {3}),
    ({"eventTime|day": 4}, {1, 2, 3, 4}),
    ({"eventTime|startswith": "2026-05-04T02"}, {2}),
    ({"eventTime": "2026-05-04T02:10:11Z"}, {2}),
    ({"userIdentity.type": "iamuser"}, {1, 2, 3, 4}),
    ({"managementEvent": True}, {1, 2, 3, 4}),
    ({"resources|contains": "arn:aws:s3:::listed"}, {4}),
    ({"resources": None}, {1, 2, 3}),
]  # fmt: skip


@pytest.fixture(scope="module")
def events() -> duckdb.DuckDBPyConnection:
    return shown(logs.CLOUDTRAIL, of_records("aws_cloudtrail", RECORDS))


def _found(connection: duckdb.DuckDBPyConnection, rule: Rule) -> set[int]:
    return {record for _, record in places(connection, logs.CLOUDTRAIL, rule)}


@pytest.mark.slow
def test_modifiers(events: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = {f"r{number}": {"detection": {"s": said, "condition": "s"}} for number, (said, _) in enumerate(CASES)}
    converted = {rule.stem: rule for rule in written(tmp_path, **files)}
    assert {name: rule.reason for name, rule in converted.items() if rule.reason} == {}
    for rule in converted.values():
        sqlglot.parse_one(ATHENA.sql(rule.conditions["aws_cloudtrail"]), read="athena")
    chosen = [converted[f"r{number}"] for number in range(len(CASES))]
    found: dict[int, set[int]] = {number: set() for number in range(len(CASES))}
    sql = f"SELECT rule, place FROM ({statements.hits(logs.CLOUDTRAIL.relation, _looks(chosen), Span())})"
    for number, place in events.execute(sql).fetchall():
        found[number].add(int(place.rsplit("#", 1)[1]))
    assert {json.dumps(said): found[number] for number, (said, _) in enumerate(CASES)} == {
        json.dumps(said): expected for said, expected in CASES
    }


@pytest.mark.parametrize(
    ("condition", "detection", "expected"),
    [
        ("not s", {"s": {"userAgent": "x"}}, {1, 2, 3}),
        ("1 of s*", {"s1": {"eventName": "GetObject"}, "s2": {"eventName": r"Get\?bject"}}, {3, 4}),
        ("all of them", {"s1": {"eventName|contains": "bject"}, "s2": {"userAgent|contains": "s"}}, {1, 3}),
        (
            "s and not 1 of f*",
            {"s": {"eventName|contains": "bject"}, "f1": {"userAgent|contains": "star"}, "f2": {f"{P}n": 5}},
            {2, 4},
        ),
        ("k", {"k": ["hello world"]}, {1, 2}),
        ("k", {"k": {"|all": ["hello", "!"]}}, {2}),
        ("not k", {"k": ["hello world"]}, {3, 4}),
        ("k", {"k": ["type_uid"]}, set()),  # a column, and no word of a record
        ("k", {"k": ["Put*Hello"]}, set()),  # two values
        ("k", {"k": ["back\\slash\\*star"]}, {3}),
        ("s and not f", {"s": {"eventName": "*"}, "f": {f"{P}o.k": "v1"}}, {2, 3, 4}),
    ],
)  # fmt: skip
def test_conditions(
    events: duckdb.DuckDBPyConnection, tmp_path: Path, condition: str, detection: Json, expected: set[int]
) -> None:
    (rule,) = written(tmp_path, rule={"detection": detection | {"condition": condition}})
    assert rule.reason is None
    assert _found(events, rule) == expected


def test_a_member_that_no_record_has_is_told_and_never_there(events: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    (rule,) = written(tmp_path, rule={"detection": {"s": {"status": "success"}, "condition": "s"}})
    assert str(rule.notes[0]).startswith("status: no record of aws_cloudtrail has a member status")
    assert _found(events, rule) == set()


def test_placeholders_are_what_the_settings_say(events: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    (rule,) = written(tmp_path, rule={"detection": {"s": {"eventName|expand": "%calls%"}, "condition": "s"}})
    assert "rule_placeholders" in str(rule.notes[0])
    assert _found(events, rule) == set()
    (filled,) = rules.load([tmp_path], {"calls": ["GetObject", "Put*"]})
    assert not filled.notes
    assert _found(events, filled) == {1, 2, 3}


def test_a_list_of_thousands_is_no_deeper_than_a_short_one() -> None:
    texts = [f"host{number}.example" for number in range(1_200)]
    one_by_one = exp.or_(*(exp.EQ(this=exp.Lower(this=places_of.column("a")), expression=exp.Literal.string(text))
                           for text in texts), copy=False)  # fmt: skip
    found, *_ = asked.look(one_by_one, {"a"})
    assert found.pins == {"a": frozenset(texts)}


def test_a_rule_that_goes_too_deep_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rule,) = written(tmp_path, rule={"detection": {"s": {"eventName": "a"}, "condition": "s"}})
    look, times = asked.look, []

    def too_deep(*given: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            raise RecursionError("too deep")
        return look(*given)

    monkeypatch.setattr(asked, "look", too_deep)
    assert "too deep" in (rule.asked.reason or "")
    assert rule.asked.looks == ()


def test_a_rule_that_cannot_be_used_has_its_reason_and_stops_no_other(tmp_path: Path) -> None:
    cloudtrail = "title: x\nlogsource: {product: aws, service: cloudtrail}\n"
    for name, text in {
        "broken": "title: [", "empty": "", "list": "- a\n- b", "text": "hello", "bytes": "\x00",
        "nothing": "title: x\nlogsource: {product: aws}",
        "windows": "title: x\nlogsource: {product: windows}\ndetection: {s: {a: b}, condition: s}",
        "lookahead": f"{cloudtrail}detection: {{s: {{'eventName|re': '(?=x)'}}, condition: s}}",
        "condition": f"{cloudtrail}detection: {{s: {{a: b}}, condition: s and}}",
        "level": f"{cloudtrail}level: hgh\ndetection: {{s: {{a: b}}, condition: s}}",
        "tag": f"{cloudtrail}tags: [{{a: b}}]\nname: [x]\ndetection: {{s: {{a: b}}, condition: s}}",
        "service": "title: x\nlogsource: {product: aws, service: {a: b}}\ndetection: {s: {a: b}, condition: s}",
        "parts": f"{cloudtrail}detection: {{s: {{a: b}}, condition: {{a: b}}}}",
        "surrogate": f'{cloudtrail}detection: {{s: {{a: "\\ud800"}}, condition: s}}',
        "number": f"{cloudtrail}detection: {{s: {{a: b}}, condition: 1.5}}",
    }.items():  # fmt: skip
        (tmp_path / f"{name}.yml").write_text(text, encoding="utf-8")
    (tmp_path / "half").mkdir()
    (tmp_path / "latin.yml").write_bytes(b"title: \xff")
    found = written(tmp_path, good={"detection": {"s": {"eventName": "x"}, "condition": "s"}})
    converted = {rule.stem: rule for rule in found}
    assert {name for name, rule in converted.items() if rule.reason is None} == {"good"}
    (half,) = written(tmp_path / "half", half={"title": "\ud800", "detection": {"s": {"a": "b"}, "condition": "s"}})
    assert half.title == "?"
    assert "product windows" in (converted["windows"].reason or "")


# -- correlations -----------------------------------------------------------------------------------------------------
def _calls(*calls: tuple[int, str, str]) -> pa.Table:
    """Events at minutes, by names of users and operations."""
    return of_records("aws_cloudtrail", [
        test_sigma.ORDINARY["aws_cloudtrail"] | {
            "eventTime": f"2026-05-04T{minute // 60:02}:{minute % 60:02}:00Z", "eventID": f"{number}",
            "eventName": name,
            "userIdentity": {"type": "IAMUser", "userName": user, "arn": f"arn:aws:iam::111122223333:user/{user}"},
        } for number, (minute, user, name) in enumerate(calls)
    ])  # fmt: skip


BASES = [
    {"name": "list", "detection": {"s": {"eventName|startswith": "List"}, "condition": "s"}},
    {"name": "key", "detection": {"s": {"eventName": "CreateAccessKey"}, "condition": "s"}},
    {"name": "policy", "detection": {"s": {"eventName": "PutUserPolicy"}, "condition": "s"}},
]


def _correlation(kind: str, names: list[str], **more: object) -> Json:
    return {"name": kind, "correlation": {
        "type": kind, "rules": names, "group-by": ["userIdentity.userName"], "timespan": "10m", **more,
    }}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (_correlation("event_count", ["list"], condition={"gte": 3}), {3, 4}),
        (_correlation("value_count", ["list"], condition={"field": "eventName", "gt": 1}), {3, 4}),
        (_correlation("temporal", ["key", "policy"]), {6, 8}),
        (_correlation("temporal_ordered", ["key", "policy"]), {6}),
    ],
)
def test_correlations(tmp_path: Path, said: Json, expected: set[int]) -> None:
    connection = shown(logs.CLOUDTRAIL, _calls(
        (0, "ada", "ListUsers"), (5, "ada", "ListUsers"), (6, "bob", "ListUsers"), (9, "ada", "ListRoles"),
        (12, "ada", "ListRoles"), (20, "ada", "CreateAccessKey"), (30, "ada", "PutUserPolicy"),
        (100, "bob", "PutUserPolicy"), (101, "bob", "CreateAccessKey"), (200, "eve", "CreateAccessKey"),
        (211, "eve", "PutUserPolicy"),
    ))  # fmt: skip
    converted = written(tmp_path, bases=BASES, said=said)
    (correlation,) = [rule.correlation for rule in converted if rule.correlation]
    assert {one.name for one in converted if one.is_silent} == set(said["correlation"]["rules"])
    rows = connection.execute(f"SELECT uid FROM ({statements.correlated(correlation.counted, Span())})").fetchall()
    assert {int(uid) for (uid,) in rows} == expected


@pytest.mark.parametrize(
    "said",
    [
        _correlation("event_count", ["list"], condition={"lt": 3}),
        _correlation("event_count", ["list"], condition={"gte": 3}, timespan="99999999999999d"),
        _correlation("value_sum", ["list"], condition={"gte": 3, "field": "eventName"}),
        _correlation("event_count", ["nobody"], condition={"gte": 3}),
        _correlation("temporal", ["list", "key"], condition="list and not key"),
    ],
)
def test_correlations_that_are_not_supported_have_a_reason(tmp_path: Path, said: Json) -> None:
    (rule,) = [rule for rule in written(tmp_path, bases=BASES, said=said) if rule.stem == "said"]
    assert rule.reason
    assert correlations.COUNTED


# -- where members stand ----------------------------------------------------------------------------------------------
ELSEWHERE = {
    "aws_waf": {"httpRequest.args"},  # an empty text is none
    "aws_route53_resolver": {"query_timestamp"},
    "aws_eks_audit": {"kind", "requestReceivedTimestamp"},  # the same in every record; a time
    "aws_alb": {"time", "request_creation_time", "request"},
    "aws_clb": {"time"},
    "aws_nlb": {"time", "tls_connection_creation_time"},
    "aws_s3_access": {"own_path", "url", "time"},  # the reader's, of one that is written in another way
}
"""Members that rules find by another text than the record's: times in another form, and what is said in docs."""
FOLDERS = {
    "aws_vpc_flow": "vpcflow", "aws_route53_resolver": "route53", "aws_waf": "waf", "aws_eks_audit": "eks",
    "aws_alb": "alb", "aws_clb": "clb", "aws_nlb": "nlb", "aws_s3_access": "s3access",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [logs.VPC_FLOW, logs.ROUTE53, logs.WAF, logs.EKS, logs.ALB, logs.CLB, logs.NLB, logs.S3_ACCESS],
    ids=lambda part: part.source,
)
def test_every_member_is_found_where_it_stands(samples: Path, part: Part) -> None:
    mapper = registry.load(part.source)
    parts, records = [], {}
    for path in sorted((samples / FOLDERS[part.source]).iterdir()):
        with path.open("rb") as file:
            head = path.read_bytes()[:4096]
            chunks = read(mapper, file) if any(reader.accepts(head) for reader in mapper.readers) else []
        for chunk in chunks:
            parts.append((RawObject(path.name), chunk))
            for row in chunk.records.to_pylist():
                named = {name.replace("-", "_"): row[f"c{number}"] for number, name in enumerate(chunk.names)}
                records[path.name, row["_record"]] = json.loads(row["_raw"]) if "_raw" in row else named
    events = detecting.mapped(part.source, parts)
    known = set(zip(events["source_object"].to_pylist(), events["source_record"].to_pylist(), strict=True))
    connection = shown(part, events)
    wrong = set()
    for member in {leaf for record in records.values() for leaf in _leaves(record, ())}:
        texts: dict[str, set[tuple[str, int]]] = {}
        for place in known:
            for text in sigma.of_json(records[place], member):
                texts.setdefault(text, set()).add(place)
        for text, expected in sorted(texts.items())[:1]:
            rule = Rule(samples, log=logs.LOGS[0], conditions={part.source: _equals(part, member, text)})
            if places(connection, part, rule) != expected:
                wrong.add(member)
    assert wrong <= ELSEWHERE.get(part.source, set())


def _leaves(value: object, path: tuple[str, ...]) -> set[str]:
    if isinstance(value, dict):
        return {leaf for name, member in value.items() for leaf in _leaves(member, (*path, name))}
    if isinstance(value, list):
        return {leaf for item in value for leaf in _leaves(item, path)}
    return {".".join(path)} if value is not None else set()


def _equals(part: Part, member: str, text: str) -> exp.Expr:
    try:
        found = part.field(member)
    except Unmappable:
        return exp.false()
    return found.any(lambda value: exp.EQ(this=value, expression=exp.Literal.string(text)))
