"""A machine's time zone has no part in what logs are mapped to."""

from __future__ import annotations

import time

import pytest

from ocsf_mappers import DEFAULT_VERSION, Engine, registry
from tests.support import as_events, mapped, often, own


@pytest.mark.slow
@pytest.mark.parametrize("source", often(registry.names(), ["aws_cloudtrail", "aws_vpc_flow"]))
def test_the_machine_s_time_zone_does_not_matter(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = as_events(mapped(source).events)
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        found = as_events(Engine(registry.load(source), DEFAULT_VERSION).map(own(source)).events)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == before
