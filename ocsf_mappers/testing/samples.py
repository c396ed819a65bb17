"""Sample logs, and what they map to as plain values: what tests of a mapper are made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ocsf_mappers.engine.batch import RawObject
from ocsf_mappers.engine.mapped import Mapped
from ocsf_mappers.errors import ReadError
from ocsf_mappers.ocsf.tables import OUTSIDE_OCSF
from ocsf_mappers.readers import Chunk
from ocsf_mappers.readers.streams import Blocks, Limits
from ocsf_mappers.vocabulary.mapper import Mapper

Json = dict[str, Any]

MEANINGFUL_WHEN_EMPTY = frozenset({"answers"})
"""Lists that say something by having no items (a DNS query without an answer)."""

LAKE_COLUMNS = OUTSIDE_OCSF | {"_table"}
VOLATILE = frozenset({"source_object", "source_etag", "mapper_version"})
"""What a golden leaves out: it differs by place and by version."""


# -- files ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """One sample log of a source."""

    source: str
    path: Path

    @property
    def name(self) -> str:
        """What events call the object: `<source>/<file>`."""
        return f"{self.source}/{self.path.name}"

    @property
    def expected(self) -> Path:
        """The golden: what the log maps to, reviewed."""
        return self.path.with_name(f"{self.path.name.partition('.')[0]}.expected.json")


def cases_in(folder: Path, source: str) -> list[Case]:
    """The sample logs of a source in a folder, sorted by name."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.is_file() and _is_sample(path.name)]
    return [Case(source, path) for path in sorted(paths)]


def _is_sample(name: str) -> bool:
    return name != "SOURCE.md" and ".expected." not in name and not name.startswith(".")


def read(mapper: Mapper, file: BinaryIO, limits: Limits | None = None) -> list[Chunk]:
    """An object's chunks by the first reader that accepts its head.

    Raises:
        ReadError: None does.
    """
    blocks = Blocks(file, limits)
    reader = next((candidate for candidate in mapper.readers if candidate.accepts(blocks.head)), None)
    if reader is None:
        raise ReadError(f"it is in none of the formats: {', '.join(candidate.label for candidate in mapper.readers)}")
    return list(reader.read(blocks))


def named_rows(chunk: Chunk) -> list[Json]:
    """Each record of a chunk; columns of a text log under their names as mappers spell them, repeated ones numbered."""
    rows = []
    for record in chunk.records.to_pylist():
        row = {name: value for name, value in record.items() if name in ("_record", "_raw", "_envelope")}
        for position, column in enumerate(chunk.names):
            name, value = column.lower().replace("-", "_"), record[f"c{position}"]
            if not column and value == "":
                continue  # a blank at the end of a line
            if row.get(name) is not None:
                name = f"{name}#{position}"
            row[name] = value
        rows.append(row)
    return rows


def read_cases(mapper: Mapper, cases: Iterable[Case]) -> list[tuple[RawObject, Chunk]]:
    """Every chunk of some cases, each with the object it came from."""
    parts = []
    for case in cases:
        with case.path.open("rb") as file:
            parts += [(RawObject(case.name), chunk) for chunk in read(mapper, file)]
    return parts


# -- events -----------------------------------------------------------------------------------------------------------
def plain(events: pa.Table, target: pa.Schema) -> pa.Table:
    """The table's columns without dictionary encoding."""
    return pa.table([events[field.name].cast(field.type) for field in target], schema=target)


def as_events(events: pa.Table) -> list[tuple[Json, Json]]:
    """Each row as (OCSF JSON object, what the lake adds): nulls, empty objects and empty lists left out."""
    pairs = []
    for row in events.to_pylist(maps_as_pydicts="strict"):
        cleaned = _clean(row)
        lake = {name.lstrip("_"): value for name, value in cleaned.items() if name in LAKE_COLUMNS}
        pairs.append(({name: value for name, value in cleaned.items() if name not in LAKE_COLUMNS}, lake))
    return pairs


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


def rejects(mapped: Mapped) -> list[Json]:
    """Each reject without the names that only its object gives."""
    return [
        {"record": row["source_record"], "reason": row["reason"], "raw": row["raw"]}
        for row in mapped.rejects.to_pylist()
    ]


def pretty(value: Any) -> str:
    """JSON as goldens are written."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def goldens(mapped: Mapped, parts: Iterable[tuple[RawObject, Chunk]]) -> dict[str, Json]:
    """What each object maps to, as its golden says it: events, rejects and counted drops, by the object's name."""
    by_object: dict[str, Json] = {}

    def of(name: str) -> Json:
        return by_object.setdefault(name, {"events": [], "rejects": [], "dropped": Counter()})

    for raw_object, chunk in parts:
        of(raw_object.uri)["dropped"].update(chunk.dropped)
    for event, lake in as_events(mapped.events):
        item = {name: value for name, value in lake.items() if name not in VOLATILE}
        of(lake["source_object"])["events"].append({"event": event, "lake": item})
    for row, item in zip(mapped.rejects.to_pylist(), rejects(mapped), strict=True):
        of(row["source_object"])["rejects"].append(item)
    return {name: json.loads(pretty(value)) for name, value in by_object.items()}
