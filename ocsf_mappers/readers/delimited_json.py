"""A text log that arrives as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.readers.chunk import COLUMNS, Bad, Chunk, no_records, positions
from ocsf_mappers.readers.delimited import Delimited
from ocsf_mappers.readers.entries import Entries, EntryLines
from ocsf_mappers.readers.envelope import CARRIERS, CLOUDWATCH, around_text, opened, wrapped
from ocsf_mappers.readers.json_records import JsonRecords
from ocsf_mappers.readers.json_split import KEPT_BYTES
from ocsf_mappers.readers.lines import Lines
from ocsf_mappers.readers.streams import Blocks

PREFIX = "envelope."
"""Before the names of members that stood around a line."""

CELLS = 4 << 20
"""Records whose members differ are put into one table of this many values and gaps."""

EXACT = 1 << 53
"""Below it, a double stands for a whole number and no other."""

_Members: TypeAlias = Sequence[tuple[str, str | None]]

_BEGINNING = re.compile(rb'\s*+(?:\[\s*+(?:[\[{"\]]|\Z)|\{\s*+(?:["}]|\Z))')
_OBJECT_LINE = re.compile(rb'^[ \t]*+\{\s*+"', re.MULTILINE)


@dataclass(frozen=True)
class DelimitedInJson:
    """A text log as JSON: its lines inside documents of CloudWatch Logs and others, or members named like its columns.

    Args:
        text: How the lines themselves are read.
        entries: Records in JSON that are made to lines first, as entries of a journal.
    """

    text: Delimited | Lines
    entries: Entries | None = None
    label: str = "JSON lines (CloudWatch Logs, Firehose)"

    def accepts(self, head: bytes) -> bool:
        """JSON, perhaps with a broken line before it; a line of a text log never begins with a list or an object."""
        return b"{" in head and (_BEGINNING.match(head) is not None or _OBJECT_LINE.search(head) is not None)

    def of_object(self, uri: str) -> DelimitedInJson:
        """The reader of one object, with the columns that a setting has for it."""
        return replace(self, text=self.text.of_object(uri)) if isinstance(self.text, Delimited) else self

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered in the order they stand in the object."""
        for chunk in self._documents.read(blocks):
            if isinstance(self.text, Lines) and "_envelope" in chunk.records.column_names:
                chunk, lines = _carried_lines(chunk)
                yield from self._lines(self.text, lines)
            if self.entries is not None and len(chunk.records):
                entry_lines = self.entries.lines_of(chunk.records["_raw"])
                yield from _entries(self.entries, entry_lines, chunk.records.filter(pa.array(entry_lines.is_entry)))
                chunk = replace(chunk, records=chunk.records.filter(pa.array(~entry_lines.is_entry)))
            yield from self._columns(chunk)

    def document_of(self, blocks: Blocks, record: int) -> bytes | None:
        """The document that a record came in, see `JsonRecords.document_of`."""
        return self._documents.document_of(blocks, record)

    @property
    def _documents(self) -> JsonRecords:
        log_event = CLOUDWATCH if self.entries is None else replace(CLOUDWATCH, never=self.entries.marks)
        return JsonRecords((), (log_event,), texts=True)

    def _lines(self, text: Lines, lines: pa.Table) -> Iterator[Chunk]:
        """Lines that came in documents, with what stood around each in further columns."""
        numbers = lines["_record"].to_numpy()
        around = lines["_envelope"].combine_chunks()
        for chunk in text.of_texts(lines["_raw"].combine_chunks(), numbers):
            bad = [
                replace(item, text=_document(item.text, around[int(np.searchsorted(numbers, item.record))].as_py()))
                for item in chunk.bad
            ]
            if not len(chunk.records):
                yield replace(chunk, bad=bad)
                continue
            contexts = around.take(pa.array(np.searchsorted(numbers, chunk.records["_record"].to_numpy()))).to_pylist()
            names, columns = _beside_columns(contexts)
            table = chunk.records.set_column(
                chunk.records.column_names.index("_text"), "_text",
                pa.array(map(_document, chunk.records["_text"].to_pylist(), contexts), pa.string()),
            )  # fmt: skip
            for name, values in zip(positions(len(chunk.names) + len(names))[len(chunk.names) :], columns, strict=True):
                table = table.append_column(name, values)
            yield replace(chunk, records=table, bad=bad, names=(*chunk.names, *names))

    def former_text(self, raw: str) -> str:
        """A record's text as earlier versions kept it in quarantine: its values alone."""
        if isinstance(self.text, Lines):
            return raw  # read by no earlier version
        records = opened(raw.encode(), (CLOUDWATCH, *CARRIERS))
        try:
            fields = [
                *self._fields(records[0].text.decode(), is_carried=records[0].around is not None),
                *_beside(around_text(records[0].around)),
            ]
        except (_NoFieldsError, IndexError):
            return raw
        return " ".join(self.text.null if value is None else value for _, value in fields)

    def _columns(self, chunk: Chunk) -> Iterator[Chunk]:
        # This format is rare and small, so its records are read one by one.
        bad = list(chunk.bad)

        def read() -> Iterator[tuple[int, _Members, str]]:
            for number, raw, around in _rows(chunk.records):
                text = _document(raw, around)
                try:
                    yield number, [*self._fields(raw, is_carried=around is not None), *_beside(around)], text
                except _NoFieldsError as error:
                    bad.append(Bad(number, str(error), text))

        yield from _tables(read())
        yield Chunk(no_records(), bad, chunk.dropped)

    def _fields(self, raw: str, *, is_carried: bool) -> _Members:
        """Names and values of a record, the same name perhaps several times."""
        if not is_carried or raw.lstrip()[:1] in ("{", "["):
            return [(name, None if value == self.text.null else value) for name, value in _members(raw)]
        assert isinstance(self.text, Delimited)  # other lines are read all at once
        values = raw.split(self.text.sep)
        columns = self.text.unheaded(values)
        if columns is None:
            raise _NoFieldsError(self.text.misfit(len(values)))
        return list(zip(columns, (None if word == self.text.null else word for word in values), strict=True))


def _entries(entries: Entries, texts: EntryLines, records: pa.Table) -> Iterator[Chunk]:
    """Entries of a journal as their lines and the members beside these; only those that are records are taken apart."""
    numbers = records["_record"].to_numpy()
    whole = [(raw, around) for _, raw, around in _rows(records)]
    bad: list[Bad] = []
    dropped: Counter[str] = Counter()
    parsed: list[tuple[int, _Members, str]] = []
    for chunk in entries.lines.of_texts(texts.lines, numbers):
        dropped.update(chunk.dropped)
        bad += [
            replace(item, text=_document(*whole[int(np.searchsorted(numbers, item.record))])) for item in chunk.bad
        ]
        columns = [chunk.records[name].to_pylist() for name in positions(len(chunk.names))]
        for place, number in enumerate(chunk.records["_record"].to_pylist()):
            row = int(np.searchsorted(numbers, number))
            raw, around = whole[row]
            text = _document(raw, around)
            if not texts.has_text[row]:
                bad.append(Bad(number, entries.missing_text, text))
                continue
            try:
                members = _members(raw)
            except _NoFieldsError as error:
                bad.append(Bad(number, str(error), text))
                continue
            values = zip(chunk.names, (column[place] for column in columns), strict=True)
            fields = [*((name, value) for name, value in values if value is not None), *entries.beside(members)]
            parsed.append((number, [*fields, *_beside(around)], text))
    # by layout until here
    yield from _tables(sorted(parsed, key=lambda item: item[0]))
    yield Chunk(no_records(), bad, dropped)


def _tables(records: Iterable[tuple[int, _Members, str]]) -> Iterator[Chunk]:
    """Records as chunks, as many in each as there is room for.

    Args:
        records: Number, fields and text of each.
    """
    table = _Table()
    for number, fields, text in records:
        if table.is_full(fields):
            yield table.chunk()
            table = _Table()
        table.add(number, fields, text)
    yield table.chunk()


class _NoFieldsError(Exception):
    """A record has no fields to read; the message says why."""


class _Table:
    """Records with any members, as columns: one for each name, and one more for each time that a record repeats it."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._texts: list[str] = []
        self._columns: dict[tuple[str, int], list[str | None]] = {}

    def is_full(self, fields: _Members) -> bool:
        """Whether there is no room for another record with these fields."""
        width = len(self._columns.keys() | _places(fields))
        return bool(self._numbers) and (width > COLUMNS or width * (len(self._numbers) + 1) > CELLS)

    def add(self, number: int, fields: _Members, text: str) -> None:
        """Takes a record in."""
        before = len(self._numbers)
        self._numbers.append(number)
        self._texts.append(text)
        for place, (_, value) in zip(_places(fields), fields, strict=True):
            column = self._columns.setdefault(place, [])
            column.extend([None] * (before - len(column)))
            column.append(value)

    def chunk(self) -> Chunk:
        """The records so far."""
        size = len(self._numbers)
        columns = {"_record": pa.array(self._numbers, pa.int64()), "_text": pa.array(self._texts, pa.string())}
        for name, values in zip(positions(len(self._columns)), self._columns.values(), strict=True):
            columns[name] = pa.array([*values, *[None] * (size - len(values))], pa.string())
        return Chunk(pa.table(columns), names=tuple(name for name, _ in self._columns))


def _places(fields: _Members) -> dict[tuple[str, int], None]:
    """For each field its name, and how often the record had that name before; in order."""
    counts: Counter[str] = Counter()
    places: dict[tuple[str, int], None] = {}
    for name, _ in fields:
        places[name, counts[name]] = None
        counts[name] += 1
    return places


def _members(raw: str) -> _Members:
    """The members of a record in order, repeated ones too; numbers are their text.

    Raises:
        _NoFieldsError: It is no JSON object, or one without members or with too many.
    """
    try:
        members = json.loads(
            raw, object_pairs_hook=_Object, parse_int=_Number, parse_float=_whole, parse_constant=_refuse
        )
        if not isinstance(members, _Object):
            raise _NoFieldsError("not a JSON object")
        if not members:
            raise _NoFieldsError("the record has no members")
        if len(members) > COLUMNS:
            raise _NoFieldsError(f"the record has {len(members)} members, more than the {COLUMNS} that are read")
        return [(name, None if value is None else _text(value)) for name, value in members]
    except (ValueError, RecursionError) as error:
        raise _NoFieldsError(f"the record is not valid JSON: {error}") from error


class _Object(list[tuple[str, object]]):
    """The members of a JSON object in order."""


class _Number(str):
    """A number as it is written."""


def _whole(text: str) -> _Number:
    """A number with a fraction or an exponent; a whole one without, as ports and counts are read."""
    value = float(text)
    return _Number(int(value) if value.is_integer() and abs(value) < EXACT else text)


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no number")


def _text(value: object) -> str:
    """A value as the text of a column, of objects and lists their JSON."""
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    match value:
        case _Number():
            return str(value)
        case _Object():
            return "{" + ",".join(f"{_json(name)}:{_json(inner)}" for name, inner in value) + "}"
        case list():
            return "[" + ",".join(map(_json, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _rows(records: pa.Table) -> Iterator[tuple[int, str, str | None]]:
    """Number and text of each record, and what stood around it."""
    if "_raw" not in records.column_names:
        return iter(())
    around = records["_envelope"].to_pylist() if "_envelope" in records.column_names else [None] * len(records)
    return zip(records["_record"].to_pylist(), records["_raw"].to_pylist(), around, strict=True)


def _carried_lines(chunk: Chunk) -> tuple[Chunk, pa.Table]:
    """A chunk without the lines of text that came in documents, and these."""
    records = chunk.records
    bare = pc.starts_with(pc.utf8_ltrim_whitespace(records["_raw"]), "{")
    is_carried = pc.and_(pc.is_valid(records["_envelope"]), pc.invert(bare))
    return replace(chunk, records=records.filter(pc.invert(is_carried))), records.filter(is_carried)


def _beside_columns(around: Sequence[str]) -> tuple[list[str], list[pa.Array]]:
    """What stood around some records as further columns."""
    values_by_name: dict[str, list[str | None]] = {}
    for row, text in enumerate(around):
        for name, value in _beside(text):
            values_by_name.setdefault(name, [None] * len(around))[row] = value
    return list(values_by_name), [pa.array(values, pa.string()) for values in values_by_name.values()]


def _beside(around: str | None) -> _Members:
    """What stood around a record as further columns."""
    members = [] if around is None else _members(around)
    return [(f"{PREFIX}{name}", value) for name, value in members if value is not None]


def _document(raw: str, around: str | None) -> str:
    """A record with what stood around it, as quarantine keeps it."""
    return (raw if around is None else wrapped(raw, around, CARRIERS))[:KEPT_BYTES]
