"""Rules asked of events that were mapped in the test's own process: no lake, no files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from ocsf_lake.detections import asked, rules, statements
from ocsf_lake.detections.logs import Part
from ocsf_lake.detections.rules import Rule
from ocsf_lake.detections.statements import Span
from ocsf_mappers import RawObject, duck, registry
from ocsf_mappers.readers.chunk import Chunk
from tests.support import engine, read

Json = dict[str, Any]


def mapped(source: str, parts: Iterable[tuple[RawObject, Chunk]]) -> pa.Table:
    """The events of records, as a table of the lake has them."""
    events = engine(source, "1.1.0").map(list(parts)).events
    for name in ("accountid", "region"):
        if name not in events.column_names:
            events = events.append_column(name, pa.nulls(len(events), pa.string()))
    return events


def of_records(source: str, records: Sequence[Json]) -> pa.Table:
    """The events of records that a test writes."""
    file = io.BytesIO(b"\n".join(json.dumps(record).encode() for record in records))
    return mapped(source, [(RawObject("made.jsonl"), chunk) for chunk in read(registry.load(source), file)])


def shown(part: Part, events: pa.Table) -> duckdb.DuckDBPyConnection:
    """A connection with the tables of a source; Insights of CloudTrail stand in one of their own."""
    connection = duck.connect()
    connection.execute("SET TimeZone = 'UTC'")
    main, *others = sorted(part.tables, key=lambda name: (name == "cloud_trail_insight", name))
    for name in others:
        connection.register(name, events.slice(0, 0))
    if "cloud_trail_insight" in others:
        codes = pc.struct_field(events["metadata"], "event_code")
        is_insight = pc.fill_null(pc.equal(codes, "AwsCloudTrailInsight"), False)
        connection.register("cloud_trail_insight", events.filter(is_insight))
        events = events.filter(pc.invert(is_insight))
    connection.register(main, events)
    return connection


def written(folder: Path, **files: Sequence[Json] | Json) -> list[Rule]:
    """The rules that files say, by name; of each what a test leaves out is filled in."""
    for name, said in files.items():
        documents = [
            {"title": name, "logsource": {"product": "aws", "service": "cloudtrail"}} | one if "detection" in one
            else {"title": name} | one
            for one in ([said] if isinstance(said, dict) else said)
        ]  # fmt: skip
        (folder / f"{name}.yml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return rules.load([folder], {})


def places(connection: duckdb.DuckDBPyConnection, part: Part, rule: Rule) -> set[tuple[str, int]]:
    """Where the records stand that a rule looks for."""
    look, *_ = asked.look(rule.conditions[part.source], part.relation.every_name)
    sql = f"SELECT place FROM ({statements.hits(part.relation, [look], Span())})"
    found = (place.rsplit("#", 1) for (place,) in connection.execute(sql).fetchall())
    return {(uri, int(record)) for uri, record in found}
