"""What records held: members carried over and left over, and what no release knows yet, counted while they are mapped.

Counted on whole columns, by day of the event. A log can invent names and days without end, so only so many are told
apart; what lies beyond is counted under `OTHER`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.compiler.program import EVENT_MAP, Program
from ocsf_mappers.vocabulary.record import RecordShape

OTHER = "(other)"
"""Stands for names, texts and days beyond those that are told apart."""
UNKNOWN_DAY = "unknown"

KEPT_NAMES = 1_000
KEPT_DAYS = 100
KEPT_CHARACTERS = 200

BITS = 62
"""Members in one column of `Program.census`: they stay clear of the sign."""

AROUND = ("envelope.",)
"""Before the names of members that a reader found around the record, in a document that passed it on."""

_DAY_MICROS = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).days


class Novelty(StrEnum):
    """Why something is news.

    member: a name that the mapper's record type does not declare. open_member: a name inside a member whose content
    differs by API, or around the record. value: a text that is not among those a mapper lists for a member (a new
    version of the format). enum_text: a text that an OCSF enum does not know, so that it became 99, Other.
    """

    MEMBER = "member"
    OPEN_MEMBER = "open_member"
    VALUE = "value"
    ENUM_TEXT = "enum_text"


@dataclass(frozen=True, order=True)
class News:
    """One thing that may be new.

    Args:
        kind: Why.
        name: Source path of a member or value, OCSF path of an enum text.
        text: The value or text; empty for members.
    """

    kind: Novelty
    name: str
    text: str = ""


@dataclass
class Sighting:
    """Where something stands.

    Args:
        records: In so many records.
        object: URI of the first one's object.
        record: Number of the first one.
        day: Day of the first one's event, `YYYYMMDD`.
    """

    records: int
    object: str
    record: int
    day: str


@dataclass
class Census:
    """What the records of some events held, by day of the event, `YYYYMMDD`.

    Args:
        events: Events of a day.
        mapped: Records of a day in which a declared member had a value that an attribute carries.
        unmapped: Events of a day with this name in `unmapped`.
        failed: Events of a day in which this attribute's text could not be read as its type.
        news: What may be new.
    """

    events: Counter[str] = field(default_factory=Counter)
    mapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    unmapped: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    news: dict[News, Sighting] = field(default_factory=dict)

    def add(self, other: Census) -> None:
        """Counts later records as well."""
        self.events.update(other.events)
        self.mapped.update(other.mapped)
        self.unmapped.update(other.unmapped)
        self.failed.update(other.failed)
        for news, sighting in other.news.items():
            if (known := self.news.get(news)) is None:
                self.news[news] = Sighting(**vars(sighting))
            else:
                known.records += sighting.records
        self._bound()

    def _bound(self) -> None:
        for name in ("mapped", "unmapped", "failed"):
            counts: Counter[tuple[str, str]] = getattr(self, name)
            if len(counts) > 16 * KEPT_NAMES:
                setattr(self, name, bounded(counts, 8 * KEPT_NAMES))
        if len(self.news) > 4 * KEPT_NAMES:
            self.news = dict(sorted(self.news.items(), key=_importance)[: 2 * KEPT_NAMES])


def merged(parts: Iterable[Census]) -> Census:
    """Several counts as one, in order."""
    total = Census()
    for part in parts:
        total.add(part)
    return total


def bounded(counts: Counter[tuple[str, str]], kept: int) -> Counter[tuple[str, str]]:
    """The largest counts; the rest of a day is together under `OTHER`."""
    if len(counts) <= kept:
        return counts
    largest = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:kept])
    found = Counter(largest)
    for (day, name), number in counts.items():
        if (day, name) not in largest:
            found[day, OTHER] += number
    return found


def _importance(item: tuple[News, Sighting]) -> tuple[bool, int, News]:
    news, sighting = item
    return news.kind is Novelty.OPEN_MEMBER, -sighting.records, news


def shortened(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= KEPT_CHARACTERS else f"{text[: KEPT_CHARACTERS - 1]}…"


def taken(shape: RecordShape, used: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The declared members that some event map carries over, in the order of the declaration."""
    wanted = set(used)
    return [path for path in shape.leaves if path in wanted]


def bits(tests: Sequence[str]) -> Iterator[str]:
    """SQL for columns whose bits say which of the tests hold; a test is not null where it holds."""
    for start in range(0, len(tests), BITS):
        places = enumerate(tests[start : start + BITS])
        held = [f"CASE WHEN {test} THEN {1 << place} ELSE 0 END" for place, test in places]
        yield f"({' + '.join(held)})::BIGINT"


def count(program: Program, shape: RecordShape, found: pa.Table, unmapped: pa.Array, objects: Sequence[str]) -> Census:
    """Counts the records of some events.

    Args:
        program: What gave them.
        shape: The declared record.
        found: The query's result, one row an event.
        unmapped: The events' `unmapped`.
        objects: URI of each object that `_object` numbers.
    """
    if not len(found):
        return Census()
    rows = _Rows(program, found, objects)
    census = Census(events=Counter(dict(zip(rows.days, rows.per_day(), strict=True))))
    _count_unmapped(census, rows, shape, unmapped)
    _count_mapped(census, rows)
    _count_failed(census, rows)
    _count_values(census, rows)
    return census


class _Rows:
    """The rows of a result, with the day of each."""

    def __init__(self, program: Program, found: pa.Table, objects: Sequence[str]) -> None:
        self.program = program
        self.found = found
        self.objects = objects
        self.days, self.codes = self._days()

    def column(self, name: str) -> pa.Array:
        chunked = self.found[name]
        return chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()

    def numbers(self, name: str) -> np.ndarray[Any, Any]:
        """A column of integers, null as 0."""
        return np.asarray(pc.fill_null(self.column(name), 0))

    def _days(self) -> tuple[list[str], np.ndarray[Any, Any] | None]:
        """The days, and the number of each row's day; None when all rows are of one day."""
        days = self.numbers(self.program.times["time"]) // _DAY_MICROS
        if days.min() == days.max():
            return [day_name(int(days[0]))], None
        distinct, codes, sizes = np.unique(days, return_inverse=True, return_counts=True)
        names = [day_name(int(day)) for day in distinct]
        if len(names) > KEPT_DAYS:
            kept = sorted(np.argsort(-sizes, kind="stable")[: KEPT_DAYS - 1].tolist())
            place = np.full(len(names), len(kept))
            place[kept] = np.arange(len(kept))
            return [*(names[number] for number in kept), OTHER], place[codes]
        return names, codes

    def per_day(self) -> list[int]:
        """How many rows each day has."""
        if self.codes is None:
            return [len(self.found)]
        return [int(number) for number in np.bincount(self.codes, minlength=len(self.days))]

    def day(self, row: int) -> str:
        return self.days[0] if self.codes is None else self.days[int(self.codes[row])]

    def sighting(self, records: int, row: int) -> Sighting:
        where, number = self.found["_object"][row].as_py(), self.found["_record"][row].as_py()
        return Sighting(records, self.objects[where], number, self.day(row))


def day_name(day: int) -> str:
    """`YYYYMMDD` of a number of days since 1970-01-01."""
    return (_EPOCH + timedelta(days=day)).strftime("%Y%m%d") if 0 <= day <= _LAST_DAY else UNKNOWN_DAY


def _first(codes: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Where each of the numbers 0 to `size` stands first."""
    first = np.zeros(size, np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first


def _count_unmapped(census: Census, rows: _Rows, shape: RecordShape, unmapped: pa.Array) -> None:
    offsets = np.asarray(unmapped.offsets)
    keys = unmapped.keys.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    if not len(keys):
        return
    coded = keys if pa.types.is_dictionary(keys.type) else keys.dictionary_encode()
    codes, names = coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()
    totals = np.bincount(codes, minlength=len(names))
    kinds = _kinds(shape)
    undeclared = [number for number, name in enumerate(names) if totals[number] and kinds(name) is not None]
    if undeclared:
        first = _first(codes, len(names))
        for number in _largest(undeclared, totals):
            row = int(np.searchsorted(offsets - offsets[0], first[number], side="right")) - 1
            kind, name = kinds(names[number]), shortened(names[number])
            if kind is not None:
                census.news.setdefault(News(kind, name), rows.sighting(int(totals[number]), row))
    if rows.codes is None:
        by_day = totals[np.newaxis, :]
    else:
        days = np.repeat(rows.codes, np.diff(offsets))
        flat = np.bincount(days * len(names) + codes, minlength=len(rows.days) * len(names))
        by_day = flat.reshape(len(rows.days), len(names))
    for day, counts in zip(rows.days, by_day, strict=True):
        for number in np.flatnonzero(counts).tolist():
            census.unmapped[day, shortened(names[number])] += int(counts[number])
    census.unmapped = bounded(census.unmapped, 8 * KEPT_NAMES)


def _largest(numbers: Sequence[int], totals: np.ndarray[Any, Any]) -> list[int]:
    return sorted(numbers, key=lambda number: (-totals[number], number))[:KEPT_NAMES]


@cache
def _declared(shape: RecordShape) -> Mapping[str, bool]:
    return {".".join(path): is_json for path, is_json in shape.leaves.items()}


def _kinds(shape: RecordShape) -> Any:
    """A function: name in `unmapped` -> why it is news, None when it is declared."""
    declared = _declared(shape)
    opened = tuple(f"{name}." for name, is_json in declared.items() if is_json)

    def kind(name: str) -> Novelty | None:
        if name in declared:
            return None
        return Novelty.OPEN_MEMBER if name.startswith((*opened, *AROUND)) else Novelty.MEMBER

    return kind


def _count_mapped(census: Census, rows: _Rows) -> None:
    for start, column in zip(range(0, len(rows.program.members), BITS), rows.program.census, strict=True):
        names = rows.program.members[start : start + BITS]
        packed = np.ascontiguousarray(rows.numbers(column).astype("<i8")).view(np.uint8).reshape(-1, 8)
        held = np.unpackbits(packed, axis=1, bitorder="little")
        for number, day in enumerate(rows.days):
            of_day = held if rows.codes is None else held[rows.codes == number]
            totals = of_day.sum(axis=0, dtype=np.int64)
            for name, total in zip(names, totals[: len(names)], strict=True):
                # What was left over after all stands in `unmapped` under the member's own name.
                if (carried := int(total) - census.unmapped[day, name]) > 0:
                    census.mapped[day, name] = carried


def _count_failed(census: Census, rows: _Rows) -> None:
    failed = rows.column("_failed")
    if failed.null_count == len(failed):
        return
    there = np.flatnonzero(failed.is_valid().to_numpy(zero_copy_only=False))
    for row, names in zip(there, failed.drop_null().to_pylist(), strict=True):
        for name in names:
            census.failed[rows.day(int(row)), name] += 1


def _count_values(census: Census, rows: _Rows) -> None:
    for name, column in rows.program.unlisted.items():
        _note(census, rows, Novelty.VALUE, name, rows.column(column))
    for path, caption in rows.program.captions.items():
        if caption.other is None or not any(caption.telling):
            continue
        texts = rows.column(caption.other)
        if texts.null_count < len(texts) and not all(caption.telling):
            telling = pa.array(np.array(caption.telling, bool)[rows.numbers(EVENT_MAP)])
            texts = pc.if_else(telling, texts, pa.scalar(None, pa.string()))
        _note(census, rows, Novelty.ENUM_TEXT, path, texts)


def _note(census: Census, rows: _Rows, kind: Novelty, name: str, texts: pa.Array) -> None:
    if texts.null_count == len(texts):
        return
    there = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    coded = texts.drop_null().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    totals, first = np.bincount(codes), _first(codes, len(coded.dictionary))
    for number in _largest(range(len(totals)), totals):
        text = shortened(coded.dictionary[number].as_py())
        row = int(there[first[number]])
        census.news.setdefault(News(kind, name, text), rows.sighting(int(totals[number]), row))
