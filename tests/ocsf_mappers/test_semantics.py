"""What an expression gives, what it consumes row by row, and what becomes of text that cannot be cast."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from ocsf_mappers import (
    JSON,
    Delimited,
    Engine,
    EventMap,
    JsonRecords,
    Mapped,
    Mapper,
    Product,
    RawObject,
    coalesce,
    col,
    object_key,
    sql,
    text_struct,
    when,
)
from ocsf_mappers.readers import Chunk
from tests.support import Json, dig, flows, map_bytes, ocsf, reasons

COLUMNS = "start a b c n"
BASE = {
    "activity_id": when(col.start == "").then("Refuse").otherwise("Traffic"),
    "severity_id": "Informational",
    "time": col.start.epoch_seconds(),
    "action_id": "Allowed",
    "src_endpoint.ip": "192.0.2.1",
    "dst_endpoint.ip": "192.0.2.2",
    "cloud.provider": "AWS",
}


def run(fields: dict[str, Any], rows: list[dict[str, str | None]], **more: Any) -> Mapped:
    """A mapper of five text columns over some rows; `start` is filled in."""
    mapper = Mapper(
        name="test",
        product=Product("Test"),
        readers=[Delimited(tuple(COLUMNS.split()), tuple(COLUMNS.split()))],
        record=text_struct(COLUMNS),
        events=[EventMap("network_activity", BASE | fields, profiles=("cloud", "security_control"))],
        table="vpc_flow",
        **more,
    )
    chunk = flows(**{name: [({"start": "1770106500"} | row).get(name) for row in rows] for name in COLUMNS.split()})
    return Engine(mapper).map([(RawObject("memory://x", region="eu-west-1", account="123456789012"), chunk)])


def outcome(value: Any, rows: list[dict[str, str | None]], path: str = "status_code") -> list[tuple[Any, Json]]:
    """The attribute and `unmapped` of each row."""
    return [(dig(event, path), event.get("unmapped", {})) for event in ocsf(run({path: value}, rows).events)]


A, B, C = {"a": "1"}, {"a": "1", "b": "2"}, {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("value", "row", "given", "left"),
    [
        (col.a, B, "1", {"b": "2"}),
        ("constant", A, "constant", {"a": "1"}),
        (coalesce(col.a, col.b), B, "1", {"b": "2"}),
        (coalesce(col.a, col.b), C, "1", {}),
        (coalesce(col.a, col.b), {"b": "2"}, "2", {}),
        (coalesce(col.a, col.b, col.c), {"c": "3"}, "3", {}),
        (coalesce(col.a, col.b, col.c), {"a": "1", "b": "1", "c": "3"}, "1", {"c": "3"}),
        (coalesce(col.a, col.b, col.c), {}, None, {}),
        (when(col.b == "2").then(col.a), B, "1", {"b": "2"}),
        (when(col.b == "2").then(col.a), A, None, {"a": "1"}),
        (when(col.b == "2").then(col.a), {"a": "1", "b": "x"}, None, {"a": "1", "b": "x"}),
        (when(col.b == "2").then(col.a).otherwise(col.b), B, "1", {"b": "2"}),
        (when(col.b == "2").then(col.a).otherwise(col.b), C, "1", {"a": "1"}),
        (when(col.b == "9").then(col.a).when(col.a == "1").then(col.b), B, "2", {"a": "1"}),
        (when(~(col.b == "2")).then(col.a), A, None, {"a": "1"}),
        (when(col.b.is_null()).then(col.a), A, "1", {}),
        (when(col.a.is_in("1", "2") & col.b.starts_with("2")).then("yes"), B, "yes", {"a": "1", "b": "2"}),
        (when(col.a.contains("1") | col.b.ends_with("x")).then("yes"), A, "yes", {"a": "1"}),
        (when(col.a.matches("^[0-9]$")).then("yes"), A, "yes", {"a": "1"}),
        (col.a.replace({"1": "one"}), A, "one", {}),
        (col.a.replace({"1": "one"}), {"a": "7"}, "7", {}),
        (col.a.replace({"1": "one"}, otherwise="other"), {"a": "7"}, "other", {"a": "7"}),
        (col.a.replace({"1": "one"}, otherwise="other"), A, "one", {}),
        (col.a.replace({"1": "one"}), {}, None, {}),
        (col.a.replace_prefix({"1": "one"}, otherwise="other"), {"a": "12"}, "one", {"a": "12"}),
        (col.a.replace_prefix({"1": "one"}, otherwise="other"), {"a": "7"}, "other", {"a": "7"}),
        (col.a.replace_prefix({"1": "one"}, otherwise=col.b), {"a": "7", "b": "2"}, "2", {"a": "7", "b": "2"}),
        (col.a.extract("x(.)"), {"a": "xy"}, "y", {"a": "xy"}),
        (col.a.extract("x(.)"), A, None, {"a": "1"}),
        (sql("{0} || {1}", reads=[col.a, col.b]), B, "12", {}),
    ],
)  # fmt: skip
def test_a_value_consumes_what_it_carries_over_and_no_more(value: Any, row: Json, given: Any, left: Json) -> None:
    # more rows, so that no column is null in all of them
    assert outcome(value, [row, {"a": "z", "b": "z", "c": "z"}])[0] == (given, left)


def test_a_list_leaves_out_what_is_null() -> None:
    path = "src_endpoint.intermediate_ips"
    rows = [{"a": "192.0.2.3", "b": "192.0.2.4"}, {"b": "192.0.2.4"}, {}]
    assert outcome([col.a, col.b], rows, path) == [(["192.0.2.3", "192.0.2.4"], {}), (["192.0.2.4"], {}), (None, {})]


@pytest.mark.parametrize(
    "text", ["many", "1.5", "9223372036854775808", "0x10", "1e3", "007", " 7", "+7", "", "\uff11", "1_0", "-0"]
)
def test_text_that_is_no_number_is_kept_in_unmapped_and_counted(text: str) -> None:
    mapped = run({"traffic.bytes": col.n}, [{"n": text}, {"n": "7"}])
    first, second = ocsf(mapped.events)
    assert dig(first, "traffic.bytes") is None
    assert first["unmapped"] == {"n": text}
    assert dig(second, "traffic.bytes") == 7
    assert "unmapped" not in second
    assert mapped.failed_casts == {"traffic.bytes": 1}


@pytest.mark.parametrize("text", ["9223372036854775807", "-9223372036854775808", "0"])
def test_every_64_bit_number_is_read(text: str) -> None:
    assert dig(ocsf(run({"traffic.bytes": col.n}, [{"n": text}]).events)[0], "traffic.bytes") == int(text)


@pytest.mark.parametrize("text", ["99999999999999999999", "253402300800", "-1", "1.5", "now", "", "1770106500 "])
def test_text_that_is_no_time_is_kept_in_unmapped_and_counted(text: str) -> None:
    mapped = run({"end_time": col.n.epoch_seconds()}, [{"n": text}])
    (event,) = ocsf(mapped.events)
    assert "end_time_dt" not in event
    assert event["unmapped"] == {"n": text}
    assert mapped.failed_casts == {"end_time": 1}


@pytest.mark.parametrize("text", ["2026-02-03T\t0:15:01", "2026-02-03T 0:15:01Z", "2026-02-03 \t0:15:01+01:00", "noon"])
def test_white_space_is_no_part_of_a_time(text: str) -> None:
    mapped = run({"end_time": col.n.iso8601()}, [{"n": text}])
    (event,) = ocsf(mapped.events)
    assert "end_time_dt" not in event
    assert event["unmapped"] == {"n": text}


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("2026-02-03T08:15:30Z", "2026-02-03T08:15:30Z"),
        ("2026-02-03T08:15:30", "2026-02-03T08:15:30Z"),
        ("2026-02-03T08:15:30.123456Z", "2026-02-03T08:15:30.123456Z"),
        ("2026-02-03T08:15:30+02:00", "2026-02-03T06:15:30Z"),
        ("2026-02-03T23:15:30-05:30", "2026-02-04T04:45:30Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("2023-02-29T00:00:00Z", None),
        ("2026-13-03T08:15:30Z", None),
        ("2026-02-03T25:15:30Z", None),
        ("2026-02-03", None),
        ("10000-01-01T00:00:00Z", None),
        ("0000-00-00T00:00:00Z", None),
        ("1770106500", None),
        ("now", None),
        ("infinity", None),
        ("epoch", None),
        ("", None),
    ],
)
def test_iso_8601_is_read_as_utc(text: str, given: str | None) -> None:
    mapped = run({"end_time": col.n.iso8601()}, [{"n": text}])
    (event,) = ocsf(mapped.events)
    assert event.get("end_time_dt") == given
    assert event.get("unmapped") == (None if given else {"n": text})
    assert mapped.failed_casts.total() == (0 if given else 1)


@pytest.mark.parametrize("start", ["1", "946684799", "4102444800", "253402300799"])
def test_an_event_outside_the_plausible_years_is_a_reject_that_says_so(start: str) -> None:
    mapped = run({}, [{"start": start}, {}])
    assert len(mapped.events) == 1
    assert reasons(mapped) == [f"time: {start}000 ms is outside the years 2000 to 2099"]


def test_captions_become_ids_with_their_siblings() -> None:
    value = col.a.replace(ACCEPT="Traffic", REJECT="Refuse")
    rows = [{"a": "ACCEPT"}, {"a": "REJECT"}, {"a": "MIRROR"}, {}, {"a": ""}, {"a": "Traffic"}, {"a": "Other"}]
    events = ocsf(run({"activity_id": value}, rows).events)
    assert [(event["activity_id"], event["activity_name"]) for event in events] == [
        (6, "Traffic"),
        (5, "Refuse"),
        (99, "MIRROR"),
        (0, "Unknown"),
        (99, ""),
        (6, "Traffic"),
        (99, "Other"),
    ]
    assert [event["type_uid"] for event in events] == [400106, 400105, 400199, 400100, 400199, 400106, 400199]
    assert [event["type_name"].removeprefix("Network Activity: ") for event in events] == [
        "Traffic", "Refuse", "Other", "Unknown", "Other", "Traffic", "Other",
    ]  # fmt: skip


def test_an_activity_may_be_constant() -> None:
    (event,) = ocsf(run({"activity_id": "Traffic"}, [{}]).events)
    assert (event["activity_id"], event["type_uid"]) == (6, 400106)
    assert event["type_name"] == "Network Activity: Traffic"


def test_a_null_caption_of_an_optional_attribute_stays_null() -> None:
    events = ocsf(run({"disposition_id": col.a.replace(x="Allowed")}, [{"a": "x"}, {}, {"a": "y"}]).events)
    given = [(event.get("disposition_id"), event.get("disposition")) for event in events]
    assert given == [(1, "Allowed"), (None, None), (99, "y")]


def test_an_object_without_members_is_null() -> None:
    fields = {"connection_info.direction_id": col.a.replace(x="Inbound"), "connection_info.protocol_num": col.n}
    events = ocsf(run(fields, [{}, {"n": "6"}]).events)
    assert "connection_info" not in events[0]
    assert events[1]["connection_info"] == {"direction": "Unknown", "direction_id": 0, "protocol_num": 6}


def test_a_caption_that_the_log_gives_makes_its_object_exist() -> None:
    fields = {"connection_info.direction_id": col.a.replace(x="Inbound"), "connection_info.protocol_num": col.n}
    (event,) = ocsf(run(fields, [{"a": "x"}]).events)
    assert event["connection_info"] == {"direction": "Inbound", "direction_id": 1}


def test_a_dropped_column_is_left_out_on_purpose() -> None:
    (event,) = ocsf(run({}, [{"a": "1", "b": "2"}], drop={"a": "says nothing"}).events)
    assert event["unmapped"] == {"b": "2"}


def test_the_object_s_name_fills_in_region_and_account() -> None:
    fields = {
        "cloud.region": coalesce(col.a, object_key.region),
        "cloud.account.uid": coalesce(col.b, object_key.account),
    }
    mapped = run(fields, [{}, {"a": "us-east-1", "b": "210987654321"}])
    rows = mapped.events.to_pylist()
    assert [(row["region"], row["accountid"]) for row in rows] == [
        ("eu-west-1", "123456789012"),
        ("us-east-1", "210987654321"),
    ]


HOSTILE = [
    "../..",
    "a/b",
    "x'; DROP TABLE batch; --",
    "a\nb",
    "",
    " ",
    "\u202e",
    "EU-WEST-1",
    "é",
    "x" * 100_000,
    "a\x00b",
    "%2e",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_never_reaches_a_path_and_is_kept(text: str) -> None:
    fields = {"cloud.region": col.a, "cloud.account.uid": col.b, "src_endpoint.svc_name": col.c}
    mapped = run(fields, [{"a": text, "b": text, "c": text, "n": text}])
    (row,) = mapped.events.to_pylist()
    assert (row["region"], row["accountid"]) == ("unknown", "unknown")
    (event,) = ocsf(mapped.events)
    assert [dig(event, path) for path in fields] == [text] * 3
    assert event["unmapped"] == {"n": text}


# -- JSON -------------------------------------------------------------------------------------------------------------
RECORD = pa.struct(
    [
        *text_struct("time name x"),
        pa.field("who", pa.struct([*text_struct("name arn"), pa.field("session", text_struct("id"))])),
        pa.field("body", JSON),
        pa.field("things", JSON),
    ]
)


def json_engine(fields: dict[str, Any]) -> Engine:
    """A mapper of small JSON records."""
    base = {
        "activity_id": when(col.time == "").then("Create").otherwise("Read"),
        "severity_id": "Informational",
        "time": col.time.iso8601(),
        "cloud.provider": "AWS",
        "actor.invoked_by": "x",
        "api.operation": "x",
        "src_endpoint.ip": "192.0.2.1",
    }
    mapper = Mapper(
        name="test",
        product=Product("Test"),
        readers=[JsonRecords()],
        record=RECORD,
        events=[EventMap("api_activity", base | fields)],
        table="cloud_trail_mgmt",
    )
    return Engine(mapper)


def run_json(fields: dict[str, Any], *records: str) -> Mapped:
    return map_json(json_engine(fields), *records)


def map_json(engine: Engine, *records: str) -> Mapped:
    raw = pa.array(
        ['{"time": "2026-02-03T08:15:30Z"' + (", " + text if text else "") + "}" for text in records], pa.string()
    )
    table = pa.table({"_record": pa.array(range(1, len(records) + 1), pa.int64()), "_raw": raw})
    return engine.map([(RawObject("memory://x"), Chunk(table))])


def left(*records: str, **fields: Any) -> list[Json]:
    """`unmapped` of each record."""
    paths = {path.replace("__", "."): value for path, value in fields.items()}
    return [event.get("unmapped", {}) for event in ocsf(run_json(paths, *records).events)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "unmapped"),
    [
        ('"x": "1"', {"x": "1"}),
        ('"x": 1', {"x": "1"}),
        ('"x": true', {"x": "true"}),
        ('"x": null', {}),
        ('"new": {"a": {"b": 1}, "c": [1, {"d": 2}]}', {"new.a.b": "1", "new.c": '[1,{"d":2}]'}),
        ('"new": {}', {}),
        ('"new": []', {"new": "[]"}),
        ('"new": "text"', {"new": "text"}),
        ('"new": {"a.b": 1, "/~": 2, "": 3}', {"new.a.b": "1", "new./~": "2", "new.": "3"}),
        (
            '"who": {"name": "n", "session": {"id": "1", "more": 2}}',
            {"who.name": "n", "who.session.id": "1", "who.session.more": "2"},
        ),
        ('"who": "text"', {"who": "text"}),
        ('"who": [1]', {"who": "[1]"}),
        ('"who": {"session": 7}', {"who.session": "7"}),
        ('"body": {"a": {"b": "c"}}', {"body.a.b": "c"}),
        ('"body": "text"', {"body": "text"}),
        ('"body": {"quote\\"": "\\u00e9\\n\\ud83d\\ude00"}', {'body.quote"': "é\n😀"}),
        ('"X": "1", "x": "2"', {"X": "1", "x": "2"}),
    ],
)
def test_what_nothing_took_is_in_unmapped_by_dotted_name(text: str, unmapped: Json) -> None:
    assert left(text) == [unmapped]
    assert left("", text, "") == [{}, unmapped, {}], "the same among other records"


@pytest.mark.slow
def test_one_member_of_json_is_taken_and_the_rest_is_left() -> None:
    text = '"body": {"a": "1", "b": {"c": 2}}'
    assert left(text, api__response__error=col.body.json("a")) == [{"body.b.c": "2"}]
    assert left(text, api__response__error=col.body.json("b", "c"))[0]["body.a"] == "1"
    assert left(text, api__request__data=col.body, api__request__uid="1") == [{}]


def test_a_text_may_be_no_json_where_the_mapping_does_not_look_into_it() -> None:
    value = when(col.x.starts_with("{")).then(col.x.json("a"))
    mapped = run_json({"api.response.error": value}, '"x": "no JSON"', r'"x": "{\"a\": \"1\"}"')
    assert reasons(mapped) == []
    assert [dig(event, "api.response.error") for event in ocsf(mapped.events)] == [None, "1"]


def test_a_whole_json_column_stays_json_text() -> None:
    text = '{"a": [1, "x", null, {"b": true}]}'
    fields = {"api.request.data": col.body, "api.request.uid": "1"}
    (event,) = ocsf(run_json(fields, f'"body": {text}').events)
    assert dig(event, "api.request.data").replace(" ", "") == text.replace(" ", "")


@pytest.mark.xfail(strict=True, reason="numbers pass through a double: 1.10 becomes 1.1, and digits beyond 17 are lost")
@pytest.mark.parametrize("number", ["1.10", "0.12345678901234567890123", "8.82145e-05"])
def test_numbers_keep_their_digits(number: str) -> None:
    fields = {"api.request.data": col.body, "api.request.uid": "1"}
    (event,) = ocsf(run_json(fields, f'"body": {{"a": {number}}}, "new": {{"a": {number}}}').events)
    assert (dig(event, "api.request.data").replace(" ", ""), event["unmapped"]) == (
        f'{{"a":{number}}}',
        {"new.a": number},
    )


@pytest.mark.parametrize("number", ["18446744073709551616", "123456789012345678901234567890", "-9223372036854775809"])
def test_whole_numbers_beyond_64_bits_keep_their_digits(number: str) -> None:
    assert left(f'"new": {number}, "x": {number}') == [{"new": number, "x": number}]


@pytest.mark.parametrize(
    "text",
    ['"x": "1", "x": "2"', '"who": {"name": "a", "name": "b"}', '"new": 1, "new": 2'],
    ids=["top", "object", "undeclared"],
)
def test_a_repeated_member_is_a_reject_that_names_it(text: str) -> None:
    mapped = run_json({}, "", text, "")
    assert [event["time"] for event in ocsf(mapped.events)] == [1770106530000] * 2
    (reason,) = reasons(mapped)
    assert "repeated JSON key" in reason
    assert mapped.rejects["source_record"].to_pylist() == [2]


def test_a_repeated_member_deep_inside_stays_as_text() -> None:
    (unmapped,) = left('"new": {"a": 1, "a": 2, "b": 3}')
    assert list(unmapped) == ["new"]
    assert unmapped["new"].replace(" ", "") == '{"a":1,"a":2,"b":3}'


@pytest.mark.parametrize(
    "text",
    [
        '"x": "\\ud800"',
        '"new": "\\udc00\\ud800"',
        '"x": "\\u0000"',
        '"new": {"\\u0000": 1}',
        '"body": {"a": "\\ud800"}',
    ],
    ids=["half a pair", "halves in wrong order", "NUL", "NUL in a name", "in a body"],
)
def test_odd_unicode_costs_only_its_record(text: str) -> None:
    mapped = run_json({"api.request.data": col.body, "api.request.uid": "1"}, "", text, "")
    assert mapped.read == 3
    assert len(mapped.events) >= 2
    assert all(reasons(mapped))


@pytest.mark.parametrize("levels", [50, 900])
def test_deep_json_is_kept(levels: int) -> None:
    deep = '{"a":' * levels + "1" + "}" * levels
    mapped = run_json({}, "", f'"new": {deep}', "")
    assert mapped.read == 3
    assert len(mapped.events) == 3
    (name, value), *_ = ocsf(mapped.events)[1]["unmapped"].items()
    assert name.count(".a") + value.count('"a"') == levels


def test_a_record_that_is_no_json_or_no_object_costs_only_itself() -> None:
    mapper_rows = run_json({}, "", '"x": oops', "", '"x": "\x01"')
    assert mapper_rows.read == 4
    assert mapper_rows.rejects["source_record"].to_pylist() == [2, 4]
    assert all("JSON" in reason for reason in reasons(mapper_rows))


def test_each_maps_the_elements_of_an_array() -> None:
    value = col.things.each({"uid": coalesce(col.ARN, col.arn), "type": col.type})
    records = [
        '"things": [{"ARN": "a", "type": "t"}, {"arn": "b"}, {}]',
        '"things": []',
        '"things": [{"ARN": "a", "more": 1}]',
        '"things": [{"ARN": "a", "arn": "b"}]',
        '"things": [7, {"ARN": "a"}]',
        '"things": "text"',
        "",
    ]
    events = ocsf(run_json({"resources": value}, *records).events)
    assert events[0]["resources"] == [{"uid": "a", "type": "t"}, {"uid": "b"}]
    assert [event.get("resources") for event in events[1:]] == [None, *[[{"uid": "a"}]] * 3, None, None]
    kept = [bool(event.get("unmapped")) for event in events]
    assert kept == [False, False, True, True, True, True, False]


@pytest.mark.parametrize("start", ["99999999999999999", "abc"])
def test_a_time_that_cannot_be_read_is_kept_although_another_stands_in(start: str) -> None:
    fields = {"time": coalesce(col.a.epoch_seconds(), col.b.epoch_seconds()), "start_time": col.a.epoch_seconds()}
    (event,) = ocsf(run(fields, [{"a": start, "b": "1770106500"}]).events)
    assert event["time"] == 1770106500000
    assert event["unmapped"]["a"] == start


def test_a_time_that_cannot_be_read_stays_where_another_takes_its_place() -> None:
    mapper = Mapper(
        name="times",
        product=Product("Times"),
        readers=[JsonRecords(lists=())],
        record=text_struct("a b"),
        events=[
            EventMap("base_event", {
                "activity_id": "Unknown",
                "severity_id": "Informational",
                "time": coalesce(col.a.iso8601(), col.b.epoch_seconds()),
                "start_time": coalesce(col.a.iso8601(), col.a.epoch_seconds()),
                "cloud.provider": "AWS",
            }),
        ],
    )  # fmt: skip
    lines = b'{"a": "yesterday", "b": 1767225600}\n{"a": "2026-01-01T00:00:00Z"}\n{"a": 1767225600, "b": 1767225600}\n'
    mapped = map_bytes(Engine(mapper), lines)
    assert [event.get("unmapped") for event in ocsf(mapped.events)] == [{"a": "yesterday"}, None, None]
