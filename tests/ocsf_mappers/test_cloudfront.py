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
