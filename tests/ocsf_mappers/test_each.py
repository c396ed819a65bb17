"""Lists of objects made of several columns: what they hold, and what they leave in `unmapped`."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from ocsf_mappers import (
    JSON,
    Engine,
    EventMap,
    JsonRecords,
    Mapper,
    Product,
    RawObject,
    col,
    element,
    outer,
    sql,
    text_struct,
    when,
)
from ocsf_mappers.compiler.compile import BatchShape, compile_mapper
from ocsf_mappers.errors import MappingError
from ocsf_mappers.readers import Chunk
from tests.support import Json, map_bytes, ocsf

RECORD = pa.struct(
    [*text_struct("time id owner level"), *(pa.field(name, JSON) for name in ("things", "thing", "deep"))]
)
BASE = {
    "activity_id": "Create",
    "severity_id": "Informational",
    "time": col.time.iso8601(),
    "cloud.provider": "AWS",
    "finding_info.uid": col.id,
    "finding_info.title": "title",
}


def mapper(fields: dict[str, Any], **reader: Any) -> Mapper:
    return Mapper(
        name="test",
        product=Product("Test"),
        readers=[JsonRecords(**reader)],
        record=RECORD,
        events=[EventMap("detection_finding", BASE | fields)],
        table="guardduty_findings",
    )


def run(fields: dict[str, Any], *records: Json, version: str = "1.1.0") -> list[Json]:
    whole = [{"time": "2026-02-03T08:15:30Z", "id": "1", **record} for record in records]
    raw = pa.array([json.dumps(record) for record in whole], pa.string())
    table = pa.table({"_record": pa.array(range(1, len(raw) + 1), pa.int64()), "_raw": raw})
    mapped = Engine(mapper(fields), version).map([(RawObject("memory://x"), Chunk(table))])
    assert mapped.rejects["reason"].to_pylist() == []
    return ocsf(mapped.events)


def test_an_object_counts_as_an_array_of_one_and_parts_follow_each_other() -> None:
    value = [
        col.thing.each({"uid": col.a, "type": "One"}),
        col.things.each({"uid": col.b, "type": "Many"}),
    ]
    events = run(
        {"resources": value},
        {"things": [{"b": "2"}, {"b": "3"}], "thing": {"a": "1"}},
        {"things": [], "thing": {}},
        {"things": [{}, None], "thing": None},
        {"thing": {"a": "1", "more": 1}},
    )
    one, many = {"uid": "1", "type": "One"}, [{"uid": "2", "type": "Many"}, {"uid": "3", "type": "Many"}]
    assert [event.get("resources") for event in events] == [[one, *many], None, None, [one]]
    assert [event.get("unmapped") for event in events[:1]] == [None]
    assert events[3]["unmapped"] == {"thing.a": "1", "thing.more": "1"}


def test_the_element_itself_carries_everything_over() -> None:
    events = run(
        {"resources": col.things.each({"uid": col.a, "data": element})},
        {"things": [{"a": "1", "more": [1, {"x": None}]}]},
        {"things": "text"},
    )
    assert json.loads(events[0]["resources"][0]["data"]) == {"a": "1", "more": [1, {"x": None}]}
    assert "unmapped" not in events[0]
    assert (events[1].get("resources"), events[1]["unmapped"]) == (None, {"things": "text"})


def test_a_column_of_the_record_is_consumed_where_an_element_holds_it() -> None:
    value = [
        col.thing.each({"uid": col.a, "owner.account.uid": outer.owner}),
        col.things.each({"uid": col.a}),
    ]
    events = run(
        {"resources": value},
        {"owner": "me", "thing": {"a": "1"}},
        {"owner": "me", "things": [{"a": "1"}]},
        {"owner": "me"},
    )
    assert events[0]["resources"] == [{"uid": "1", "owner": {"account": {"uid": "me"}}}]
    assert [event.get("unmapped") for event in events] == [None, {"owner": "me"}, {"owner": "me"}]


def test_every_reaches_through_arrays_and_consumes_nothing() -> None:
    value = col.deep.every("outer.inner[].leaves[]").each({"uid": col.a, "type": "Leaf"})
    deep = {"outer": {"inner": [{"leaves": [{"a": "1"}, {"a": "2"}]}, {"leaves": []}, {"leaves": [{"a": "3"}]}]}}
    (event,) = run({"resources": value}, {"deep": deep})
    assert [found["uid"] for found in event["resources"]] == ["1", "2", "3"]
    assert list(event["unmapped"]) == ["deep.outer.inner"]


def test_elements_have_numbers_booleans_times_and_captions_of_their_own() -> None:
    value = col.things.each(
        {
            "actor.process.pid": col.pid,
            "actor.process.created_time": col.at.epoch_seconds(fraction=True),
            "actor.session.is_mfa": col.mfa,
            "connection_info.direction_id": col.way.replace(IN="Inbound", OUT="Outbound"),
            "file.name": col.name,
            "file.type_id": "Unknown",
        }
    )
    things = [
        {"pid": 7, "at": 1639010703.25, "mfa": True, "way": "IN", "name": "x"},
        {"pid": "8", "at": "1639010703", "mfa": "false", "way": "UP"},
    ]
    (event,) = run({"evidences": value}, {"things": things})
    first, second = event["evidences"]
    assert first == {
        "actor": {
            "process": {"pid": 7, "created_time_dt": "2021-12-09T00:45:03.250000Z"},
            "session": {"is_mfa": True},
        },
        "connection_info": {"direction_id": 1, "direction": "Inbound"},
        "file": {"name": "x", "type_id": 0, "type": "Unknown"},
    }
    assert second["actor"]["session"] == {"is_mfa": False}
    assert second["connection_info"] == {"direction_id": 99, "direction": "UP"}
    assert "file" not in second
    assert "unmapped" not in event


@pytest.mark.parametrize(("pid", "kept"), [("12x", True), (2**31, True), (-1, False), (1.5, True)])
def test_a_cast_that_fails_leaves_the_list_in_unmapped(pid: object, kept: bool) -> None:
    value = col.things.each({"actor.process.pid": col.pid, "actor.process.uid": col.uid})
    (event,) = run({"evidences": value}, {"things": [{"pid": pid, "uid": "u"}]})
    assert event["evidences"][0]["actor"]["process"]["uid"] == "u"
    assert ("pid" in event["evidences"][0]["actor"]["process"]) is not kept
    assert ("unmapped" in event) is kept


def test_lists_stand_in_lists_and_their_values_are_observables() -> None:
    value = col.things.each(
        {
            "file.name": col.name,
            "file.type_id": "Unknown",
            "file.hashes": col.sums.each({"value": col.v, "algorithm_id": "SHA-256"}),
            "data": element,
        }
    )
    (event,) = run({"evidences": value}, {"things": [{"name": "a", "sums": [{"v": "1"}, {"v": "2"}]}, {"name": "b"}]})
    sums = [{"value": text, "algorithm_id": 3, "algorithm": "SHA-256"} for text in ("1", "2")]
    assert [found["file"].get("hashes") for found in event["evidences"]] == [sums, None]
    marked = [(found["name"], found["value"]) for found in event["observables"]]
    assert marked == [
        ("evidences[].file.hashes[].value", "1"),
        ("evidences[].file.hashes[].value", "2"),
        ("evidences[].file.name", "a"),
        ("evidences[].file.name", "b"),
    ]


def test_members_of_a_json_text_in_an_element_are_reached() -> None:
    first = sql("from_json({0}, '[\"JSON\"]')[1]", reads=[col.list])
    value = [
        col.things.each({"uid": col.text.json("a", "b"), "name": first.json("n"), "region": first.json("r")}),
        col.thing.each({"uid": outer.deep.json("x"), "name": col.n}),
    ]
    things = [{"text": '{"a": {"b": "1"}}', "list": [{"n": "2", "r": "3"}, {"n": "4"}]}, {"text": {"a": {"b": "5"}}}]
    (event,) = run({"resources": value}, {"things": things, "thing": {"n": "6"}, "deep": {"x": "7"}})
    assert event["resources"] == [{"uid": "1", "name": "2", "region": "3"}, {"uid": "5"}, {"uid": "7", "name": "6"}]


def test_each_part_tells_captions_of_its_own_beside_the_others() -> None:
    value = [
        col.things.each({"connection_info.direction_id": col.way.replace(IN="Inbound"), "data": element}),
        col.thing.each({"connection_info.direction_id": "Outbound", "connection_info.protocol_name": col.name}),
    ]
    things = [{"way": "IN"}, {"way": "round"}, {"way": "Other"}, {}]
    (event,) = run({"evidences": value}, {"things": things, "thing": {"name": "tcp"}})
    infos = [found["connection_info"] for found in event["evidences"]]
    assert [(info["direction_id"], info["direction"]) for info in infos] == [
        (1, "Inbound"), (99, "round"), (99, "Other"), (2, "Outbound")
    ]  # fmt: skip


def test_an_element_is_read_once_however_many_of_its_members_are_named() -> None:
    names = ("uid", "name", "type", "version", "zone", "namespace", "criticality", "region")
    fields = {"resources": col.things.each({name: col[name] for name in names} | {"data": element})}
    query = compile_mapper(mapper(fields), "1.8.0", BatchShape(), validated=False).sql
    assert query.count("json_extract_string(i,") == 1
    assert "json_extract_string(item0" not in query


def test_what_a_version_does_not_have_is_left_out_of_its_elements() -> None:
    fields = {"evidences": col.things.each({"src_endpoint.ip": col.ip, "src_endpoint.isp": col.isp})}
    record = {"things": [{"ip": "192.0.2.1", "isp": "x"}]}
    (old,), (new,) = run(fields, record), run(fields, record, version="1.5.0")
    assert old["evidences"] == [{"src_endpoint": {"ip": "192.0.2.1"}}]
    assert "x" in str(old["unmapped"])
    assert new["evidences"] == [{"src_endpoint": {"ip": "192.0.2.1", "isp": "x"}}]
    assert "unmapped" not in new


def test_a_column_of_the_record_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MappingError, match="no column 'ownr'"):
        mapper({"resources": col.things.each({"uid": outer.ownr})})


def test_a_list_may_depend_on_a_condition_and_on_sql() -> None:
    value = [
        when(col.owner == "me").then(col.thing).each({"uid": col.a}),
        sql("to_json(string_split({0}, ','))", reads=[col.level]).each({"name": element}),
    ]
    events = run({"resources": value}, {"owner": "me", "thing": {"a": "1"}}, {"thing": {"a": "1"}, "level": "x,y"})
    assert [event["resources"] for event in events] == [[{"uid": "1"}], [{"name": "x"}, {"name": "y"}]]
    assert [event.get("unmapped") for event in events] == [{"owner": "me"}, {"thing.a": "1"}]


@pytest.mark.parametrize(
    ("text", "caption"),
    [("9", "Critical"), ("8.99", "High"), ("7.0", "High"), ("4", "Medium"), ("3.9", "Low"), ("0.5", "Informational"),
     ("-1", "Informational"), ("1e1", "Critical"), ("high", "Unknown"), ("", "Unknown"), (None, "Unknown")],
)  # fmt: skip
def test_a_number_is_classed_by_the_floor_it_reaches(text: str | None, caption: str) -> None:
    bands = {9: "Critical", 7: "High", 4: "Medium", 1: "Low"}
    (event,) = run({"severity_id": col.level.band(bands, otherwise="Informational")}, {"level": text})
    assert event["severity"] == caption
    assert event.get("unmapped", {}).get("level") == text


PASCAL = {
    "SchemaVersion": "2.0",
    "Time": "2026-02-03T08:15:30Z",
    "Id": "1",
    "Things": [{"Uid": "u", "AWS::S3::Bucket": "b", "Said": '{"SchemaVersion": 1, "Uid": "kept"}', "a b": {"C": "\\"}}],
}


def test_names_lose_their_capital_where_the_record_is_written_so() -> None:
    found = mapper({"resources": col.things.each({"uid": col.uid, "data": element})}, pascal_case="SchemaVersion")
    camel = {"time": PASCAL["Time"], "id": "2", "things": [{"uid": "u", "Uid": "v"}]}
    lines = "\n".join([json.dumps(PASCAL), json.dumps(camel)])
    first, second = ocsf(map_bytes(Engine(found), lines.encode()).events)
    data = json.loads(first["resources"][0]["data"])
    assert data == {
        "uid": "u",
        "AWS::S3::Bucket": "b",
        "said": '{"SchemaVersion": 1, "Uid": "kept"}',
        "a b": {"c": "\\"},
    }
    assert first["unmapped"] == {"schemaVersion": "2.0"}
    assert json.loads(second["resources"][0]["data"]) == {"uid": "u", "Uid": "v"}


LONG = {f"old{number}": f"new{number}" for number in range(40)}
"""A table that lists look up instead of comparing with each of its entries."""


@pytest.mark.parametrize("table", [LONG, dict(list(LONG.items())[:2])], ids=["long", "short"])
def test_a_table_in_a_list_gives_the_same_whether_it_is_long_or_short(table: dict[str, str]) -> None:
    fields = {
        "evidences": col.things.each({
            "query.hostname": col.a.replace(table),
            "actor.user.name": col.a.replace(table, otherwise="other"),
            "actor.user.uid": when(~col.a.is_in(*table)).then("unknown").otherwise("known or null"),
        })
    }  # fmt: skip
    (event,) = run(fields, {"things": [{"a": "old1"}, {"a": "it's"}, {"b": "1"}]})
    assert [(thing.get("query"), thing["actor"]["user"]) for thing in event["evidences"]] == [
        ({"hostname": "new1"}, {"name": "new1", "uid": "known or null"}),
        ({"hostname": "it's"}, {"name": "other", "uid": "unknown"}),
        (None, {"name": "other", "uid": "known or null"}),
    ]


@pytest.mark.parametrize("size", [40, 2])
def test_a_table_in_a_list_takes_what_is_no_text(size: int) -> None:
    table = {str(number): f"new{number}" for number in range(size)}
    length = sql("length({0})", reads=[col.a])
    fields = {
        "evidences": col.things.each({
            "query.hostname": length.replace(table, otherwise="other"),
            "actor.user.name": when(length.is_in(*table)).then("short"),
            "actor.user.uid": col.b.replace(dict.fromkeys(table, "true"), otherwise=False),
        })
    }  # fmt: skip
    (event,) = run(fields, {"things": [{"a": "x", "b": "1"}, {"a": "x" * 50, "b": "it's"}]})
    assert [(thing["query"]["hostname"], thing["actor"]["user"]) for thing in event["evidences"]] == [
        ("new1", {"name": "short", "uid": "true"}),
        ("other", {"uid": "false"}),
    ]


def test_what_several_lists_are_made_of_is_computed_once() -> None:
    once = sql("upper({0})", reads=[col.things])
    fields = {
        "evidences": [once.each({"query.hostname": col.A}), once.each({"actor.user.name": col.B})],
        "resources": [once.each({"uid": col.A}), col.thing.each({"uid": col.a})],
    }
    program = compile_mapper(mapper(fields), "1.1.0", BatchShape())
    assert program.sql.count("upper(") == 1
    (event,) = run(fields, {"things": [{"a": "1", "b": "2"}]})
    assert [thing.get("query", thing.get("actor")) for thing in event["evidences"]] == [
        {"hostname": "1"}, {"user": {"name": "2"}},
    ]  # fmt: skip
    assert event["resources"] == [{"uid": "1"}]
