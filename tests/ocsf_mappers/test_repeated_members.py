"""A member that an object has twice is quarantined or kept whole, never silently the last one."""

from __future__ import annotations

import json

import msgspec
import pytest

from ocsf_mappers.readers.members import RepeatedError, raw_members, value
from tests.ocsf_mappers.records import call
from tests.support import engine, map_bytes, ocsf, reasons


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', '{ "b" : {} ,\n"a" : 1, "a" : 1 }', '{"a":[1],"b":"x","\\u0061":{}}', '{"a":"","b":{},"a":null}'],
)
def test_two_members_of_one_name_are_found(text: str) -> None:
    with pytest.raises(RepeatedError, match='repeated JSON key "'):
        raw_members(text)


@pytest.mark.parametrize(
    "text", ["{}", " { } ", '{"a":{"a":{"a":1}},"b":"\\"a\\":"}', ' {"":1,\t"\\"" : 2, "é":[] } \n']
)
def test_members_of_different_names_are_all_there(text: str) -> None:
    assert {name: json.loads(bytes(held)) for name, held in raw_members(text).items()} == json.loads(text)


def test_a_value_that_is_no_text_keeps_all_digits_and_names() -> None:
    members = raw_members('{"n":123456789012345678901234567890,"o":{"a":1,"a":2},"t":"x\\n","z":null}')
    assert [value(held) for held in members.values()] == [
        msgspec.Raw(b"123456789012345678901234567890"), msgspec.Raw(b'{"a":1,"a":2}'), "x\n", None
    ]  # fmt: skip


FLOW = {
    "version": 2, "account_id": "123456789012", "interface_id": "eni-1", "srcaddr": "198.51.100.23",
    "dstaddr": "10.20.1.10", "srcport": 1, "dstport": 443, "protocol": 6, "packets": 14, "bytes": 2210,
    "start": 1770106500, "end": 1770106558, "action": "ACCEPT", "log_status": "OK",
}  # fmt: skip


def test_a_flow_log_line_that_names_a_field_twice_keeps_both_values() -> None:
    twice = json.dumps(FLOW).replace('"srcaddr"', '"srcaddr": "192.0.2.1", "srcaddr"')
    (event,) = ocsf(map_bytes(engine("aws_vpc_flow"), twice.encode()).events)
    assert event["src_endpoint"]["ip"] == "192.0.2.1"
    assert event["unmapped"]["srcaddr_2"] == FLOW["srcaddr"]


def test_an_envelope_with_two_records_is_quarantined_whole() -> None:
    one, two = (json.dumps(json.dumps(call(number))) for number in (1, 2))
    event = f'{{"id":"1","CloudTrailEvent":{one},"CloudTrailEvent":{two}}}'
    whole = f'{{"id":"2","CloudTrailEvent":{two}}}'
    document = f'{{"Events":[{event},{whole}]}}'
    mapped = map_bytes(engine("aws_cloudtrail"), document.encode())
    assert [event["metadata"]["uid"] for event in ocsf(mapped.events)] == ["e2"]
    assert reasons(mapped) == ['repeated JSON key "CloudTrailEvent"']
    assert mapped.rejects["raw"].to_pylist() == [event]


@pytest.mark.parametrize("name", ["Records", r"Rec\u006frds"])
@pytest.mark.parametrize("second", ["LIST", "null", "{}", '"x"'])
def test_a_second_list_of_records_hides_neither(name: str, second: str) -> None:
    first, other = (json.dumps(call(number)) for number in (1, 2))
    text = f'{{"Records":[{first}],"{name}":{second.replace("LIST", f"[{other}]")}}}'
    mapped = map_bytes(engine("aws_cloudtrail"), text.encode())
    found = {event["metadata"]["uid"] for event in ocsf(mapped.events)}
    kept = "".join(mapped.rejects["raw"].to_pylist())
    assert "e1" in found or '"eventID": "e1"' in kept
    assert second != "LIST" or "e2" in found or '"eventID": "e2"' in kept
