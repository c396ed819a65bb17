"""Connections to a lake that show what rules look at, and no more."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb

from ocsf_lake.config import Settings
from ocsf_lake.detections import statements
from ocsf_lake.detections.asked import Asked
from ocsf_lake.detections.statements import Span
from ocsf_lake.lake import Lake
from ocsf_lake.ledger.files import Chosen, LakeFile
from ocsf_lake.query import query, shown


@dataclass
class Connected:
    """A lake that rules are asked of.

    Args:
        connection: The connection.
        filled: The tables that have files there.
    """

    connection: duckdb.DuckDBPyConnection
    filled: set[str] = field(default_factory=set)


@contextmanager
def connected(
    settings: Settings, rules: Sequence[Asked], span: Span, files: shown.Chosen | None = None,
    tables: Collection[str] | None = None,
) -> Iterator[Connected]:  # fmt: skip
    """A connection that shows what rules look at, and no more.

    Args:
        settings: The lake.
        rules: The rules.
        span: Events of which time.
        files: Which files; None for all of the lake.
        tables: The tables that have some; None where that is not known.
    """
    relations = {relation.source: relation for rule in rules for relation in rule.relations}.values()
    needed = {table for one in relations for table in (one.tables if tables is None else one.needed(tables))}
    widest = max((rule.counted.window_ms for rule in rules if rule.counted), default=0)
    reading = statements.reading(needed, span.widened(widest, 0)) or ["SELECT 1"]
    filled: set[str] = set()

    def noted(lake: Lake, parts: Mapping[str, Chosen | None]) -> dict[str, list[LakeFile]]:
        chosen = lake.files.of(parts) if files is None else files(lake, parts)
        filled.update(table for table, some in chosen.items() if some)
        return chosen

    with query.connected(settings, *reading, files=noted, preserve_insertion_order=False) as connection:
        yield Connected(connection, filled)
