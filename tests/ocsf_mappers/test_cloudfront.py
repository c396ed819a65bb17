"""Amazon CloudFront: what the goldens do not say aloud."""

import json

import pytest

from tests import support
from tests.support import SAMPLE_LOGS, as_events, map_bytes


@pytest.mark.parametrize(
    ("written", "agent"),
    [
        ("a%20b%2500", "a b%00"),
        ("a%2520b", "a b"),
        ("a%2500b", "a%2500b"),  # of %00 as it was sent, or of a NUL encoded twice: no text has one
        ("a%252500b", "a%00b"),
        ("a%00b", "a%00b"),
    ],
)
def test_a_user_agent_is_decoded_to_what_is_text(written: str, agent: str) -> None:
    record = json.loads((SAMPLE_LOGS / "aws_cloudfront" / "version_2.jsonl").read_text().splitlines()[0])
    document = json.dumps(record | {"cs(User-Agent)": written}).encode()
    ((event, _),) = as_events(map_bytes(support.engine("aws_cloudfront"), document).events)
    assert event["http_request"]["user_agent"] == agent


def test_values_that_are_names_of_fields_are_no_header_of_a_real_time_log() -> None:
    """Anybody chooses what agent, referrer and cookie say: they must not decide how the lines below are read."""
    engine = support.engine("aws_cloudfront_realtime")
    text = (SAMPLE_LOGS / "aws_cloudfront_realtime" / "scanner.log").read_text()
    (reader,) = engine.mapper.readers
    cells = dict(zip(reader.columns, text.splitlines()[0].split("\t"), strict=True))
    names = dict.fromkeys(reader.columns, "timestamp") | {"timestamp": "1773658800.000", "c_ip": "203.0.113.201"}
    names["x_edge_request_id"] = cells["x_edge_request_id"]
    line = "\t".join(names.values())
    lines = [line, *text.splitlines(), line, *text.splitlines()]
    mapped = map_bytes(engine, "\n".join(lines).encode())
    assert mapped.events["source_record"].to_pylist() == list(range(1, len(lines) + 1))
    assert len(mapped.rejects) == 0
