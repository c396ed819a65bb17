"""Counts what records hold while they are mapped, see `compiler.statistics`: on whole columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.compiler import statistics
from ocsf_mappers.compiler.program import EVENT_MAP, Program
from ocsf_mappers.compiler.statistics import (
    BITS,
    KEPT_NAMES,
    OTHER,
    DriftKind,
    FirstSeen,
    SchemaDrift,
    Statistics,
    bounded,
    day_name,
    shortened,
)
from ocsf_mappers.readers.column import DENSE, Column
from ocsf_mappers.vocabulary.record import RecordShape

AROUND = ("envelope.",)
"""Before the names of members that a reader found around the record, in a document that passed it on."""

MOST_NAMES = 8 * KEPT_NAMES
"""So many names in `unmapped` are counted each; a log can have millions, of which Python would make as many objects."""

_DAY_MICROS = 86_400_000_000

Carried = Sequence[tuple[Column, np.ndarray[Any, Any]]]
"""For each member that an attribute carries, a column and, a boolean a value, where the record holds something."""


def count(
    program: Program,
    shape: RecordShape,
    columns: Mapping[str, Column],
    length: int,
    unmapped: pa.Array,
    objects: Sequence[str],
    carried: Carried | None = None,
) -> Statistics:
    """Counts the records of some events.

    Args:
        program: What gave them.
        shape: The declared record.
        columns: The results, one row an event.
        length: How many events.
        unmapped: The events' `unmapped`.
        objects: URI of each object that `_object` numbers.
        carried: Where members hold something; without it `Program.member_bits` says so.
    """
    if not length:
        return Statistics()
    rows = _Rows(program, columns, length, objects)
    statistics = Statistics()
    for (day, _), events in zip(rows.groups, rows.per_group(), strict=True):
        statistics.events[day] += events
    leftover = _count_unmapped(statistics, rows, shape, unmapped)
    totals_by_member = _carried(rows, carried) if carried is not None else _bits(rows)
    for (name, totals), carriers in zip(totals_by_member, program.carriers, strict=True):
        for (day, event_map), total, over in zip(rows.groups, totals, leftover.get(name, rows.nothing), strict=True):
            # What was left over after all stands in `unmapped` under the member's own name.
            if event_map in carriers and total > over:
                statistics.mapped[day, name] += total - over
    if "_failed" in columns:
        _count_failed(statistics, rows)
    _count_values(statistics, rows)
    return statistics


class _Rows:
    """The rows of a result in groups: of one day, and taken by one event map."""

    def __init__(self, program: Program, columns: Mapping[str, Column], length: int, objects: Sequence[str]) -> None:
        self.program = program
        self.columns = columns
        self.length = length
        self.objects = objects
        self.groups, self.codes = self._groups()
        self.nothing = [0] * len(self.groups)

    def column(self, name: str) -> pa.Array:
        """A result row by row."""
        return self.columns[name].array(self.length)

    def numbers(self, name: str) -> np.ndarray[Any, Any]:
        """Integers row by row, null as 0."""
        column = self.columns[name]
        values: np.ndarray[Any, Any] = np.asarray(pc.fill_null(column.values, 0))
        return np.repeat(values, self.length) if column.codes is None else values[column.codes]

    def _days(self) -> tuple[list[str], np.ndarray[Any, Any] | None]:
        """The days, and the number of each row's day; None when all rows are of one day."""
        days = self.numbers(self.program.times["time"]) // _DAY_MICROS
        if days.min() == days.max():
            return [day_name(int(days[0]))], None
        distinct, codes, sizes = np.unique(days, return_inverse=True, return_counts=True)
        names = [day_name(int(day)) for day in distinct]
        if len(names) > statistics.KEPT_DAYS:
            largest = sorted(np.argsort(-sizes, kind="stable")[: statistics.KEPT_DAYS - 1].tolist())
            place = np.full(len(names), len(largest))
            place[largest] = np.arange(len(largest))
            return [*(names[number] for number in largest), OTHER], place[codes]
        return names, codes

    def _groups(self) -> tuple[list[tuple[str, int]], np.ndarray[Any, Any] | None]:
        """Day and event map of each group, and the number of each row's group; None when all rows are of one."""
        days, codes = self._days()
        if len(self.program.class_captions) == 1:
            return [(day, 0) for day in days], codes
        maps = self.numbers(EVENT_MAP).astype(np.int64)
        count = len(self.program.class_captions)
        groups = [(day, number) for day in days for number in range(count)]
        return groups, maps if codes is None else codes * count + maps

    def per_group(self) -> list[int]:
        """How many rows each group has."""
        if self.codes is None:
            return [self.length]
        return [int(number) for number in np.bincount(self.codes, minlength=len(self.groups))]

    def day(self, row: int) -> str:
        return self.groups[0 if self.codes is None else int(self.codes[row])][0]

    def first_seen(self, records: int, row: int) -> FirstSeen:
        where, number = (_at(self.columns[name], row) for name in ("_object", "_record"))
        return FirstSeen(records, self.objects[where], number, self.day(row))


def _at(column: Column, row: int) -> Any:
    return column.values[0 if column.codes is None else int(column.codes[row])].as_py()


def _first(codes: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Where each of the numbers 0 to `size` stands first."""
    first = np.zeros(size, np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first


def _count_unmapped(
    statistics: Statistics, rows: _Rows, shape: RecordShape, unmapped: pa.Array
) -> dict[str, list[int]]:
    """Counts names in `unmapped`, and gives how often each stands there in each group."""
    offsets = np.asarray(unmapped.offsets)
    keys = unmapped.keys.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    if not len(keys):
        return {}
    coded = keys if pa.types.is_dictionary(keys.type) else keys.dictionary_encode()
    declared = _declared(shape)
    codes, distinct = _bounded(coded, list(declared))
    names = [*distinct, OTHER]
    totals = np.bincount(codes, minlength=len(names))
    kinds = _kinds(shape)
    undeclared = [number for number, name in enumerate(distinct) if totals[number] and kinds(name) is not None]
    if undeclared:
        first = _first(codes, len(names))
        for number in _largest(undeclared, totals):
            row = int(np.searchsorted(offsets - offsets[0], first[number], side="right")) - 1
            kind, name = kinds(names[number]), shortened(names[number])
            if kind is not None:
                statistics.drift.setdefault(SchemaDrift(kind, name), rows.first_seen(int(totals[number]), row))
    places = codes
    if rows.codes is not None:
        places = np.repeat(rows.codes, np.diff(offsets)).astype(np.int64) * len(names) + codes
    counts: dict[str, list[int]] = {}
    for place, times in _tallied(places, len(rows.groups) * len(names)):
        group, number = divmod(place, len(names))
        name = names[number]
        statistics.unmapped[rows.groups[group][0], shortened(name)] += times
        if name in declared:
            counts.setdefault(name, rows.nothing.copy())[group] = times
    statistics.unmapped = bounded(statistics.unmapped, MOST_NAMES)
    return counts


def _bounded(coded: pa.DictionaryArray, always: Sequence[str]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """The names that are counted each, and the place of each entry's name among them; behind them where it is another.

    Args:
        coded: The name of each entry.
        always: Names that are told apart; of the others the most frequent are.
    """
    names, codes = coded.dictionary, coded.indices.to_numpy(zero_copy_only=False)
    if len(names) <= MOST_NAMES:
        return codes, names.to_pylist()
    others = np.flatnonzero(~pc.is_in(names, pa.array(always, pa.string())).to_numpy(zero_copy_only=False))
    number = min(MOST_NAMES, len(others))
    totals = np.bincount(codes, minlength=len(names))[others]
    least = np.partition(totals, -number)[-number]
    # Of equally frequent ones the first by name, in whatever order records come.
    equal = others[totals == least]
    room = number - np.count_nonzero(totals > least)
    first = pc.select_k_unstable(names.take(pa.array(equal)), int(room), [("name", "ascending")]).to_numpy()
    beyond = np.zeros(len(names), bool)
    beyond[others[totals < least]] = True
    beyond[equal] = True
    beyond[equal[first]] = False
    places = np.where(beyond, len(names) - np.count_nonzero(beyond), np.cumsum(~beyond) - 1)
    return places[codes], names.filter(pa.array(~beyond)).to_pylist()


def _tallied(numbers: np.ndarray[Any, Any], size: int) -> Iterator[tuple[int, int]]:
    """Each of some numbers below `size` once, ascending, and how often it is there."""
    if size > DENSE * len(numbers):
        distinct, times = np.unique(numbers, return_counts=True)
    else:
        counts = np.bincount(numbers, minlength=size)
        distinct = np.flatnonzero(counts)
        times = counts[distinct]
    yield from zip(distinct.tolist(), times.tolist(), strict=True)


def _largest(numbers: Sequence[int], totals: np.ndarray[Any, Any]) -> list[int]:
    return sorted(numbers, key=lambda number: (-totals[number], number))[:KEPT_NAMES]


@cache
def _declared(shape: RecordShape) -> Mapping[str, bool]:
    return {".".join(path): is_json for path, is_json in shape.leaves.items()}


def _kinds(shape: RecordShape) -> Any:
    """A function: name in `unmapped` -> the kind of schema drift, None when it is declared."""
    declared = _declared(shape)
    opened = tuple(f"{name}." for name, is_json in declared.items() if is_json)

    def kind(name: str) -> DriftKind | None:
        if name in declared:
            return None
        return DriftKind.OPEN_MEMBER if name.startswith((*opened, *AROUND)) else DriftKind.MEMBER

    return kind


def _bits(rows: _Rows) -> Iterator[tuple[str, list[int]]]:
    """Name of each member that is carried, and in how many rows of each group it holds something."""
    for start, column in zip(range(0, len(rows.program.members), BITS), rows.program.member_bits, strict=True):
        names = rows.program.members[start : start + BITS]
        packed = np.ascontiguousarray(rows.numbers(column).astype("<i8")).view(np.uint8).reshape(-1, 8)
        flags = np.unpackbits(packed, axis=1, bitorder="little")
        parts = [flags] if rows.codes is None else [flags[rows.codes == number] for number in range(len(rows.groups))]
        totals = np.stack([part.sum(axis=0, dtype=np.int64) for part in parts])
        for place, name in enumerate(names):
            yield name, totals[:, place].tolist()


def _carried(rows: _Rows, carried: Carried) -> Iterator[tuple[str, list[int]]]:
    """The same of members as columns."""
    counted: dict[int, np.ndarray[Any, Any]] = {}
    for name, (column, flags) in zip(rows.program.members, carried, strict=True):
        size = len(flags)
        if column.codes is None:
            yield name, rows.per_group() if flags[0] else rows.nothing
        elif rows.codes is not None and size * len(rows.groups) > rows.length:
            yield name, np.bincount(rows.codes[flags[column.codes]], minlength=len(rows.groups)).tolist()
        else:
            if (key := id(column.codes)) not in counted:
                places = column.codes if rows.codes is None else rows.codes * size + column.codes
                counted[key] = np.bincount(places, minlength=size * len(rows.groups)).reshape(len(rows.groups), size)
            yield name, (counted[key] @ flags.astype(np.int64)).tolist()


def _count_failed(statistics: Statistics, rows: _Rows) -> None:
    failed = rows.column("_failed")
    if failed.null_count == len(failed):
        return
    failed_rows = np.flatnonzero(failed.is_valid().to_numpy(zero_copy_only=False))
    for row, names in zip(failed_rows, failed.drop_null().to_pylist(), strict=True):
        for name in names:
            statistics.failed[rows.day(int(row)), name] += 1


def _count_values(statistics: Statistics, rows: _Rows) -> None:
    for name, column in rows.program.unlisted.items():
        if rows.columns[column].values.null_count < len(rows.columns[column].values):
            _note(statistics, rows, DriftKind.VALUE, name, rows.column(column))
    for path, caption in rows.program.captions.items():
        if caption.other is None or not any(caption.passes_text):
            continue
        if rows.columns[caption.other].values.null_count == len(rows.columns[caption.other].values):
            continue
        texts = rows.column(caption.other)
        if texts.null_count < len(texts) and not all(caption.passes_text):
            passes_text = pa.array(np.array(caption.passes_text, bool)[rows.numbers(EVENT_MAP)])
            texts = pc.if_else(passes_text, texts, pa.scalar(None, pa.string()))
        _note(statistics, rows, DriftKind.ENUM_TEXT, path, texts)


def _note(statistics: Statistics, rows: _Rows, kind: DriftKind, name: str, texts: pa.Array) -> None:
    if texts.null_count == len(texts):
        return
    row_numbers = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    coded = texts.drop_null().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    totals, first = np.bincount(codes, minlength=len(coded.dictionary)), _first(codes, len(coded.dictionary))
    for number in _largest(np.flatnonzero(totals).tolist(), totals):
        text = shortened(coded.dictionary[number].as_py())
        row = int(row_numbers[first[number]])
        statistics.drift.setdefault(SchemaDrift(kind, name, text), rows.first_seen(int(totals[number]), row))
