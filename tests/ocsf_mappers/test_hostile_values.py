"""Values that no sender means, in each place of the sample logs: one costs its attribute, not a query."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from ocsf_mappers import EventMap, JsonRecords, Mapper, Product, RawObject, col, obj, registry, text_struct
from ocsf_mappers.engine.engine import Engine
from ocsf_mappers.readers import Chunk
from ocsf_mappers.testing.samples import cases_in, read
from tests.support import SAMPLE_LOGS, dig, engine, map_bytes, ocsf, often

VALUES = ("9223372036854775807", "99999999999999", "[", "NaN", 1e308)
RAISED = re.compile(r"mapping failed|\w+ Error: ")

Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*place, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:2]):
            yield from places(inner, (*place, number))
    if place:
        yield place


def changed(value: Any, place: Place, new: object) -> Any:
    if not place:
        return new
    found = value.copy()
    found[place[0]] = changed(value[place[0]], place[1:], new)
    return found


def hostile(source: str) -> Iterator[Chunk]:
    """The samples with such values in each place that is not like another."""
    mapper, seen = registry.load(source), set[Place]()
    for case in cases_in(SAMPLE_LOGS / source, source):
        with case.path.open("rb") as file:
            chunks = list(read(mapper, file))
        records: list[Any] = []
        for chunk in chunks:
            table = chunk.records
            if "_raw" not in table.column_names:
                for place, name in enumerate(chunk.names):
                    if len(table) and (name,) not in seen:
                        seen.add((name,))
                        rows = pa.concat_tables([table.slice(0, 1)] * len(VALUES))
                        column = pa.array(map(str, VALUES), pa.string())
                        rows = rows.set_column(rows.column_names.index(f"c{place}"), f"c{place}", column)
                        yield replace(chunk, bad=(), records=rows)
                continue
            for raw in table["_raw"].to_pylist():
                try:
                    record = json.loads(raw)
                except ValueError:
                    continue
                for place in places(record):
                    if (kind := tuple(0 if isinstance(step, int) else step for step in place)) not in seen:
                        seen.add(kind)
                        # two of them in each place, and all of them in places of each kind
                        number = len(seen)
                        values = (VALUES[number % len(VALUES)], VALUES[(number + 2) % len(VALUES)])
                        records += [changed(record, place, value) for value in values]
        if records:
            lists = registry.source(source).lists
            data = json.dumps({lists[0]: records}) if lists else "\n".join(map(json.dumps, records))
            yield from read(mapper, io.BytesIO(data.encode()))


@pytest.mark.slow
@pytest.mark.parametrize("source", often(registry.names(), ["aws_vpc_flow", "aws_waf"]))
def test_no_value_makes_a_query_fail(source: str) -> None:
    chunks = [(RawObject("memory://x"), chunk) for chunk in hostile(source)]
    assert chunks
    mapped = engine(source, "1.8.0").map(chunks)
    assert len(mapped.events)
    assert sorted({reason for reason in mapped.rejects["reason"].to_pylist() if RAISED.search(reason)}) == []


MAPPER = Mapper(
    name="test",
    product=Product("Test"),
    readers=[JsonRecords()],
    record=text_struct("time pid name took scope"),
    events=[
        EventMap(
            "authentication",
            {
                "activity_id": "Logon", "severity_id": "Informational", "time": col.time.iso8601(),
                "user.name": "ann", "service.name": "sshd", "dst_endpoint.hostname": "web-1", "duration": col.took,
                "actor.process": obj({"pid": col.pid, "name": col.name}, needs="pid"),
                "metadata.labels": col.scope,
            },
            profiles=("host",),
        )
    ],
)  # fmt: skip


@pytest.mark.parametrize("version", ["1.1.0", "1.8.0"])
@pytest.mark.parametrize(
    ("member", "value", "path"),
    [
        ("pid", "12x", "actor.process"),
        ("pid", str(2**31), "actor.process"),
        ("took", str(2**31), "duration"),
        ("took", "-9223372036854775808", "duration"),
        ("scope", "[", "metadata.labels"),
        ("scope", '["a"', "metadata.labels"),
        ("scope", "a", "metadata.labels"),
    ],
)
def test_what_does_not_fit_is_left_out_and_kept(member: str, value: str, path: str, version: str) -> None:
    record = {"time": "2026-02-03T08:15:30Z", "pid": "7", "name": "sshd", "took": "5", "scope": '["a"]', member: value}
    mapped = map_bytes(Engine(MAPPER, version), json.dumps(record).encode())
    assert mapped.rejects["reason"].to_pylist() == []
    (event,) = ocsf(mapped.events)
    assert dig(event, path) is None
    assert event["unmapped"][member] == value
    if member == "pid":
        assert event["unmapped"]["name"] == "sshd"
