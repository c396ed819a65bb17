"""AWS Config: spellings, messages that hold no record, and what is no copy of what."""

import json

import pytest

from ocsf_mappers import Mapped
from tests import support
from tests.support import Json, as_events, map_bytes

ITEM: Json = {
    "configurationItemCaptureTime": "2026-03-02T10:00:00Z",
    "configurationItemStatus": "OK",
    "configurationStateId": 1,
    "resourceType": "AWS::S3::Bucket",
    "resourceId": "b",
    "awsAccountId": "123456789012",
    "awsRegion": "eu-west-1",
    "configuration": {"ARN": "inside"},
}


def mapped(*records: Json) -> Mapped:
    return map_bytes(support.engine("aws_config"), "\n".join(map(json.dumps, records)).encode())


def told(record: Json) -> Json:
    found = mapped(record)
    assert found.rejects.to_pylist() == []
    ((event, _),) = as_events(found.events)
    return event


@pytest.mark.parametrize("name", ["ARN", "arn"])
def test_an_arn_is_read_however_it_is_spelled(name: str) -> None:
    event = told(ITEM | {name: "arn:aws:s3:::b"})
    assert event["entity"]["uid"] == "arn:aws:s3:::b"
    assert event["entity"]["data"] == '{"ARN":"inside"}', "of the record's own members alone"


def test_of_two_arns_none_is_lost() -> None:
    event = told(ITEM | {"ARN": "arn:aws:one", "arn": "arn:aws:two"})
    assert (event["entity"]["uid"], event["unmapped"]["ARN"]) == ("arn:aws:two", "arn:aws:one")


def test_a_message_about_its_own_work_is_dropped_and_counted() -> None:
    work = {"messageType": "ScheduledNotification", "recordVersion": "1.0"}
    quoted = ITEM | {"configuration": {"messageType": "ScheduledNotification"}}
    found = mapped(work, quoted, {"invokingEvent": json.dumps(work), "configRuleName": "r"})
    assert (len(found.events), found.dropped.total(), found.read) == (1, 2, 3)


def test_a_summary_is_no_duplicate_of_its_item() -> None:
    summary = {name: value for name, value in ITEM.items() if name != "configuration"} | {"changeType": "UPDATE"}
    document = {"messageType": "OversizedConfigurationItemChangeNotification", "configurationItemSummary": summary}
    assert told(ITEM)["metadata"]["uid"] == "b/2026-03-02T10:00:00Z/1"
    assert told(document)["metadata"]["uid"] == "b/2026-03-02T10:00:00Z/1/summary"
