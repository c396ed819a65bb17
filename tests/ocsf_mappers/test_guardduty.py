"""GuardDuty findings: every member that AWS's own service model knows, and what the samples do not show.

The model is the one that botocore ships; see `Finding` in data/guardduty/2017-11-28.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore
import pytest

from ocsf_mappers import RawObject, registry
from ocsf_mappers.testing import lossless
from tests import ocsf_check
from tests.support import IN_EACH_VERSION, Json, as_events, engine, leaves, map_bytes, often

MODEL = Path(botocore.__file__).parent / "data" / "guardduty" / "2017-11-28" / "service-2.json.gz"
EXAMPLES = {
    # members whose text decides how the finding is mapped, or that must look like what they are
    "AccountId": "111122223333",
    "Region": "eu-central-1",
    "Partition": "aws",
    "Severity": 5.5,
    "Confidence": 7.0,
    "CreatedAt": "2026-03-18T02:00:00.000Z",
    "UpdatedAt": "2026-03-18T02:15:00.000Z",
    "EventFirstSeen": "2026-03-18T01:58:00.000Z",
    "EventLastSeen": "2026-03-18T02:13:00.000Z",
    "IpAddressV4": "198.51.100.7",
    "IpAddressV6": "2001:db8::7",
    "Ip": "198.51.100.8",
    "Archived": False,
    "Asn": "64500",
}


@cache
def shapes() -> Json:
    found: Json = json.loads(gzip.decompress(MODEL.read_bytes()))["shapes"]
    return found


def maximal(name_of: Callable[[str, Json], str]) -> Json:
    """A finding with every member that the model knows, each leaf with a value of its own."""
    numbers = iter(range(1, 10_000))

    def value(shape_name: str, member: str, within: tuple[str, ...]) -> Any:
        shape = shapes()[shape_name]
        match shape["type"]:
            case "structure":
                if shape_name in within:
                    return None
                inner = (*within, shape_name)
                return {
                    name_of(name, facts): value(facts["shape"], name, inner) for name, facts in shape["members"].items()
                }
            case "list":
                return [value(shape["member"]["shape"], member, within) for _ in range(2)]
            case "map":
                return {"AWS::S3::Bucket": value(shape["value"]["shape"], member, within)}
        if member in EXAMPLES and (len(within) < 2 or member not in ("CreatedAt", "UpdatedAt", "Severity")):
            return EXAMPLES[member]
        number = next(numbers)
        match shape["type"]:
            case "boolean":
                return bool(number % 2)
            case "integer" | "long":
                return number
            case "double":
                return number + 0.5
            case "timestamp":
                return 1_773_800_000 + number + 0.25
        return shape["enum"][number % len(shape["enum"])] if "enum" in shape else f"{member}-{number}"

    found: Json = value("Finding", "Finding", ())
    return found


def wire(name: str, facts: Json) -> str:
    """The member's name in the export and in EventBridge events."""
    location: str = facts.get("locationName", name[0].lower() + name[1:])
    return location


def python(name: str, facts: Json) -> str:
    """The member's name in what GetFindings gives through botocore."""
    return name


def events_of(findings: list[Json], version: str = "1.1.0") -> list[Json]:
    """The events of some findings, written as JSON lines, in their order."""
    lines = "\n".join(json.dumps(finding) for finding in findings)
    mapped = map_bytes(engine("aws_guardduty", version), lines.encode(), RawObject("memory://findings"))
    assert mapped.rejects["reason"].to_pylist() == []
    rows = sorted(as_events(mapped.events), key=lambda row: int(row[1]["source_record"]))
    return [event for event, _ in rows]


def event_of(finding: Json, version: str = "1.1.0") -> Json:
    return events_of([finding], version)[0]


def lowered(value: Any) -> Any:
    """Names without the capital they begin with, as the reader makes them."""
    if isinstance(value, dict):
        return {name if "::" in name else name[0].lower() + name[1:]: lowered(item) for name, item in value.items()}
    return [lowered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@IN_EACH_VERSION
@pytest.mark.parametrize("names", often([wire, python], [wire]))
def test_every_member_of_the_service_model_is_in_the_event(names: Callable[[str, Json], str], version: str) -> None:
    finding = maximal(names)
    event = event_of(finding, version)
    assert ocsf_check.problems(version, event) == []
    assert lossless.lost(registry.load("aws_guardduty"), lowered(finding), event) == []
    assert len(list(leaves(finding))) > 600


@pytest.mark.slow
@IN_EACH_VERSION
def test_every_resource_and_action_of_the_model_is_alone_a_valid_finding(version: str) -> None:
    findings = list(_alone(maximal(wire)))
    for finding, event in zip(findings, events_of(findings, version), strict=True):
        assert ocsf_check.problems(version, event) == []
        assert lossless.lost(registry.load("aws_guardduty"), finding, event) == []


def _alone(whole: Json) -> Iterator[Json]:
    """Findings with one resource and nothing else, and with one action and nothing else."""
    plain = {name: value for name, value in whole.items() if name not in ("resource", "service")}
    for name, value in whole["resource"].items():
        yield {**plain, "resource": {name: value}, "service": {"action": {}}}
    for name, value in whole["service"]["action"].items():
        yield {**plain, "resource": {}, "service": {"action": {name: value}}}
    for name, value in whole["service"].items():
        if name != "action":
            yield {**plain, "resource": {}, "service": {name: value}}


def test_members_of_the_model_are_declared_where_the_mapper_needs_them() -> None:
    record = registry.load("aws_guardduty").shape
    declared = {path[:2] for path in record.leaves}
    for holder, shape in (("resource", "Resource"), ("service", "Service")):
        for name, facts in shapes()[shape]["members"].items():
            assert (holder, wire(name, facts)) in declared
