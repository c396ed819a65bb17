"""The table `coverage` of SQL: every hour that a lake knows of, from each log's first day to now.

It is no table of the ledger: its rows are made when a query reads them, log after log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ocsf_lake.config import Settings
from ocsf_lake.upkeep.coverage import ALL, Asked, Covered, covered
from ocsf_lake.upkeep.streams import hour_of

NAME = "coverage"
SCHEMA = pa.schema(
    {
        "source": pa.string(), "account": pa.string(), "region": pa.string(), "hour": pa.timestamp("s", "UTC"),
        "state": pa.string(), "objects": pa.int64(), "precision": pa.string(), "reason": pa.string(),
        "changes": pa.list_(pa.string()),
    }
)  # fmt: skip
_NAMED = re.compile(rf"\b(?:{NAME}|show)\b", re.IGNORECASE)
_HOUR_SECONDS = 3_600


class Rows:
    """The table, made anew each time somebody reads it; memory holds the rows of one log.

    Args:
        settings: The lake.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.schema = SCHEMA

    def __arrow_c_schema__(self) -> object:
        """Arrow's protocol: the columns."""
        return SCHEMA.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Arrow's protocol: the rows, from the first one on."""
        return pa.RecordBatchReader.from_batches(SCHEMA, self._batches()).__arrow_c_stream__(requested_schema)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        _, streams = covered(self._settings, Asked(), datetime.now(UTC), every_day=True)
        return map(_batch, streams)


def with_coverage(settings: Settings, tables: Mapping[str, Any], *statements: str) -> Mapping[str, Any]:
    """Tables of a query's caller, and this one where a statement may read it and no other one has its name."""
    if NAME in {name.lower() for name in tables} or not any(map(_NAMED.search, statements)):
        return tables
    return {**tables, NAME: Rows(settings)}


def _batch(stream: Covered) -> pa.RecordBatch:
    number = len(stream.codes)
    calls: dict[int, list[str]] = {}
    for change in stream.changes:
        calls.setdefault(hour_of(change.time), []).append(f"{change.effect}: {change}")
    states = pa.DictionaryArray.from_arrays(pa.array(stream.codes, pa.int8()), pa.array(map(str, ALL)))
    columns = [
        *(pa.repeat(value, number) for value in (stream.name.source, stream.name.account, stream.name.region)),
        pa.array([hour * _HOUR_SECONDS for hour in stream.hours], SCHEMA.field("hour").type),
        states.cast(pa.string()),
        pa.array([stream.objects[hour] for hour in stream.hours], pa.int64()),
        pa.repeat("day" if stream.by_day else "hour", number),
        pa.array(map(stream.reasons.get, stream.hours), pa.string()),
        pa.array([calls.get(hour, []) for hour in stream.hours], SCHEMA.field("changes").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
