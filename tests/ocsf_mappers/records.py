"""Small records to break."""

from __future__ import annotations

import json
from typing import Any

HEADER = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"
)
LINE = "2 123456789012 eni-1 198.51.100.23 10.20.1.10 {port} 443 6 14 2210 1770106500 1770106558 ACCEPT OK"


def call(number: int = 1, **more: Any) -> dict[str, Any]:
    """A whole CloudTrail record; its event id is its number."""
    record: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": {"type": "IAMUser", "principalId": "AIDA", "arn": "arn:user", "accountId": "123456789012"},
        "eventTime": "2026-02-03T08:15:30Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "DescribeInstances",
        "awsRegion": "eu-central-1",
        "sourceIPAddress": "192.0.2.44",
        "requestParameters": None,
        "requestID": f"r{number}",
        "eventID": f"e{number}",
        "eventType": "AwsApiCall",
        "recipientAccountId": "123456789012",
    }
    return record | more


def file_of(*records: Any) -> bytes:
    return json.dumps({"Records": list(records)}).encode()


def lines_of(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def flow(*ports: int, header: str = HEADER) -> bytes:
    """A flow log with one line per source port."""
    return "\n".join([header, *(LINE.format(port=port) for port in ports)]).encode() + b"\n"
