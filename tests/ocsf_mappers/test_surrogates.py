r"""Half a surrogate pair hides nothing: the record is an event, with U+FFFD there and its own text beside."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from random import Random

import pyarrow as pa
import pytest

from ocsf_mappers.readers import surrogates
from tests.ocsf_mappers.records import call
from tests.support import engine, map_bytes, ocsf

HALF, PAIR = r"\ud83d", r"\ud83d\ude00"


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        (rf'{{"a": "x{HALF}y"}}', r'{"a": "x\ufffdy"}'),
        (r'{"a": "\uDE00\ud83d"}', r'{"a": "\ufffd\ufffd"}'),
        (rf'{{"a": "{HALF}{PAIR}"}}', rf'{{"a": "\ufffd{PAIR}"}}'),
        (rf'{{"k{HALF}": 1}}', r'{"k\ufffd": 1}'),
    ],
)
def test_each_half_becomes_a_replacement_character(text: str, mended: str) -> None:
    (found,) = surrogates.whole(pa.array([text])).to_pylist()
    record = json.loads(found)
    assert record.pop("raw_data") == text
    assert record == json.loads(mended)


@pytest.mark.parametrize(
    "text", [rf'{{"a": "{PAIR}"}}', r'{"a": "\\ud83d"}', r'{"a": "\u00e9"}', r'{"a": "\\\\ud83d"}', '{"a": "ud83d"}']
)
def test_what_is_no_half_stays_as_it_is(text: str) -> None:
    assert surrogates.whole(pa.array([text])).to_pylist() == [text]


def test_a_record_with_a_member_of_that_name_keeps_it() -> None:
    (found,) = surrogates.whole(pa.array([rf'{{"raw_data": "{HALF}"}}'])).to_pylist()
    assert json.loads(found) == {"raw_data": "\ufffd", "raw_data_": rf'{{"raw_data": "{HALF}"}}'}


def failed_delivery(texts: list[str]) -> str:
    """What Firehose puts aside: a CloudWatch Logs document in gzip, twice, in base64."""
    document = gzip.compress(gzip.compress(WRAPPINGS["CloudWatch"](texts).encode()))
    return json.dumps({"attemptsMade": 4, "errorCode": "x", "rawData": base64.b64encode(document).decode()})


def failed_records(texts: list[str]) -> str:
    """Records that Firehose puts aside as they were sent."""
    packed = [base64.b64encode(text.encode()).decode() for text in texts]
    return "\n".join(json.dumps({"attemptsMade": 4, "errorCode": "x", "rawData": text}) for text in packed)


WRAPPINGS: dict[str, Callable[[list[str]], str]] = {
    "Records": lambda texts: '{"Records": [' + ", ".join(texts) + "]}",
    "lines": "\n".join,
    "nothing between": "".join,
    "CloudWatch": lambda texts: json.dumps(
        {"messageType": "DATA_MESSAGE", "logEvents": [{"id": "1", "message": text} for text in texts]}
    ),
    "Firehose": failed_delivery,
    "Firehose, one by one": failed_records,
}


@pytest.mark.parametrize("wrapping", ["Records", "lines", "nothing between"])
def test_a_call_cannot_hide_behind_its_user_agent(wrapping: str) -> None:
    texts = [json.dumps(call(number, userAgent="agent HALF")).replace("HALF", HALF) for number in (1, 3)]
    texts.insert(1, json.dumps(call(2)))
    mapped = map_bytes(engine("aws_cloudtrail"), WRAPPINGS[wrapping](texts).encode())
    assert mapped.rejects.to_pylist() == []
    events = ocsf(mapped.events)
    assert [event["metadata"]["uid"] for event in events] == ["e1", "e2", "e3"]
    assert [event.get("http_request") for event in events][::2] == [{"user_agent": "agent \ufffd"}] * 2
    assert [event.get("unmapped", {}).get("raw_data") for event in events] == [texts[0], None, texts[2]]


LOOKUP = {
    "version": "1.100000", "account_id": "111122223333", "region": "eu-west-1", "vpc_id": "vpc-0a1b2c3d",
    "query_timestamp": "2026-05-04T09:10:11Z", "query_name": "HALF.example.com.", "query_type": "A",
    "query_class": "IN", "rcode": "NOERROR", "answers": [], "srcaddr": "10.0.0.7", "srcport": "53211",
    "transport": "UDP", "srcids": {"instance": "i-0a1b2c3d"},
}  # fmt: skip


@pytest.mark.parametrize("wrapping", ["lines", "CloudWatch", "Firehose", "Firehose, one by one"])
def test_a_lookup_cannot_hide_behind_its_name(wrapping: str) -> None:
    text = json.dumps(LOOKUP).replace("HALF", HALF)
    mapped = map_bytes(engine("aws_route53_resolver"), WRAPPINGS[wrapping]([text, text]).encode())
    assert mapped.rejects.to_pylist() == []
    events = ocsf(mapped.events)
    assert [event["query"]["hostname"] for event in events] == ["\ufffd.example.com."] * 2
    assert {event["unmapped"]["raw_data"] for event in events} == {text}


@pytest.mark.parametrize("others", ["", "\\", "a" * 40])
def test_whether_an_escape_may_be_in_a_text_is_what_a_search_says(others: str) -> None:
    random = Random(7)
    texts = ["".join(random.choices("\\udDx" + others, k=random.randrange(60))).encode() for _ in range(2_000)]
    found = [surrogates.may_be_in(text) for text in texts]
    assert found == [b"\\ud" in text or b"\\uD" in text for text in texts]
    assert set(found) == {True, False}
