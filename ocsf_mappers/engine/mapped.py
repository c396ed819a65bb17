"""What became of records, and how several such results are one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ocsf_mappers.compiler import statistics
from ocsf_mappers.compiler.statistics import Statistics
from ocsf_mappers.readers.column import alike

REJECTS = pa.schema(
    [
        pa.field("source_object", pa.string()),
        pa.field("source_etag", pa.string()),
        pa.field("source_record", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.string()),
    ]
)
"""Records that became no event: where they stood, why, and their text."""


@dataclass(frozen=True)
class Mapped:
    """What became of some records: `read` = rows of `events` + rows of `rejects` + `dropped`.

    Args:
        events: The lake table's columns and `_table`, its name, one row per event, in the order that `Engine.map` was
            asked for.
        rejects: Records that became no event, see `REJECTS`.
        dropped: Lines that are no records, per reason.
        failed_casts: Values kept as text in `unmapped`, per OCSF path.
        statistics: What the records held.
        fallbacks: Name of an error -> records that were mapped row by row because it ended the faster way. Their events
            are the same; it is a mistake of ours that costs time, or records that take too much memory together.
    """

    events: pa.Table
    rejects: pa.Table
    dropped: Counter[str] = field(default_factory=Counter)
    failed_casts: Counter[str] = field(default_factory=Counter)
    statistics: Statistics = field(default_factory=Statistics)
    fallbacks: Counter[str] = field(default_factory=Counter)

    @property
    def read(self) -> int:
        """How many records and lines this accounts for."""
        return len(self.events) + len(self.rejects) + self.dropped.total()


def joined(parts: Sequence[Mapped]) -> Mapped:
    """Several results as one, in order."""
    return Mapped(
        stacked([part.events for part in parts]),
        pa.concat_tables([part.rejects for part in parts]),
        sum((part.dropped for part in parts), Counter()),
        failed_casts=sum((part.failed_casts for part in parts), Counter()),
        statistics=statistics.merged(part.statistics for part in parts),
        fallbacks=sum((part.fallbacks for part in parts), Counter()),
    )


def stacked(parts: Sequence[pa.Table]) -> pa.Table:
    """Tables of events one after the other; a text that is a dictionary in one of them is one in all."""
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if len(parts) == 1:
        return parts[0]
    target = pa.schema(
        [pa.field(name, alike([part.schema.field(name).type for part in parts])) for name in parts[0].column_names]
    )
    parts = [part if part.schema.equals(target) else part.cast(target) for part in parts]
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def in_order(events: pa.Table, places: Mapping[str, int]) -> pa.Table:
    """Events in the order of their objects and records.

    Args:
        events: The events.
        places: The place of each object.
    """
    if not len(events):
        return events
    uris = events["source_object"].combine_chunks()
    ranks = np.array([places[uri] for uri in uris.dictionary.to_pylist()])[uris.indices.to_numpy()]
    order = np.lexsort((events["source_record"].to_numpy(), ranks))
    return events if (np.diff(order) == 1).all() else events.take(pa.array(order))
