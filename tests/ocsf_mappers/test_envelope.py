"""Documents around records: opened whatever they are in, recognized by their own members, put together again."""

import base64
import gzip
import json
from typing import Any

import pytest

from ocsf_mappers import registry
from ocsf_mappers.readers import CARRIERS, envelope, wrapped
from ocsf_mappers.readers.envelope import CONTROL_DROP, DEPTH, around_text, opened
from tests.support import read_bytes

RECORD = {"eventVersion": "1.09", "eventName": "x", "detail": {"message": "{}"}}
LINE = "2 111122223333 eni-1 - - - - - - - 1 2 - NODATA"


def event(detail: object = RECORD) -> dict[str, Any]:
    return {"version": "0", "detail-type": "a kind", "source": "aws.ec2", "detail": detail}


def sns(message: object) -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"Type": "Notification", "MessageId": "1", "TopicArn": "arn", "Message": text, "Subject": None}


def document(*messages: object, kind: str = "DATA_MESSAGE") -> dict[str, Any]:
    texts = [message if isinstance(message, str) else json.dumps(message) for message in messages]
    events = [{"id": str(number), "timestamp": number, "message": text} for number, text in enumerate(texts)]
    return {"messageType": kind, "owner": "1", "logGroup": "g", "logEvents": events}


def packed(content: object, *, zipped: bool = True) -> dict[str, Any]:
    data = json.dumps(content).encode()
    text = base64.b64encode(gzip.compress(data) if zipped else data).decode()
    return {"attemptsMade": 4, "errorCode": "Lambda.FunctionError", "rawData": text}


CARRIED = {
    "bare": RECORD,
    "event": event(),
    "notification": sns(event()),
    "bare notification": sns(RECORD),
    "log event": {"id": "1", "timestamp": 2, "message": json.dumps(RECORD)},
    "log event, an object": {"timestamp": "2026-02-03T08:15:30.000Z", "message": RECORD},
    "document": document(event()),
    "queue": {"MessageId": "1", "ReceiptHandle": "h", "Body": json.dumps(sns(event()))},
    "queue to a function": {"messageId": "1", "receiptHandle": "h", "body": json.dumps(event())},
    "topic to a function": {"EventSource": "aws:sns", "EventSubscriptionArn": "arn", "Sns": sns(event())},
    "failed record": packed(document(event())),
    "failed record, not zipped": packed(event(), zipped=False),
    "record of a stream": {"recordId": "1", "data": base64.b64encode(json.dumps(RECORD).encode()).decode()},
    "text": {"message": LINE},
    "document of text": document(LINE),
}


@pytest.mark.parametrize("carried", CARRIED.values(), ids=CARRIED.keys())
def test_a_record_comes_out_and_its_document_can_be_put_together_again(carried: dict[str, Any]) -> None:
    (found,) = opened(json.dumps(carried).encode(), CARRIERS)
    assert found.text.decode() == LINE or json.loads(found.text) == RECORD
    if (around := around_text(found.around)) is None:
        assert carried == RECORD
        return
    again = opened(wrapped(found.text.decode(), around, CARRIERS).encode(), CARRIERS)
    assert [(one.text == found.text or json.loads(one.text) == RECORD) for one in again] == [True]
    assert json.loads(around_text(again[0].around) or "") == json.loads(around)


def test_every_log_event_is_a_record_with_what_stands_around_all() -> None:
    found = opened(json.dumps(document(RECORD, LINE, event())).encode(), CARRIERS)
    assert [json.loads(around_text(one.around) or "")["logGroup"] for one in found] == ["g", "g", "g"]
    assert [json.loads(around_text(one.around) or "")["id"] for one in found] == ["0", "1", "2"]


def test_every_item_of_a_list_is_a_record_with_what_stands_around_all() -> None:
    found = opened(json.dumps(event({"a": 1, "findings": [RECORD, RECORD]})).encode(), CARRIERS)
    assert [json.loads(one.text) for one in found] == [RECORD, RECORD]
    around = [around_text(one.around) or "" for one in found]
    assert [json.loads(text)["detail"] for text in around] == [{"a": 1, "findings": None}] * 2
    again = json.loads(wrapped(found[1].text.decode(), around[1], CARRIERS))
    assert again == event({"a": 1, "findings": [RECORD]})


def test_an_empty_list_holds_no_record() -> None:
    assert opened(json.dumps(event({"findings": []})).encode(), CARRIERS) == []
    (found,) = opened(json.dumps(event({"findings": {"detail": 1}})).encode(), CARRIERS)
    assert json.loads(found.text) == {"findings": {"detail": 1}}
    (found,) = opened(json.dumps({"findings": [RECORD]}).encode(), CARRIERS)
    assert found.around is None, "only an event's are known to be records"


@pytest.mark.parametrize("events", [None, [], "one"])
def test_a_control_message_is_dropped_whatever_it_holds(events: object) -> None:
    control = document("CWL CONTROL MESSAGE: Checking health of destination Firehose.", kind="CONTROL_MESSAGE")
    if events != "one":
        control["logEvents"] = events
    assert [one.drop for one in opened(json.dumps(control).encode(), CARRIERS)] == [CONTROL_DROP]


@pytest.mark.parametrize(
    "record",
    [
        {"message": '{"a": 1}', "time": "now"},
        {"message": '{"a": 1}', "host": "h"},
        {"detail": {"a": 1}},
        {"data": "e30=", "time": 1},
        {"Message": "{}", "TopicArn": "arn"},
        {"detail-type": "x", "detail": 7},
        {"logEvents": [{"message": "{}"}]},
        {"requestParameters": {"detail-type": "x", "detail": {}}},
    ],
)
def test_a_record_with_members_of_such_names_is_left_alone(record: dict[str, Any]) -> None:
    assert [one.around for one in opened(json.dumps(record).encode(), CARRIERS)] == [None]


def test_documents_are_opened_to_a_bounded_depth() -> None:
    text = json.dumps(RECORD)
    for _ in range(DEPTH + 3):
        text = json.dumps({"timestamp": 1, "message": text})
    (found,) = opened(text.encode(), CARRIERS)
    assert json.loads(found.text).keys() == {"timestamp", "message"}


def test_a_member_that_stands_twice_is_not_opened() -> None:
    text = f'{{"detail-type": "x", "detail": {json.dumps(RECORD)}, "detail": {{"b": 2}}}}'
    (found,) = opened(text.encode(), CARRIERS)
    assert (found.text, found.around, found.problem) == (text.encode(), None, 'repeated JSON key "detail"')


def test_a_packed_text_that_grows_too_far_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "UNPACKED_BYTES", 100)
    assert [one.around for one in opened(json.dumps(packed(document(RECORD))).encode(), CARRIERS)] == [None]


def test_packed_texts_that_grow_too_far_together_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocsf_mappers.readers.json_records.OPENED_BYTES", 300)
    lines = "\n".join(json.dumps(packed(document(RECORD, RECORD, RECORD))) for _ in range(3))
    (chunk,) = read_bytes(registry.load("aws_cloudtrail"), lines.encode())
    assert len(chunk.records) in (3, 6)
    assert {item.reason for item in chunk.bad} == {"the documents before it hold more than 300 bytes"}
    assert len(chunk.records) // 3 + len(chunk.bad) == 3


# -- export tasks -----------------------------------------------------------------------------------------------------
def exported(*messages: str) -> bytes:
    return "".join(f"2026-02-03T08:15:3{number}.000Z {text}\n" for number, text in enumerate(messages)).encode()


def test_messages_of_an_export_task_are_records_with_their_time() -> None:
    mapper = registry.load("aws_cloudtrail")
    (chunk,) = read_bytes(mapper, exported(json.dumps(RECORD), json.dumps(RECORD, indent=1), "text\nof two lines"))
    assert [json.loads(text) for text in chunk.records["_raw"].to_pylist()] == [RECORD, RECORD]
    times = [json.loads(text)["timestamp"] for text in chunk.records["_envelope"].to_pylist()]
    assert times == ["2026-02-03T08:15:30.000Z", "2026-02-03T08:15:31.000Z"]
    ((bad),) = chunk.bad
    assert (bad.record, json.loads(bad.text)["message"]) == (3, "text\nof two lines")


@pytest.mark.parametrize("block", [60, 200, 1_000])
def test_an_export_task_is_read_the_same_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = exported(*(json.dumps({**RECORD, "eventName": str(number)}, indent=number % 2) for number in range(9)))
    whole = read_bytes(registry.load("aws_cloudtrail"), data)
    monkeypatch.setattr("ocsf_mappers.readers.streams.BLOCK_BYTES", block)
    parts = read_bytes(registry.load("aws_cloudtrail"), data)
    names = [json.loads(text)["eventName"] for chunk in parts for text in chunk.records["_raw"].to_pylist()]
    assert names == [str(number) for number in range(9)]
    assert sum(chunk.read for chunk in parts) == sum(chunk.read for chunk in whole) == 9


def test_a_log_that_has_such_times_of_its_own_keeps_them() -> None:
    mapper = registry.load("aws_vpc_flow")
    line = "2026-02-03T08:15:30.000Z " + " ".join("123456789abcd")
    chunks = read_bytes(mapper, line.encode())
    assert [chunk.names[0] for chunk in chunks if len(chunk.records)] == ["version"]


@pytest.mark.parametrize("content", [b"PK\x03\x04\x00\xff", gzip.compress(b"\x00\xff")], ids=["archive", "gzip"])
def test_bytes_that_are_no_log_stay_packed(content: bytes) -> None:
    text = json.dumps({"attemptsMade": 4, "errorCode": "x", "rawData": base64.b64encode(content).decode()}).encode()
    (found,) = opened(text, CARRIERS)
    assert found.text == text
