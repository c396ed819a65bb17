"""Counts of what a part of a batch became, made on whole columns."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from ocsf_mappers.compiler.statistics import OTHER, Statistics, day_name

KEPT_KEYS = 1_000
"""Of a batch's keys in `unmapped`, the most frequent are kept; logs can invent keys without end."""


def days(events: pa.Table) -> Counter[str]:
    """Events by day, as the statistics have them."""
    days = events["time"].cast(pa.timestamp("ms")).cast(pa.date32()).cast(pa.int32()).to_pylist()
    return Counter(day_name(day) for day in days)


def value_counts(column: pa.ChunkedArray) -> Counter[str]:
    """How often each value stands in a column."""
    counts: Counter[str] = Counter()
    for chunk in column.chunks:
        # Counted by index: a dictionary may hold a value twice, and decoding it costs more than counting.
        plain = not pa.types.is_dictionary(chunk.type)
        counted = (chunk if plain else chunk.indices).value_counts()
        values = counted.field(0) if plain else chunk.dictionary.take(counted.field(0))
        for value, number in zip(values.to_pylist(), counted.field(1).to_pylist(), strict=True):
            counts[value] += number
    return counts


def unmapped_keys(statistics: Statistics) -> dict[str, int]:
    """Events of all days per key of `unmapped`."""
    totals: Counter[str] = Counter()
    for (_, name), number in statistics.unmapped.items():
        totals[name] += number
    if len(totals) > KEPT_KEYS:
        top = Counter(dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:KEPT_KEYS]))
        top[OTHER] += totals.total() - top.total()
        totals = top
    return dict(sorted(totals.items()))
