"""Records of a text log as a query takes them: declared columns under names of ours, the others beside the query.

What an object calls its columns decides which of them are declared and is otherwise data: a key of `unmapped`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.readers.chunk import Chunk

UNDECLARED = "_undeclared"
"""Column with what undeclared columns hold: entries of `unmapped`, null where there are none. No query reads it."""

ENTRIES = pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.string())]))


KEPT_CHARACTERS = 10_000
"""Layouts of names that are together no longer are remembered; a name can have megabytes."""

_DASHED = re.compile(r"\w+(-\w+)+", re.ASCII)


def column_name(declared: str) -> str:
    """The column of a query that holds a declared column; no name that a query makes itself begins so."""
    return f"c_{declared}"


@dataclass(frozen=True)
class Entry:
    """A column whose values go into `unmapped`.

    Args:
        key: The key.
        at: Positions of the columns with this name; the first that holds something is the value.
        unless: Positions of columns of the same name that were looked at before: equal values count once.
    """

    key: str
    at: tuple[int, ...]
    unless: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """Which column is which.

    Args:
        declared: Declared name -> positions of the columns with this name; the first that holds something is the value.
        others: All that the record type does not declare.
    """

    declared: dict[str, tuple[int, ...]]
    others: tuple[Entry, ...]


def layout(names: tuple[str, ...], declared: frozenset[str]) -> Layout:
    """Tells declared columns from others. AWS writes `-` in text and `_` in Parquet: they are the same.

    A column that is spelled as declared comes before one that differs by case, which is declared only where there is no
    other. Columns with the same name are one, as far as their values agree.

    Args:
        names: What the object calls its columns.
        declared: The record type's columns.
    """
    return (_layout if sum(map(len, names)) < KEPT_CHARACTERS else _layout.__wrapped__)(names, declared)


@lru_cache(maxsize=256)
def _layout(names: tuple[str, ...], declared: frozenset[str]) -> Layout:
    same: dict[str, tuple[int, ...]] = {}
    for position, name in enumerate(names):
        key = spelled(name) or f"column_{position + 1}"
        same[key] = (*same.get(key, ()), position)
    places_by_name = {name: same.pop(name) for name in list(same) if name in declared}
    for name in list(same):
        if (lower := name.lower()) in declared and lower not in places_by_name:
            places_by_name[lower] = same.pop(name)
    others = [Entry(key, places) for key, places in same.items()]
    keys = {*declared, *same}
    for key, places in (places_by_name | same).items():
        for number, place in enumerate(places[1:], start=1):
            keys.add(another := numbered(key, keys))
            others.append(Entry(another, (place,), places[:number]))
    return Layout(places_by_name, tuple(others))


def spelled(name: str) -> str:
    """The name as Parquet has it, with `_` where text has `-`; what is no such name stays as it is."""
    return name.replace("-", "_") if _DASHED.fullmatch(name) else name


def numbered(key: str, used: Set[str]) -> str:
    """A key for another value of the same name: `key_2`, or the next number that is free."""
    return next(other for count in range(2, len(used) + 3) if (other := f"{key}_{count}") not in used)


def arranged(chunk: Chunk, declared: frozenset[str]) -> pa.Table:
    """A chunk's `_record`, its declared columns under names of ours, and `_undeclared`."""
    plan = layout(chunk.names, declared)
    columns = {"_record": chunk.records["_record"]}
    for name in sorted(plan.declared):
        columns[column_name(name)] = _first(chunk, plan.declared[name])
    columns[UNDECLARED] = _entries(chunk, plan.others) if plan.others else pa.nulls(len(chunk.records), ENTRIES)
    return pa.table(columns)


def completed(records: pa.Table, declared: frozenset[str]) -> pa.Table:
    """Arranged records with every declared column; those that were missing are null."""
    for name in sorted(map(column_name, declared)):
        if name not in records.column_names:
            records = records.append_column(name, pa.nulls(len(records), pa.string()))
    return records.select(["_record", *sorted(map(column_name, declared)), UNDECLARED])


def texts(records: pa.Table) -> pa.ChunkedArray | pa.Array:
    """Each record of a chunk as it was written: a line of its values, `-` for those that are missing."""
    if "_text" in records.column_names:
        return records["_text"]
    values = [pc.fill_null(records[name], "-") for name in records.column_names if name != "_record"]
    return pc.binary_join_element_wise(*values, " ") if values else pa.repeat(pa.scalar(""), len(records))


def _first(chunk: Chunk, places: Sequence[int]) -> pa.ChunkedArray:
    columns = [chunk.records[f"c{place}"] for place in places]
    return pc.coalesce(*columns) if len(columns) > 1 else columns[0]


def _entries(chunk: Chunk, others: Sequence[Entry]) -> pa.Array:
    rows, numbers, values = [], [], []
    for number, entry in enumerate(others):
        column = _first(chunk, entry.at)
        if not any(map(chunk.names.__getitem__, entry.at)):
            column = _unless(column, pc.equal(column, ""))  # a blank at the end of a line is no value
        for place in entry.unless:
            column = _unless(column, pc.equal(column, chunk.records[f"c{place}"]))
        if entry.unless:
            column = _unless(column, pc.equal(column, _first(chunk, entry.unless + entry.at)))
        if column.null_count == len(column):
            continue
        filled = np.flatnonzero(column.is_valid().to_numpy())
        rows.append(filled)
        numbers.append(np.full(len(filled), number, np.int32))
        values.append(column.drop_null().combine_chunks())
    if not rows:
        return pa.nulls(len(chunk.records), ENTRIES)
    joined = np.concatenate(rows)
    order = np.argsort(joined, kind="stable")
    counts = np.bincount(joined, minlength=len(chunk.records))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    keys = pa.array([entry.key for entry in others]).take(pa.array(np.concatenate(numbers)[order]))
    entry_texts = pa.concat_arrays(values).take(pa.array(order))
    items = pa.StructArray.from_arrays([keys, entry_texts], fields=list(ENTRIES.value_type))
    return pa.ListArray.from_arrays(offsets, items, type=ENTRIES, mask=pa.array(counts == 0))


def _unless(column: pa.ChunkedArray, test: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.fill_null(test, False), pa.scalar(None, pa.string()), column)
