"""Every check has an event that breaks it and nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ocsf_mappers import registry
from ocsf_mappers.ocsf import schema, validate
from tests import ocsf_check
from tests.support import Json

VERSION = "1.1.0"
ENDPOINT = pa.struct(
    [
        ("ip", pa.string()),
        ("name", pa.string()),
        ("port", pa.int32()),
        ("intermediate_ips", pa.list_(pa.string())),
        ("nonsense", pa.string()),
    ]
)
OBSERVABLE = pa.struct([("name", pa.string()), ("type_id", pa.int32()), ("type", pa.string()), ("value", pa.string())])
REQUEST = pa.struct([("uid", pa.string()), ("data", pa.string())])
PRODUCT = pa.struct([("name", pa.string()), ("vendor_name", pa.string())])
COLUMNS = pa.schema(
    [
        ("activity_id", pa.int32()),
        ("activity_name", pa.string()),
        ("category_uid", pa.int32()),
        ("class_uid", pa.int32()),
        ("type_uid", pa.int64()),
        ("severity_id", pa.int32()),
        ("severity", pa.string()),
        ("time", pa.int64()),
        ("time_dt", pa.timestamp("us", "UTC")),
        ("message", pa.string()),
        ("metadata", pa.struct([("version", pa.string()), ("product", PRODUCT), ("profiles", pa.list_(pa.string()))])),
        ("cloud", pa.struct([("provider", pa.string()), ("region", pa.string())])),
        ("actor", pa.struct([("invoked_by", pa.string())])),
        ("api", pa.struct([("operation", pa.string()), ("request", REQUEST)])),
        ("src_endpoint", ENDPOINT),
        ("observables", pa.list_(OBSERVABLE)),
        ("action_id", pa.int32()),
        ("unmapped", pa.map_(pa.string(), pa.string())),
        ("not_in_ocsf", pa.string()),
        ("source_object", pa.string()),
    ]
)  # fmt: skip
VALID: Json = {
    "activity_id": 1,
    "activity_name": "Create",
    "category_uid": 6,
    "class_uid": 6003,
    "type_uid": 600301,
    "severity_id": 1,
    "severity": "Informational",
    "time": 1_770_106_500_000,
    "metadata": {"version": VERSION, "product": {"name": "x", "vendor_name": "y"}, "profiles": ["cloud", "datetime"]},
    "cloud": {"provider": "AWS"},
    "actor": {"invoked_by": "x"},
    "api": {"operation": "x"},
    "src_endpoint": {"ip": "192.0.2.1"},
    "source_object": "memory://x",
}


def said(event: Json, *, warnings: bool = False, columns: pa.Schema = COLUMNS) -> list[str]:
    facts = schema.load(VERSION)
    classes = [(facts.event_class("api_activity"), ("cloud", "datetime"))]
    return struck(validate.checks(facts, classes, columns), event, warnings=warnings, columns=columns)


def struck(checks: list[validate.Check], event: Json, *, warnings: bool, columns: pa.Schema) -> list[str]:
    """What the checks say of an event, made one by one and, which must be the same, in one pass over each list."""
    tallies, tallied = validate.tallied(checks, "k")
    counted = "".join(f", {sql} AS {name}" for name, sql in tallies.items())
    with duckdb.connect() as connection:
        connection.register("events", pa.Table.from_pylist([event], schema=columns))
        apart, together = validate.listing(checks, warnings=warnings), validate.listing(tallied, warnings=warnings)
        ((first, second),) = connection.sql(
            f"SELECT {apart}, {together} FROM (SELECT *{counted} FROM events)"
        ).fetchall()
    assert first == second
    return first or []


def changed(path: str, value: Any) -> Json:
    event: Json = copy.deepcopy(VALID)
    holder = event
    *steps, last = path.split(".")
    for step in steps:
        holder = holder.setdefault(step, {})
    holder[last] = value
    return event


def test_a_valid_event_has_no_problems_and_no_warnings() -> None:
    assert said(VALID) == []
    assert said(VALID, warnings=True) == []
    names = {
        "class_name": "API Activity",
        "category_name": "Application Activity",
        "type_name": "API Activity: Create",
    }
    event = {name: value for name, value in VALID.items() if name != "source_object"}
    assert ocsf_check.problems(VERSION, event | names) == []


def test_a_class_that_is_not_expected_is_named() -> None:
    assert "class_uid: 4001 is not a class expected here" in said(changed("class_uid", 4001))


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("activity_id", None, "activity_id: required attribute is missing"),
        ("severity_id", None, "severity_id: required attribute is missing"),
        ("time", None, "time: required attribute is missing"),
        ("metadata", None, "metadata: required attribute is missing"),
        ("metadata.product", None, "metadata.product: required attribute is missing"),
        ("metadata.product.vendor_name", None, "metadata.product.vendor_name: required attribute is missing"),
        ("metadata.version", None, "metadata.version: required attribute is missing"),
        ("cloud", None, "cloud: required attribute is missing"),
        ("actor", None, "actor: required attribute is missing"),
        ("api", None, "api: required attribute is missing"),
        ("api.request", {"data": "{}"}, "api.request.uid: required attribute is missing"),
        ("src_endpoint", None, "src_endpoint: required attribute is missing"),
        ("observables", [{"name": "x"}], "observables[].type_id: required attribute is missing"),
        ("not_in_ocsf", "x", "not_in_ocsf: OCSF 1.1.0 api_activity has no such attribute"),
        ("src_endpoint.nonsense", "x", "src_endpoint.nonsense: OCSF 1.1.0 network_endpoint has no such attribute"),
        ("action_id", 1, "action_id"),
        ("activity_id", 77, "activity_id: 77 is not in the enum"),
        ("severity_id", 42, "severity_id: 42 is not in the enum"),
        ("src_endpoint.port", 65_536, "src_endpoint.port: 65536 is not in 0 to 65535"),
        ("src_endpoint.port", -1, "src_endpoint.port: -1 is not in 0 to 65535"),
        ("src_endpoint", {"port": 443}, "src_endpoint: needs at least one of"),
        ("class_uid", 4001, "is not a class expected here"),
        ("category_uid", 4, "category_uid: 4 is not the category of the class"),
        ("type_uid", 600302, "type_uid: 600302 is not the class and activity"),
        ("metadata.version", "1.5.0", "metadata.version: 1.5.0 is not the version validated against"),
        ("time", 1_770_106_500, "time: 1770106500 ms is outside the years 2000 to 2099"),
        ("time", 1_770_106_500_000_000, "ms is outside the years 2000 to 2099"),
    ],
)
def test_a_broken_rule_is_named(path: str, value: Any, problem: str) -> None:
    event = changed(path, value)
    if path == "activity_id" and value == 77:
        event["type_uid"] = 600377
    found = said(event)
    assert any(problem in text for text in found), found
    # OCSF says what class, category and type are both as an enum and as a rule
    same = {path.partition(".")[0], "type_uid"} if path == "activity_id" else {path.partition(".")[0]}
    assert {text.partition(":")[0].partition(".")[0].partition("[")[0] for text in found} <= same, found


@pytest.mark.parametrize(
    ("path", "value", "warning"),
    [
        ("src_endpoint.ip", "192.0.2.999", "src_endpoint.ip: does not look like ip_t"),
        (
            "src_endpoint.intermediate_ips",
            ["192.0.2.1", "x"],
            "src_endpoint.intermediate_ips[]: does not look like ip_t",
        ),
        ("severity", "Critical", "severity_id: Critical is not its caption"),
        ("activity_name", "Delete", "activity_id: Delete is not its caption"),
    ],
)
def test_what_is_only_odd_is_a_warning(path: str, value: Any, warning: str) -> None:
    event = changed(path, value)
    assert said(event) == []
    found = said(event, warnings=True)
    assert len(found) == 1, found
    assert warning in found[0]


def test_an_other_may_have_any_caption() -> None:
    event = changed("activity_name", "DescribeSomething") | {"activity_id": 99, "type_uid": 600399}
    assert said(event) == said(event, warnings=True) == []


def test_two_broken_rules_are_both_named() -> None:
    event = changed("src_endpoint.port", 70_000) | {"api": None}
    assert len(said(event)) == 2


@pytest.mark.parametrize("kind", [pa.int32(), pa.list_(pa.string()), pa.struct([("a", pa.string())])], ids=str)
def test_a_column_of_the_wrong_type_is_a_problem_where_it_holds_something(kind: pa.DataType) -> None:
    columns = COLUMNS.set(COLUMNS.get_field_index("message"), pa.field("message", kind))
    value = {"int32": 1, "list<item: string>": ["x"], "struct<a: string>": {"a": "x"}}[str(kind)]
    assert said(VALID, columns=columns) == []
    found = said(VALID | {"message": value}, columns=columns)
    assert len(found) == 1
    assert found[0].startswith("message: ")


def test_unmapped_may_hold_anything() -> None:
    assert said(VALID | {"unmapped": [("a.b", "x"), ("", "y")]}) == []


def test_an_object_of_nulls_is_absent() -> None:
    assert json.dumps(said(changed("api.request", {"uid": None, "data": None}))) in (
        "[]",
        '["api.request.uid: required attribute is missing"]',
    )


@pytest.mark.slow
def test_elements_of_lists_in_lists_are_checked() -> None:
    columns = registry.table("guardduty_findings").arrow
    facts = schema.load("1.8.0")
    checks = validate.checks(facts, [(facts.event_class("detection_finding"), ("cloud", "datetime"))], columns)
    lists = [check for check in checks if check.path.startswith("evidences[]")]
    assert len({check.items for check in lists}) > 5
    assert len(lists) > validate.TALLIED, "more checks of a list than one number has bits"
    good = {"file": {"name": "x", "type_id": 0, "hashes": [{"value": "1", "algorithm_id": 3}]}}
    bad = {"file": {"name": "x", "type_id": 77, "hashes": [None, {"algorithm_id": 3}, {"value": "1"}]}}
    found = {}
    for name, evidences in {"good": [good, None], "bad": [good, bad], "none": None}.items():
        found[name] = struck(lists, {"evidences": evidences}, warnings=False, columns=columns)
    assert found == {
        "good": [],
        "none": [],
        "bad": [
            "evidences[].file.type_id: is not in the enum",
            "evidences[].file.hashes[].algorithm_id: required attribute is missing",
            "evidences[].file.hashes[].value: required attribute is missing",
        ],
    }
