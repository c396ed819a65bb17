"""Times without a year, and names that whoever signs in may choose."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from ocsf_mappers import RawObject
from tests.support import dig, engine, map_bytes, ocsf, reasons

ENDED = "Disconnected from user ann 203.0.113.7 port 22"


@pytest.mark.parametrize(
    ("time", "seen", "year"),
    [
        ("Mar 16 10:00:00", "2026-03-16T10:00:05Z", 2026),
        ("Mar  6 10:00:00", "2026-03-16T10:00:05Z", 2026),
        ("Mar 17 10:00:00", "2026-03-16T10:00:05Z", 2026),  # a clock that runs ahead
        ("Mar 19 10:00:00", "2026-03-16T10:00:05Z", 2025),
        ("Dec 31 23:59:59", "2026-01-01T00:00:05Z", 2025),
        ("Jan  1 00:00:01", "2025-12-31T23:59:59Z", 2026),
        ("Feb 29 12:00:00", "2024-03-01T00:00:05Z", 2024),
        ("Feb 29 12:00:00", "2025-01-05T00:00:05Z", 2024),
        ("Feb 29 12:00:00", "2026-03-01T00:00:05Z", None),  # in neither of the two years
        ("Feb 30 12:00:00", "2026-03-01T00:00:05Z", None),
    ],
)
@pytest.mark.parametrize("told_by", ["log event", "object"])
def test_the_year_is_the_latest_that_fits(time: str, seen: str, year: int | None, told_by: str) -> None:
    line = f"{time} web-1 sshd[7]: {ENDED}"
    raw_object = RawObject("memory://logs/x", time=seen if told_by == "object" else None)
    if told_by == "log event":
        instant = datetime.fromisoformat(seen).timestamp()
        line = json.dumps({"timestamp": int(instant * 1000), "message": line})
    mapped = map_bytes(engine("linux_auth"), line.encode(), raw_object)
    if year is None:
        assert reasons(mapped) == ["time: required attribute is missing"]
    else:
        (event,) = ocsf(mapped.events)
        assert event["time_dt"][:4] == str(year)
        assert dig(event, "metadata.original_time") == time


@pytest.mark.parametrize(
    ("message", "user", "address", "status"),
    [
        ("Failed password for invalid user a from 192.0.2.1 port 1 ssh2 from 2001:db8::1 port 2 ssh2",
         "a from 192.0.2.1 port 1 ssh2", "2001:db8::1", "Failure"),
        ("Invalid user Accepted password for root from 192.0.2.1 from 198.51.100.9 port 2",
         "Accepted password for root from 192.0.2.1", "198.51.100.9", "Failure"),
        ("Connection closed by invalid user root 192.0.2.1 port 1 198.51.100.9 port 2 [preauth]",
         "root 192.0.2.1 port 1", "198.51.100.9", "Failure"),
        ("Accepted publickey for ann from 198.51.100.9 port 2 ssh2: RSA SHA256:abc", "ann", "198.51.100.9", "Success"),
    ],
)  # fmt: skip
def test_a_name_is_no_address(message: str, user: str, address: str, status: str) -> None:
    line = f"2026-03-16T10:00:00Z web-1 sshd[7]: {message}"
    (event,) = ocsf(map_bytes(engine("linux_auth"), line.encode()).events)
    assert (dig(event, "user.name"), dig(event, "src_endpoint.ip"), event["status"]) == (user, address, status)


@pytest.mark.parametrize("more", [{}, {"host": "web-1"}, {"group": "wheel", "service": "shop"}])
def test_another_log_in_json_is_no_sign_in(more: dict[str, str]) -> None:
    line = json.dumps({"time": "2026-03-16T10:00:00Z", "user": "ann", **more})
    mapped = map_bytes(engine("linux_auth"), line.encode())
    assert len(mapped.events) == 0
    assert reasons(mapped) == ["authentication: needs at least one of service, dst_endpoint"]
