"""What the mapper tests share: files through a mapper as ingest does it, and events as OCSF JSON objects."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pytest

from ocsf_mappers import DEFAULT_VERSION, Engine, Mapped, Mapper, RawObject, registry
from ocsf_mappers.ocsf.tables import OUTSIDE_OCSF
from ocsf_mappers.readers import Chunk
from ocsf_mappers.readers.streams import Blocks, Limits

PROJECT = Path(__file__).resolve().parents[1]
SAMPLE_LOGS = PROJECT / "sample_logs"
SAMPLE_COUNTS = PROJECT / "tests" / "sample_counts.json"
"""How many records tests map, by source: `own` those of `sample_logs/<source>`, `real` those outside the project."""
VERSIONS = ("1.1.0", "1.5.0", "1.8.0")
IN_EACH_VERSION = pytest.mark.parametrize(
    "version", [pytest.param(version, marks=[pytest.mark.slow] * (version == "1.5.0")) for version in VERSIONS]
)
"""Runs a test in each OCSF version; what holds in the oldest and the newest one is slow for what it shows between."""

Json = dict[str, Any]

DEFAULT_OFTEN = pytest.mark.parametrize(
    "version", [pytest.param(version, marks=[pytest.mark.slow] * (version != DEFAULT_VERSION)) for version in VERSIONS]
)
"""Runs a test in each OCSF version; what hardly depends on it is slow in others than lakes have by default."""


def often(cases: Iterable[Any], at: Collection[Any]) -> list[Any]:
    """The cases of a parametrized test, of which `make test` has those that are named, and `.ci/run` all."""

    def given(case: Any) -> Any:
        values = case if isinstance(case, tuple) else (case,)
        return pytest.param(*values, marks=[pytest.mark.slow] * (case not in at))

    return [given(case) for case in cases]


MEANINGFUL_WHEN_EMPTY = frozenset({"answers"})
"""Lists that say something by having no items (a DNS query without an answer)."""

LAKE_COLUMNS = OUTSIDE_OCSF | {"_table"}


# -- mappers ----------------------------------------------------------------------------------------------------------
@cache
def engine(source: str, version: str = DEFAULT_VERSION) -> Engine:
    """Made once and kept: making one, and planning its first query, costs most of a test."""
    return Engine(registry.load(source), version)


@cache
def own(source: str) -> list[tuple[RawObject, Chunk]]:
    """The sample logs of a source, read."""
    return read_cases(registry.load(source), cases(source))


@cache
def mapped(source: str, version: str = DEFAULT_VERSION) -> Mapped:
    """What the sample logs of a source map to; all are mapped together, as ingest does with small objects."""
    return engine(source, version).map(own(source))


# -- files ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """One sample log: `sample_logs/<source>/<name>`."""

    source: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.source}/{self.path.name}"

    @property
    def expected(self) -> Path:
        return self.path.with_name(f"{self.path.name.partition('.')[0]}.expected.json")


def cases(source: str) -> list[Case]:
    """The sample logs of a source, sorted by name."""
    folder = SAMPLE_LOGS / source
    found = [path for path in folder.iterdir() if path.name != "SOURCE.md" and ".expected." not in path.name]
    return [Case(source, path) for path in sorted(found)]


def read(mapper: Mapper, file: BinaryIO, limits: Limits | None = None) -> list[Chunk]:
    """An object's chunks by the first reader that accepts its head."""
    blocks = Blocks(file, limits)
    reader = next(found for found in mapper.readers if found.accepts(blocks.head))
    return list(reader.read(blocks))


def read_bytes(mapper: Mapper, data: bytes, limits: Limits | None = None) -> list[Chunk]:
    return read(mapper, io.BytesIO(data), limits)


def named_rows(chunk: Chunk) -> list[Json]:
    """Each record of a chunk; columns of a text log under their names as mappers spell them, repeated ones numbered."""
    found = []
    for given in chunk.records.to_pylist():
        row = {name: value for name, value in given.items() if name in ("_record", "_raw", "_envelope")}
        for position, own in enumerate(chunk.names):
            name, value = own.lower().replace("-", "_"), given[f"c{position}"]
            if not own and value == "":
                continue  # a blank at the end of a line
            if row.get(name) is not None:
                name = f"{name}#{position}"
            row[name] = value
        found.append(row)
    return found


def flows(**columns: list[str | None]) -> Chunk:
    """A chunk of a text log: name of a column -> its values; records are numbered from 1."""
    size = len(next(iter(columns.values())))
    records = {"_record": pa.array(range(1, size + 1), pa.int64())}
    records |= {f"c{position}": pa.array(values, pa.string()) for position, values in enumerate(columns.values())}
    return Chunk(pa.table(records), names=tuple(columns))


def map_bytes(engine: Engine, data: bytes, raw_object: RawObject | None = None, limits: Limits | None = None) -> Mapped:
    """One object's events, read and mapped as ingest does it."""
    where = raw_object or RawObject("memory://object")
    return engine.map([(where, chunk) for chunk in read_bytes(engine.mapper, data, limits)])


def read_cases(mapper: Mapper, wanted: Iterable[Case]) -> list[tuple[RawObject, Chunk]]:
    """Every chunk of some cases, each with the object it came from."""
    parts = []
    for case in wanted:
        with case.path.open("rb") as file:
            parts += [(RawObject(case.name), chunk) for chunk in read(mapper, file)]
    return parts


# -- events -----------------------------------------------------------------------------------------------------------
def plain(events: pa.Table, target: pa.Schema) -> pa.Table:
    """The table's columns without dictionary encoding."""
    return pa.table([events[field.name].cast(field.type) for field in target], schema=target)


def as_events(events: pa.Table) -> list[tuple[Json, Json]]:
    """Each row as (OCSF JSON object, what the lake adds): nulls, empty objects and empty lists left out."""
    found = []
    for row in events.to_pylist(maps_as_pydicts="strict"):
        kept = _clean(row)
        lake = {name.lstrip("_"): value for name, value in kept.items() if name in LAKE_COLUMNS}
        found.append(({name: value for name, value in kept.items() if name not in LAKE_COLUMNS}, lake))
    return found


def ocsf(events: pa.Table) -> list[Json]:
    """Each row as its OCSF JSON object alone."""
    return [event for event, _ in as_events(events)]


def _clean(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        cleaned = {key: _clean(item, key) for key, item in value.items()}
        return {key: item for key, item in cleaned.items() if item is not None and item != {} and not _void(key, item)}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return float(value)
    return value


def _void(name: str, value: Any) -> bool:
    return value == [] and name not in MEANINGFUL_WHEN_EMPTY


def dig(event: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = event
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every scalar in a JSON value; list items share their list's path plus `[]`."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    else:
        yield path, value


def reasons(mapped: Mapped) -> list[str]:
    return mapped.rejects["reason"].to_pylist()


def rejects(mapped: Mapped) -> list[Json]:
    """Each reject without the names that only its object gives."""
    return [
        {"record": row["source_record"], "reason": row["reason"], "raw": row["raw"]}
        for row in mapped.rejects.to_pylist()
    ]


def pretty(value: Any) -> str:
    """JSON as goldens are written."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
