"""The words that shorten a mapper: blank texts, conditions, objects, texts made of values, defaults, lists of texts."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import ocsf_mappers
from ocsf_mappers import (
    JSON,
    Engine,
    EventMap,
    Expr,
    JsonRecords,
    Mapper,
    Product,
    RawObject,
    coalesce,
    col,
    element,
    first,
    list_of,
    obj,
    outer,
    registry,
    text,
    text_struct,
    when,
)
from ocsf_mappers.compiler import explain
from ocsf_mappers.engine import engine as engines
from ocsf_mappers.errors import MappingError
from ocsf_mappers.readers import Chunk
from ocsf_mappers.vocabulary import values
from tests.support import Json, dig, ocsf

RECORD = pa.struct(
    [*text_struct("time id a b c"), pa.field("things", JSON), pa.field("thing", JSON), pa.field("in", text_struct("x"))]
)
BASE = {
    "activity_id": "Create",
    "severity_id": "Informational",
    "time": col.time.iso8601(),
    "cloud.provider": "AWS",
    "finding_info.uid": col.id,
    "finding_info.title": "title",
}


def run(fields: dict[str, Any], *records: Json, rows: int = 1, **more: Any) -> list[Json]:
    """Events of some records.

    With more rows than one the records are mapped again, by distinct values, and have to become the same.
    """
    mapper = Mapper(
        name="test",
        product=Product("Test"),
        readers=[JsonRecords()],
        record=RECORD,
        events=[EventMap("detection_finding", BASE | fields, profiles=("cloud", "host"))],
        table="guardduty_findings",
        **more,
    )
    engine = Engine(mapper, "1.8.0")
    whole = [{"time": "2026-02-03T08:15:30Z", "id": "1", **record} for record in records]
    texts = [json.dumps(record) for record in whole]

    def mapped(times: int) -> list[Json]:
        raw = pa.array(texts * times, pa.string())
        table = pa.table({"_record": pa.array(range(1, len(raw) + 1), pa.int64()), "_raw": raw})
        found = engine.map([(RawObject("memory://x"), Chunk(table))])
        assert found.rejects["reason"].to_pylist() == []
        return ocsf(found.events)

    events = mapped(1)
    if rows > 1:
        times = -(-rows // len(whole))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engines, "FEW_ROWS", rows)
            assert mapped(times) == events * times
    return events


ROWS = pytest.mark.parametrize("rows", [3], ids=["row by row and by distinct values"])


@ROWS
@pytest.mark.parametrize("blank", [("",), ("", "-")])
def test_a_blank_text_is_null_wherever_it_is_read(rows: int, blank: tuple[str, ...]) -> None:
    records = [{"a": text, "b": "b", "thing": {"k": text}, "in": {"x": text}} for text in ("", "-", "said", None)]
    fields = {
        "message": coalesce(col.a, col.b),
        "finding_info.desc": when(col["in"].x.is_null()).then("none").otherwise(col["in"].x),
        "finding_info.uid_alt": col.thing.json("k"),
        "resources": col.thing.each({"uid": col.k, "name": element}),
    }
    events = run(fields, *records, rows=rows, blank=blank)
    for event, record in zip(events, records, strict=True):
        said = None if record["a"] in (*blank, None) else record["a"]
        assert event["message"] == (said or "b")
        assert dig(event, "finding_info.desc") == (said or "none")
        assert event["finding_info"].get("uid_alt") == said
        assert event["resources"][0].get("uid") == said


def test_text_can_be_kept_as_it_is_written() -> None:
    fields = {"message": col.a.as_written(), "finding_info.uid_alt": col.thing.json("k").as_written()}
    (event,) = run(fields, {"a": "", "thing": {"k": ""}}, blank=("",))
    assert (event["message"], dig(event, "finding_info.uid_alt")) == ("", "")
    with pytest.raises(MappingError, match="as_written"):
        coalesce(col.a, col.b).as_written()


@ROWS
def test_elements_say_nothing_by_blank_texts_unless_they_are_wanted(rows: int) -> None:
    fields = {"resources": col.things.each({"uid": col.u, "name": col.u.as_written(), "type": col.t.as_written()})}
    (event,) = run(fields, {"things": [{"u": "", "t": "x"}, {"u": "1", "t": ""}]}, rows=rows, blank=("",))
    assert event["resources"] == [{"name": "", "type": "x"}, {"uid": "1", "name": "1", "type": ""}]


@ROWS
def test_an_object_exists_only_where_what_it_needs_does(rows: int) -> None:
    fields = {"device": obj({"hostname": col.a, "type_id": "Server", "ip": col.b}, needs="hostname")}
    file = obj({"name": col.n, "type_id": "Unknown", "path": col.s}, needs="name")
    fields |= {"evidences": col.thing.each({"file": file})}
    with_name = {"a": "h", "thing": {"n": "f", "s": "3"}}
    without = {"b": "192.0.2.1", "thing": {"s": "3"}}
    found, missing = run(fields, with_name, without, rows=rows)
    assert found["device"]["hostname"] == "h"
    assert found["evidences"] == [{"file": {"name": "f", "type_id": 0, "type": "Unknown", "path": "3"}}]
    assert "device" not in missing
    assert "evidences" not in missing
    assert missing["unmapped"] == {"b": "192.0.2.1", "thing.s": "3"}


def test_an_object_may_need_any_of_several() -> None:
    place = obj({"city": col.a, "country": col.b, "lat": col.c}, needs=("city", "country"))
    fields = {"evidences": col.things.each({"src_endpoint": obj({"ip": col.ip, "location": place}, needs="ip")})}
    things = [{"ip": "192.0.2.1", "a": "x", "c": "1"}, {"ip": "192.0.2.2", "c": "1"}, {"a": "x", "b": "y"}]
    (event,) = run(fields, {"things": things})
    ends = [evidence["src_endpoint"] for evidence in event["evidences"]]
    assert ends == [{"ip": "192.0.2.1", "location": {"city": "x", "lat": 1.0}}, {"ip": "192.0.2.2"}]


def test_a_list_of_objects_stands_in_an_object_as_well() -> None:
    hashes = col.thing.each({"value": col.sha, "algorithm_id": "SHA-256"})
    file = obj({"name": col.n, "type_id": "Unknown", "hashes": hashes}, needs="name")
    fields = {"evidences": col.things.each({"file": file})}
    things = [{"n": "f", "thing": {"sha": "ab"}}, {"thing": {"sha": "cd"}}]
    (event,) = run(fields, {"things": things})
    assert [evidence["file"]["hashes"][0]["value"] for evidence in event["evidences"]] == ["ab"]


@ROWS
def test_a_default_is_nothing_that_an_object_needs(rows: int) -> None:
    file = obj({"name": first(col.n, default="?"), "type_id": "Unknown", "path": col.p}, needs="name")
    fields = {"evidences": col.things.each({"file": file})}
    named, not_named = run(fields, {"things": [{"n": "x", "p": "y"}]}, {"things": [{"p": "y"}]}, rows=rows)
    assert named["evidences"] == [{"file": {"name": "x", "type_id": 0, "type": "Unknown", "path": "y"}}]
    assert "evidences" not in not_named


@ROWS
def test_a_condition_holds_for_a_list(rows: int) -> None:
    fields = {
        "resources": col.things.each({"uid": col.u}).where(col.a == "x"),
        "finding_info.types": list_of(col.b, col.c).where(col.a == "x"),
    }
    record = {"things": [{"u": "1"}], "b": "it's", "c": "[]"}
    with_it, without = run(fields, {"a": "x"} | record, {"a": "z"} | record, rows=rows)
    assert with_it["resources"] == [{"uid": "1"}]
    assert with_it["finding_info"]["types"] == ["it's", "[]"]
    assert "resources" not in without
    assert without["unmapped"] == {"a": "z", "b": "it's", "c": "[]", "things": '[{"u":"1"}]'}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("message", lambda: ["a", col.b], "message: a list is given where one value is wanted"),
        ("message", lambda: col.things.each_of("k"), "message: a list is given"),
        ("message", lambda: text("{}", list_of(col.a)), "message: a list cannot stand in a list or a text"),
        ("finding_info.types", lambda: [col.a, ["b"]], "finding_info.types: a list cannot stand in a list"),
        ("finding_info.types", lambda: "a", "finding_info.types: one value is given where a list is wanted"),
        ("finding_info.types", lambda: coalesce(list_of(col.a), col.b), "finding_info.types: one of several values"),
        ("finding_info.types", lambda: col.things.every("a[]"), r"finding_info.types: each\(\) .* every\(\) before it"),
        ("resources", lambda: col.a, "resources is a list of objects"),
        ("resources", lambda: col.things.each_of("k"), "resources is a list of objects"),
        (
            "resources",
            lambda: when(col.a == "x").then(col.things.each({"uid": col.u})),
            "resources is a list of objects",
        ),
        ("resources", lambda: [col.things.each({"uid": col.u}), col.a], "resources is a list of objects"),
        ("resources", lambda: col.things.each({"labels": "a"}), "resources.labels: one value is given"),
        ("resources", lambda: col.things.each({"uid": [col.a]}), "resources.uid: a list is given"),
        ("evidences", lambda: col.things.each({"file": obj({"nam": col.a})}), "evidences.file.nam: .*'name'"),
        ("evidences", lambda: col.things.each({"file": col.a}), "evidences.file is an object: map what is in it"),
        ("device", lambda: col.a, "device is an object"),
        ("device", lambda: col.things.each({"ip": col.a}), r"device: each\(\) makes a list of objects, and this is no"),
        ("finding_info.created_time", lambda: col.a, r"finding_info.created_time: give a time, by iso8601\(\)"),
        ("finding_info.created_time", lambda: first(col.a.iso8601(), default="x"), "has a text for default"),
        ("message", lambda: col.a.lower, r'message: lower\(\) is a word: write col\["lower"\]'),
        ("message", lambda: when(col.a.lower == "x").then("y"), "False is not a condition"),
        ("message", lambda: col.a.where(col.b), "this expression is not a condition"),
        ("message", lambda: col.a.where((col.b == "x") & col.a), "this expression is not a condition"),
        ("message", lambda: text("{", col.a), r"text\('{'\): .*write {{ or }} for a brace"),
        ("message", lambda: text("{:>5}", col.a), "one {} for each"),
        ("message", lambda: text("{!r}", col.a), "one {} for each"),
        ("device", lambda: obj({"ip": col.a, "type_id": "Server"}, needs="type_id"), "no value of the record"),
        ("evidences", lambda: col.a.each({"file": obj({"hashes": col.h.each({})}, needs="hashes")}), "no value of"),
    ],
)
def test_a_mistake_is_told_by_its_path(path: str, value: Callable[[], Any], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        run({path: value()})


def test_what_an_object_needs_has_to_be_mapped() -> None:
    with pytest.raises(MappingError, match=r"needs 'nam', which it does not map.*name"):
        obj({"name": col.a}, needs="nam")


@ROWS
def test_a_text_of_values_is_null_where_one_of_them_is(rows: int) -> None:
    fields = {"message": text("arn:{}:s3:::{}/{{x}}", col.a, col.b)}
    whole, part = run(fields, {"a": "aws", "b": "it's"}, {"a": "aws"}, rows=rows)
    assert whole["message"] == "arn:aws:s3:::it's/{x}"
    assert "unmapped" not in whole
    assert "message" not in part
    assert part["unmapped"] == {"a": "aws"}


@pytest.mark.parametrize("template", ["{}", "{} {} {}", "{a} {b}", "{0} {1}"])
def test_a_text_needs_a_mark_for_each_value(template: str) -> None:
    with pytest.raises(MappingError, match=r"one {} for each of its 2 values"):
        text(template, col.a, col.b)


@ROWS
def test_a_default_makes_no_object_by_itself(rows: int) -> None:
    fields = {
        "device.hostname": first(col.a, default="unknown"),
        "device.ip": col.b,
        "device.type_id": when(coalesce(col.a, col.b).is_not_null()).then("Server"),
        "resources": col.things.each({"uid": first(col.u, default="unknown"), "name": col.n}),
    }
    records = [
        {"a": "h", "things": [{"u": "1"}]},
        {"b": "192.0.2.1", "things": [{"n": "x"}, {"other": "y"}]},
        {"things": [{"other": "y"}]},
    ]
    named, addressed, neither = run(fields, *records, rows=rows)
    assert named["device"]["hostname"] == "h"
    assert (addressed["device"]["hostname"], addressed["device"]["ip"]) == ("unknown", "192.0.2.1")
    assert "device" not in neither
    assert [event.get("resources") for event in (named, addressed, neither)] == [
        [{"uid": "1"}], [{"uid": "unknown", "name": "x"}], None,
    ]  # fmt: skip


@ROWS
@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({"device.hostname": first(col.a, default="odd")}, {"a": "odd"}),
        ({"resources": col.things.each({"uid": first(col.u, default="odd")})}, {"things": [{"u": "odd"}]}),
        ({"device.type_id": col.a}, {"a": "Unknown"}),
        ({"evidences": col.things.each({"file.type_id": col.t})}, {"things": [{"t": "Unknown"}]}),
        ({"device": {"hostname": col.c, "type_id": col.a, "type": col.b}}, {"a": "odd", "b": "else", "c": "h"}),
        (
            {"evidences": col.things.each({"file": {"name": col.n, "type_id": col.t, "type": col.n}})},
            {"things": [{"t": "odd", "n": "else"}]},
        ),
        ({"finding_info.types": col.a}, {"a": "5"}),
        ({"finding_info.types": col.things.each_of()}, {"things": "odd"}),
        ({"resources": col.things.each({"uid": col.u, "labels": col.l.each_of()})}, {"things": [{"u": "1", "l": "y"}]}),
        ({"resources": col.things.each({"uid": col.u, "labels": col.l})}, {"things": [{"u": "1", "l": 57}]}),
        (
            {
                "resources": [
                    col.thing.each({"uid": first(col.u, default="odd")}),
                    col.things.each({"uid": col.u}),
                ]
            },
            {"things": [{"u": "odd"}]},
        ),
    ],
)
def test_what_makes_no_object_is_not_lost(rows: int, fields: dict[str, Any], record: Json) -> None:
    (event,) = run(fields, record, rows=rows)
    said = json.dumps({name: event.get(name) for name in ("device", "resources", "evidences", "unmapped")})
    assert [text for text in map(str, _scalars(record)) if text not in said] == []


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _scalars(inner)
    else:
        yield value


@ROWS
def test_of_a_repeated_member_of_an_element_nothing_is_lost(rows: int) -> None:
    twice = [{Twice("u"): "1", Twice("u"): "2"}]
    (event,) = run({"resources": col.things.each({"uid": col.u})}, {"things": twice}, rows=rows)
    assert event["resources"] == [{"uid": "1"}]
    assert event["unmapped"]["things"] == '[{"u":"1","u":"2"}]'


class Twice(str):
    """The name of a member that its object holds twice."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


@ROWS
def test_a_text_that_looks_like_an_empty_object_is_an_element(rows: int) -> None:
    fields = {"resources": [col.things.each({"uid": element}), list_of(col.a).each({"uid": element})]}
    (event,) = run(fields, {"things": ["{}", {}, None, "null"], "a": "{}"}, rows=rows)
    assert [found["uid"] for found in event["resources"]] == ["{}", "null", "{}"]


@ROWS
def test_the_caption_of_an_id_can_be_a_default(rows: int) -> None:
    fields = {
        "device": {"hostname": col.b, "type_id": first(col.a, default="Server")},
        "evidences": col.things.each({"file": {"name": col.n, "type_id": first(col.t, default="Folder")}}),
    }
    records = [{"b": "h", "things": [{"n": "x"}]}, {"c": "1", "things": [{"o": "y"}]}, {"a": "Mobile", "b": "p"}]
    host, nothing, phone = run(fields, *records, rows=rows)
    assert host["device"] == {"hostname": "h", "type_id": 1, "type": "Server"}
    assert host["evidences"] == [{"file": {"name": "x", "type_id": 2, "type": "Folder"}}]
    assert "device" not in nothing
    assert "evidences" not in nothing
    assert phone["device"] == {"hostname": "p", "type_id": 5, "type": "Mobile"}


@ROWS
def test_a_value_with_a_default_is_never_missing(rows: int) -> None:
    fields = {"message": when(first(col.a, default="u").is_null()).then("missing").otherwise("there")}
    assert [event["message"] for event in run(fields, {}, {"a": "1"}, rows=rows)] == ["there", "there"]


@ROWS
def test_inside_two_lists_outer_is_the_record(rows: int) -> None:
    labels = col.tags.each_of(where=outer.b == "b", text=text("{}-{}", outer.a, col.k))
    fields = {"resources": col.things.each({"uid": col.id, "labels": labels})}
    things = [{"id": "1", "a": "element", "b": "element", "tags": [{"k": "k"}]}]
    (event,) = run(fields, {"a": "record", "b": "b", "things": things}, rows=rows)
    assert event["resources"] == [{"uid": "1", "labels": ["record-k"]}]


def test_the_records_columns_named_in_a_list_of_texts_are_checked() -> None:
    for given in (col.things.each_of(text=outer.aa), col.things.each_of(where=outer.aa == "x")):
        with pytest.raises(MappingError, match="no column 'aa'; did you mean 'a'"):
            run({"finding_info.types": given})
        with pytest.raises(MappingError, match="no column 'aa'; did you mean 'a'"):
            run({"resources": col.things.each({"labels": given})})


def test_two_event_maps_agree_on_a_default() -> None:
    events = [
        EventMap(
            "detection_finding",
            BASE | {"device.hostname": first(col.a, default="unknown")},
            col.c == "1",
            ("cloud", "host"),
        ),
        EventMap("detection_finding", BASE | {"device.hostname": col.a}, None, ("cloud", "host")),
    ]
    mapper = Mapper(
        name="test", product=Product("Test"), readers=[JsonRecords()], record=RECORD, events=events,
        table="guardduty_findings",
    )  # fmt: skip
    with pytest.raises(MappingError, match=r"device.hostname.*default"):
        explain.query(mapper, "1.8.0")


def test_texts_of_a_list_are_taken_where_they_are() -> None:
    things = [{"k": "a", "v": ["1", "2"]}, {"k": "b", "v": ["3", "", None]}, {"k": "b"}, "text"]
    fields = {
        "finding_info.types": col.things.each_of("v[]", where=col.k == "b"),
        "resources": col.things.each_of("k").each({"uid": element, "owner.uid": outer.a}),
    }
    (event,) = run(fields, {"a": "me", "things": things}, blank=("",))
    assert dig(event, "finding_info.types") == ["3"]
    assert [found["uid"] for found in event["resources"]] == ["a", "b", "b"]
    assert json.loads(event["unmapped"]["things"]) == things


def test_a_text_is_made_of_each_element() -> None:
    tags = col.tags.each_of(text=text("{}={}", col.key, coalesce(col.value, "")))
    things = [
        {"id": "1", "tags": [{"key": "a", "value": "b"}, {"key": "c"}, {"value": "d"}, 5]},
        {"id": "2", "tags": {}},
    ]
    (event,) = run({"resources": col.things.each({"uid": col.id, "labels": tags})}, {"things": things})
    assert event["resources"] == [{"uid": "1", "labels": ["a=b", "c="]}, {"uid": "2"}]


def test_a_list_taken_whole_is_carried_over() -> None:
    taken, none = run({"finding_info.types": col.things.each_of()}, {"things": ["a", "b"]}, {"things": []})
    assert dig(taken, "finding_info.types") == ["a", "b"]
    assert "things" not in taken.get("unmapped", {})
    assert "types" not in none["finding_info"]


def test_values_make_a_list_whose_items_can_be_gone_through() -> None:
    fields = {"resources": list_of(col.a, col.b).each({"uid": element})}
    both, one, none = run(fields, {"a": "x", "b": "y"}, {"b": "y"}, {})
    assert [found["uid"] for found in both["resources"]] == ["x", "y"]
    assert [found["uid"] for found in one["resources"]] == ["y"]
    assert "resources" not in none


def test_conditions_and_case_read_as_they_are_said() -> None:
    shown = {
        col.a.where(col.b.is_not_null()): "a when b is not null",
        col.a.lower(): "lower(a)",
        text("x:{}", col.a): '"x:{a}"',
        first(col.a, col.b, default="u"): 'first(a, b, else "u")',
        col.things.each_of("k[]", where=col.k == "1"): 'each_of(things, k[], where k = "1")',
    }
    assert {explain.text(value): said for value, said in shown.items()} == {said: said for said in shown.values()}


@pytest.mark.parametrize("source", registry.names())
def test_sql_is_the_last_way_out(source: str) -> None:
    """Each template of a source is one thing that the vocabulary cannot say yet: few enough to be listed here."""
    total = "(TRY_CAST({0} AS BIGINT)::HUGEINT + TRY_CAST({1} AS BIGINT))"
    known = {
        "aws_alb": {"CASE WHEN {0} = 'PATCH'", total},
        "aws_clb": {"CASE WHEN least(", "CASE WHEN {0} = 'PATCH'", total},
        "aws_cloudfront": {
            *("CASE WHEN {0} = 'PATCH'", "{0} || 'T' || {1} || 'Z'", total),
            *("CASE WHEN contains(CASE WHEN contains({0}, '%20')", "to_json([{0}])"),
            *("to_json(nullif(list_filter", "replace({0}, '%20', ' ')"),
        },
        "aws_cloudfront_realtime": {
            *("CASE WHEN {0} = 'PATCH'", total, "CASE WHEN contains(CASE WHEN contains({0}, '%20')", "to_json([{0}])"),
            *("to_json(nullif(list_filter", "replace({0}, '%20', ' ')"),
        },
        "aws_cloudtrail": {"coalesce(strftime"},
        "aws_config": {
            *("CASE json_type({0})", "{0} || '/' || {1} || '/'", "{0} || ':' || {1} || ':' || {2} || '/'"),
            *("{0} || ':' || {1} || ':' || {2}", "json_array(", "to_json("),
            *("{0} || '/' || {1} || coalesce(",),
        },
        "aws_eks_audit": {"json_extract_string({0}, '$[0]')", "nullif(to_json(json_extract_string"},
        "aws_guardduty": {
            *("list_filter(CASE WHEN json_valid", "CASE WHEN json_valid({0}) THEN CASE json_type"),
            *("regexp_replace(", "{0} || '/' || {1}"),
        },
        "aws_network_firewall": {
            *("regexp_replace(", "try_cast('0x'", "{0} || ':' || {1}", "{0} || ':' || {1} || "),
        },
        "aws_nlb": {total},
        "aws_rds": {
            *("CAST(TRY_CAST({0} AS BIGINT) // 1000", "TRY_CAST(round(TRY_CAST(", "strftime("),
            *("replace({0}, ' '", "replace({0}, '\"\"'", "replace({0}, '\\''"),
            *(" || '/' || ".join(f"{{{number}}}" for number in range(parts)) for parts in (2, 3, 5, 6)),
        },
        "aws_s3_access": {"strftime(", "concat_ws("},
        "aws_securityhub": {
            *("nullif(array_to_string(json_extract_string({0}, '$[*].Description'",),
            *("nullif(array_to_string(json_extract_string({0}, '$[*].ReasonCode'",),
            *("to_json(list_transform", "{0} || '/' || {1}"),
        },
        "aws_vpc_flow": {"'start and end are missing", "{0}", "{0} || '; ' ||"},
        "aws_vpc_lattice": {"CASE WHEN {0} = 'PATCH'", total},
        "aws_waf": {
            *("CASE WHEN {0} = 'PATCH'", "{0}", "{0}[1]", "{0}[-1]"),
            *("to_json(nullif(list_filter", "to_json(json_extract_string", "array_to_string({0}, ','"),
        },
        "linux_auth": {"strftime(coalesce(CASE WHEN"},
    }
    mapper = registry.load(source)
    found = {
        word.template
        for event in mapper.events
        for given in event.words.values()
        for word in _inside(given)
        if isinstance(word, values.Sql)
    }
    unlisted = [template for template in found if not template.startswith(tuple(known.get(source, ())))]
    assert not unlisted
    assert len(found) <= len(known.get(source, ()))


def _inside(word: Any) -> Any:
    yield from word.every()
    for part in word.every():
        for _, value in getattr(part, "fields", ()):
            yield from _inside(value)


@pytest.mark.parametrize(
    ("seconds", "millis"),
    [("0.0015", 2), ("12", 12_000), ("-1", None), ("x", None), ("nan", None), ("inf", None), ("1e300", None)],
)
def test_seconds_are_whole_milliseconds_whatever_a_log_says(seconds: str, millis: int | None) -> None:
    (event,) = run({"count": col.a.seconds_to_millis()}, {"a": seconds})
    assert event.get("count") == millis
    assert event["unmapped"]["a"] == seconds


PAGE = (Path(__file__).parents[2] / "docs/words.md").read_text(encoding="utf-8")
NAMES = {name: getattr(ocsf_mappers, name) for name in ocsf_mappers.__all__}


def test_the_page_of_words_has_every_word() -> None:
    methods = [name for name in vars(Expr) if not name.startswith("_")]
    functions = [name for name, found in NAMES.items() if inspect.isfunction(found) and not name.endswith("_struct")]
    functions += ["carrier", "element", "object_key", "outer"]
    assert [name for name in (*methods, *functions) if not re.search(rf"[`*.\s(]{name}\b", PAGE)] == []


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_mappings(block: str) -> None:
    found: dict[str, Any] = {}
    exec(block, dict(NAMES), found)
    assert EventMap("detection_finding", found["fields"]).words


EXAMPLES = re.findall(r"^\| `((?:col|coalesce|first|when|text|sql)[.(\[].*?)`", PAGE, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_words_in_the_tables_can_be_written_so(example: str) -> None:
    assert isinstance(eval(example, dict(NAMES)), Expr)
