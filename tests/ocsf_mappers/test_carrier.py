"""What a mapper reads of the document around a record, and what a source knows of the lines in its log group."""

import json
from collections import Counter

import pyarrow as pa
import pytest

from ocsf_mappers import (
    CLOUDWATCH,
    JSON,
    Engine,
    Envelope,
    EventMap,
    JsonRecords,
    Mapper,
    Product,
    carrier,
    coalesce,
    col,
    list_of,
    outer,
    text_struct,
)
from ocsf_mappers.engine import engine as engines
from tests.support import Json, as_events, map_bytes

OTHER = "a line of another log"
BASE = {
    "severity_id": "Informational",
    "time": coalesce(col.time.iso8601(), carrier.time.iso8601()),
    "cloud.provider": "AWS",
    "cloud.account.uid": carrier.account,
    "cloud.region": carrier.region,
    "metadata.log_name": carrier.log_group,
    "metadata.correlation_uid": carrier.log_stream,
}
FINDING = {
    "activity_id": "Create",
    "is_alert": True,
    "finding_info.uid": "1",
    "finding_info.title": "t",
    "finding_info.types": ["a", "b"],
    "evidences": list_of(col.id).each({"src_endpoint.port": outer.port, "src_endpoint.name": outer.id}),
}
NETWORK = {"activity_id": "Traffic", "src_endpoint.name": "a", "dst_endpoint.name": "b"}
MAPPER = Mapper(
    name="test",
    product=Product("Test"),
    readers=[JsonRecords(envelopes=(Envelope("message", "message", {**CLOUDWATCH.drops, "I1": OTHER}),))],
    record=pa.struct([*text_struct("id time port"), pa.field("things", JSON)]),
    events=[
        EventMap("network_activity", where=col.id == "net", fields=BASE | NETWORK),
        EventMap("detection_finding", fields=BASE | FINDING),
    ],
)  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(MAPPER, "1.5.0")


def events(engine: Engine, *documents: Json) -> list[Json]:
    """Events of documents; mapped by distinct values they become the same."""
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    times = 3
    few = map_bytes(engine, lines.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "FEW_ROWS", times)
        many = map_bytes(engine, (lines * times).encode())
    assert few.rejects.to_pylist() == many.rejects.to_pylist() == []
    found = [event for event, _ in as_events(few.events)]
    assert [event for event, _ in as_events(many.events)] == found * times
    return found


def subscription(*messages: str) -> Json:
    events = [{"id": str(n), "timestamp": 1_764_590_400_250, "message": text} for n, text in enumerate(messages)]
    around = {"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "group", "logStream": "stream"}
    return {**around, "logEvents": events}


EVENT = {"version": "0", "detail-type": "Test", "source": "aws.test", "account": "444455556666", "region": "eu-west-1",
         "time": "2025-12-01T12:00:01Z", "detail": {"id": "x"}}  # fmt: skip


def test_a_log_event_says_account_time_group_and_stream(engine: Engine) -> None:
    (event,) = events(engine, subscription('{"id": "x"}'))
    assert event["cloud"] == {"provider": "AWS", "account": {"uid": "111122223333"}}
    assert (event["metadata"]["log_name"], event["metadata"]["correlation_uid"]) == ("group", "stream")
    assert event["time_dt"] == "2025-12-01T12:00:00.250000Z"
    assert event["unmapped"]["envelope.owner"] == "111122223333", "what stood around the record is all there"


@pytest.mark.parametrize("millis", [2**63 - 1, -(2**63), 1e300, 253_402_300_800_000, "soon", None])
def test_a_time_that_is_none_is_left_out(millis: object, engine: Engine) -> None:
    document = subscription('{"id": "x"}', '{"id": "y", "time": "2025-12-01T12:00:02Z"}')
    for event in document["logEvents"]:
        event["timestamp"] = millis
    mapped = map_bytes(engine, json.dumps(document).encode())
    assert [row["reason"] for row in mapped.rejects.to_pylist()] == ["time: required attribute is missing"]
    assert [event["time_dt"] for event, _ in as_events(mapped.events)] == ["2025-12-01T12:00:02Z"]


def test_an_event_of_eventbridge_says_account_region_and_time(engine: Engine) -> None:
    event, bare = events(engine, EVENT, {"id": "y", "time": "2025-12-01T12:00:02Z"})
    assert event["cloud"] == {"provider": "AWS", "account": {"uid": "444455556666"}, "region": "eu-west-1"}
    assert event["time_dt"] == "2025-12-01T12:00:01Z"
    assert bare["cloud"] == {"provider": "AWS"}, "nothing stood around this one"


def test_of_documents_in_documents_the_outer_one_counts(engine: Engine) -> None:
    (event,) = events(engine, subscription(json.dumps(EVENT)))
    assert event["cloud"]["account"]["uid"] == "111122223333"


def test_a_source_names_lines_of_other_logs_in_subscriptions(engine: Engine) -> None:
    mapped = map_bytes(engine, json.dumps(subscription('{"id": "x"}', "I1201 12:00:00 started", "W neither")).encode())
    assert (len(mapped.events), mapped.dropped, len(mapped.rejects)) == (1, Counter({OTHER: 1}), 1)


def test_constants_of_one_event_map_among_several(engine: Engine) -> None:
    at = {"time": "2025-12-01T12:00:02Z"}
    network, finding = events(engine, {"id": "net", **at}, {"id": "x", **at})
    assert finding["is_alert"] is True
    assert finding["finding_info"]["types"] == ["a", "b"]
    assert "is_alert" not in network


def test_a_number_that_a_list_repeats_is_carried_over(engine: Engine) -> None:
    at = {"time": "2025-12-01T12:00:02Z", "id": "x"}
    whole, none = events(engine, {"port": 443, **at}, {"port": "https", **at})
    assert "unmapped" not in whole
    assert none["unmapped"] == {"port": "https"}
