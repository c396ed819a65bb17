"""What the mapper tests share: files through a mapper as ingest does it, and events as OCSF JSON objects."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ocsf_mappers import DEFAULT_VERSION, Engine, Mapped, Mapper, RawObject, registry
from ocsf_mappers.readers import Chunk
from ocsf_mappers.readers.streams import Limits
from ocsf_mappers.testing.samples import (
    Case,
    Json,
    as_events,
    cases_in,
    leaves,
    named_rows,
    plain,
    pretty,
    read,
    read_cases,
    rejects,
)

PROJECT = Path(__file__).resolve().parents[1]
SAMPLE_LOGS = PROJECT / "sample_logs"
SAMPLE_COUNTS = PROJECT / "tests" / "sample_counts.json"
"""How many records tests map, by source: `own` those of `sample_logs/<source>`, `real` those outside the project."""
VERSIONS = ("1.1.0", "1.5.0", "1.8.0")
IN_EACH_VERSION = pytest.mark.parametrize(
    "version", [pytest.param(version, marks=[pytest.mark.slow] * (version == "1.5.0")) for version in VERSIONS]
)
"""Runs a test in each OCSF version; what holds in the oldest and the newest one is slow for what it shows between."""

DEFAULT_OFTEN = pytest.mark.parametrize(
    "version", [pytest.param(version, marks=[pytest.mark.slow] * (version != DEFAULT_VERSION)) for version in VERSIONS]
)
"""Runs a test in each OCSF version; what hardly depends on it is slow in others than lakes have by default."""


DEFAULT_ALONE = pytest.mark.parametrize(
    "version",
    [pytest.param(version, marks=[pytest.mark.acceptance] * (version != DEFAULT_VERSION)) for version in VERSIONS],
)
"""Runs a test in the OCSF version that lakes have by default; on demand in those where another test shows as much."""


def often(cases: Iterable[Any], at: Collection[Any]) -> list[Any]:
    """The cases of a parametrized test, of which `make test` has those that are named, and `.ci/run` all."""

    def given(case: Any) -> Any:
        values = case if isinstance(case, tuple) else (case,)
        return pytest.param(*values, marks=[pytest.mark.slow] * (case not in at))

    return [given(case) for case in cases]


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
def cases(source: str) -> list[Case]:
    """The sample logs of a source, sorted by name."""
    return cases_in(SAMPLE_LOGS / source, source)


def read_bytes(mapper: Mapper, data: bytes, limits: Limits | None = None) -> list[Chunk]:
    return read(mapper, io.BytesIO(data), limits)


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


# -- events -----------------------------------------------------------------------------------------------------------
def ocsf(events: pa.Table) -> list[Json]:
    """Each row as its OCSF JSON object alone."""
    return [event for event, _ in as_events(events)]


def dig(event: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    value: Any = event
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


def is_json(text: str) -> bool:
    """Whether a text is a JSON document."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def reasons(mapped: Mapped) -> list[str]:
    return mapped.rejects["reason"].to_pylist()

__all__ = [
    "DEFAULT_ALONE", "DEFAULT_OFTEN", "IN_EACH_VERSION", "PROJECT", "SAMPLE_COUNTS", "SAMPLE_LOGS", "VERSIONS", "Case",
    "Json", "as_events", "cases", "dig", "engine", "flows", "is_json", "leaves", "map_bytes", "mapped", "named_rows",
    "ocsf", "own", "plain", "pretty", "read", "read_bytes", "read_cases", "reasons", "rejects",
]  # fmt: skip
