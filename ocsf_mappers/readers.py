"""An object's bytes as batches of raw records, with their numbers in the object.

A reader never stops at a bad record: what it cannot read travels beside the records, with the reason and the text.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ocsf_mappers.errors import ReadError
from ocsf_mappers.json_split import KEPT_BYTES, RECORD_BYTES, TOO_LONG, Piece, Windows, split, text_array
from ocsf_mappers.streams import Blocks

WINDOW_BYTES = 16 << 20
"""An object is held in memory up to this size and read window by window beyond it."""

COLUMN_SETS = 64
"""Of one object (of JSON: of one window), lines or records may come with this many different sets of columns. Each set
is a query of its own; what comes with more of them is bad."""


_OBJECT = re.compile(rb'\{\s*+"')
_OBJECT_LINE = re.compile(rb'^[ \t]*+\{\s*+"', re.MULTILINE)


@dataclass(frozen=True)
class Bad:
    """A record that could not be read: its number in the object (from 1), why, and its text."""

    record: int
    reason: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Some of an object's records.

    `records` has `_record` (int64, the number in the object) and either `_raw` (JSON text, with `_envelope` where the
    record came inside another document) or one text column per field. `dropped` counts lines that are no records.
    """

    records: pa.Table
    bad: Sequence[Bad] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """How many records and lines this chunk accounts for."""
        return len(self.records) + len(self.bad) + sum(self.dropped.values())


class Reader(Protocol):
    """One delivery format."""

    @property
    def label(self) -> str:
        """What the format is called in documentation."""

    def accepts(self, head: bytes) -> bool:
        """Whether an object that begins like this is in the format."""

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """The object's records; the last chunk says what was damaged."""


def bad_text(raw: bytes) -> str:
    r"""Bytes as text for quarantine: not more than a megabyte, what is not UTF-8 escaped as \xNN."""
    return raw[:KEPT_BYTES].decode("utf-8", errors="backslashreplace")


def _failure(error: ReadError, records_before: int) -> Chunk:
    empty = pa.table({"_record": pa.array([], pa.int64())})
    return Chunk(empty, [Bad(records_before + 1, str(error), "")])


@dataclass(frozen=True)
class Envelope:
    """A document around a record, as other AWS services pass records on.

    Args:
        marker: Member that tells the envelope from a bare record.
        member: Member that holds the record: an object, or JSON text in a string.
        drops: Beginning of a text in the record's place -> why such an envelope is a counted drop.
    """

    marker: str
    member: str
    drops: Mapping[str, str] = field(default_factory=dict, hash=False)

    def drop_reason(self, text: str) -> str | None:
        """Why an envelope that holds this text is a counted drop, or None."""
        return next((reason for beginning, reason in self.drops.items() if text.startswith(beginning)), None)


CONTROL_DROP = "CloudWatch Logs control message"
CONTROL_TEXT = "CWL CONTROL MESSAGE"
CLOUDWATCH = Envelope("message", "message", {CONTROL_TEXT: CONTROL_DROP})
"""A CloudWatch Logs event with a JSON record as its message; subscriptions deliver lists of them in `logEvents`."""


@dataclass(frozen=True)
class JsonRecords:
    """JSON: `{"Records": [...]}`, an array, JSON lines, one document, or records inside envelopes.

    Args:
        lists: Names of the members that hold lists of records.
        envelopes: Documents that a record may come in.
        pascal_case: Member that some deliveries write with a capital, such as `SchemaVersion`; the names of all members
            of such a record, at any depth, then lose the capital they begin with. Names that hold other signs than
            letters, digits and `_` stay as they are: they are data, not names.
    """

    lists: tuple[str, ...] = ("Records",)
    envelopes: tuple[Envelope, ...] = ()
    pascal_case: str | None = None
    label: str = "JSON"

    def accepts(self, head: bytes) -> bool:
        """JSON, perhaps with something broken before it; an empty object has no records in any format."""
        return head.lstrip()[:1] in (b"{", b"[", b"") or _OBJECT.search(head) is not None

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of JSON text."""
        number = 0
        for piece, error in self._pieces(blocks):
            for chunk in self._chunks(piece, number):
                number += chunk.read
                yield chunk
            if error is not None:
                yield _failure(error, number)

    def _pieces(self, blocks: Blocks) -> Iterator[tuple[Piece, ReadError | None]]:
        held: list[bytes] = []
        failed: list[ReadError] = []
        stream = _until_error(iter(blocks), failed)
        for block in stream:
            held.append(block)
            if sum(map(len, held)) >= WINDOW_BYTES:
                for piece in Windows(self.lists, WINDOW_BYTES).pieces(stream, b"".join(held)):
                    yield piece, None
                held.clear()
                break
        yield split(b"".join(held), self.lists), failed[0] if failed else None

    def _chunks(self, piece: Piece, before: int) -> Iterator[Chunk]:
        if not piece.records and not piece.bad:
            return
        taken = {before + 1 + position for position, _, _ in piece.bad}
        total = len(piece.records) + len(piece.bad)
        numbers = pa.array(range(before + 1, before + 1 + total), pa.int64())
        if taken:
            numbers = numbers.filter(pc.invert(pc.is_in(numbers, pa.array(sorted(taken), pa.int64()))))
        bad = [Bad(before + 1 + position, reason, bad_text(text)) for position, reason, text in piece.bad]
        joined = b"".join(piece.records)
        raw, numbers, too_long = _short_enough(text_array(piece.records, joined), numbers)
        texts, numbers, not_utf8 = _utf8(raw, numbers)
        chunk = self._unwrapped(pa.table({"_record": numbers, "_raw": texts}), joined)
        all_bad = sorted([*bad, *too_long, *not_utf8, *chunk.bad], key=lambda item: item.record)
        yield Chunk(self._camel_case(chunk.records), all_bad, chunk.dropped)

    def _camel_case(self, records: pa.Table) -> pa.Table:
        if self.pascal_case is None:
            return records
        spelled = pc.match_substring_regex(records["_raw"], rf'"{self.pascal_case}"\s*:')
        if not pc.any(spelled).as_py():
            return records
        pairs = zip(records["_raw"].to_pylist(), spelled.to_pylist(), strict=True)
        renamed = pa.array([_lower_names(text) if capital else text for text, capital in pairs], pa.string())
        return records.set_column(1, "_raw", renamed)

    def _unwrapped(self, records: pa.Table, joined: bytes) -> Chunk:
        chunk = Chunk(records)
        for envelope in self.envelopes:
            if f'"{envelope.marker}"'.encode() in joined:
                found = _unwrap(chunk.records, envelope)
                chunk = Chunk(found.records, [*chunk.bad, *found.bad], {**chunk.dropped, **found.dropped})
        return chunk


_CAPITAL_NAME = re.compile(r"""(?<!\\)"([A-Z])(\w*"\s*:)""", re.ASCII)
"""A member's name with a capital. A quote without a backslash before it, and a name, a quote and a colon behind it, can
only be where a name begins: behind a closing quote no letter may follow."""


def _lower_names(text: str) -> str:
    return _CAPITAL_NAME.sub(lambda found: f'"{found[1].lower()}{found[2]}', text)


def _unwrap(records: pa.Table, envelope: Envelope) -> Chunk:
    raw: list[str] = []
    around: list[str | None] = []
    keep: list[bool] = []
    bad: list[Bad] = []
    dropped: Counter[str] = Counter()
    for number, text in zip(records["_record"].to_pylist(), records["_raw"].to_pylist(), strict=True):
        inner = _inner(text, envelope)
        keep.append(inner is None or inner[0].lstrip().startswith("{"))
        if keep[-1]:
            raw.append(text if inner is None else inner[0])
            around.append(None if inner is None else inner[1])
        elif inner and (reason := envelope.drop_reason(inner[0])):
            dropped[reason] += 1
        else:
            bad.append(Bad(number, f"{envelope.member} holds no JSON object", text[:KEPT_BYTES]))
    if not all(keep):
        records = records.filter(pa.array(keep))
    records = records.set_column(records.column_names.index("_raw"), "_raw", pa.array(raw, pa.string()))
    if any(around):
        records = records.append_column("_envelope", pa.array(around, pa.string()))
    return Chunk(records, bad, dropped)


def _inner(text: str, envelope: Envelope) -> tuple[str, str] | None:
    """The record inside an envelope and the envelope without it; None when the text is a bare record."""
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if envelope.marker not in members or envelope.member not in members:
            return None
        held = bytes(members.pop(envelope.member))
        record = msgspec.json.decode(held, type=str) if held.startswith(b'"') else held.decode()
        return record, msgspec.json.encode(members).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None  # what is wrong with it shows when it is mapped


def wrapped(record: str, around: str, envelopes: Sequence[Envelope]) -> str:
    """The document that a record came in, put together again: reading it gives the same record and surroundings."""
    members = msgspec.json.decode(around, type=dict[str, msgspec.Raw])
    # An envelope whose marker is the record itself has none left to be told by.
    told = sorted(envelopes, key=lambda envelope: (envelope.marker not in members, envelope.marker != envelope.member))
    try:
        held = msgspec.Raw(record.encode())
        msgspec.json.decode(record)
    except (msgspec.DecodeError, RecursionError):
        held = msgspec.Raw(msgspec.json.encode(record))
    return msgspec.json.encode({**members, told[0].member: held}).decode()
def _short_enough(raw: pa.Array, numbers: pa.Array) -> tuple[pa.Array, pa.Array, list[Bad]]:
    """The texts that are no longer than a record may be, their numbers, and the others as bad records."""
    fits = pc.less_equal(pc.binary_length(raw), RECORD_BYTES)
    if pc.all(fits).as_py():
        return raw, numbers, []
    long = pc.invert(fits)
    found = zip(numbers.filter(long).to_pylist(), raw.filter(long).to_pylist(), strict=True)
    return raw.filter(fits), numbers.filter(fits), [Bad(number, TOO_LONG, bad_text(text)) for number, text in found]


def _utf8(raw: pa.Array, numbers: pa.Array) -> tuple[pa.Array, pa.Array, list[Bad]]:
    """The texts that are UTF-8, their numbers, and the others as bad records."""
    try:
        return raw.cast(pa.string()), numbers, []
    except pa.ArrowInvalid:
        pass
    keep, bad = [], []
    for number, item in zip(numbers.to_pylist(), raw.to_pylist(), strict=True):
        try:
            item.decode()
            keep.append(True)
        except UnicodeDecodeError as error:
            keep.append(False)
            bad.append(Bad(number, f"invalid UTF-8 at byte {error.start} of the record", bad_text(item)))
    mask = pa.array(keep, pa.bool_())
    return raw.filter(mask).cast(pa.string()), numbers.filter(mask), bad


def _until_error(blocks: Iterator[bytes], failed: list[ReadError]) -> Iterator[bytes]:
    """The blocks until one cannot be read; the error is put into `failed`."""
    try:
        yield from blocks
    except ReadError as error:
        failed.append(error)


@dataclass(frozen=True)
class Delimited:
    """Text lines of values between one separator; a header line names the columns, in any order.

    Args:
        columns: Every field name that the log's documentation knows; `-` and `_` in names are the same.
        default: Names of the columns when there is no header line.
        null: What stands for a missing value.
    """

    columns: tuple[str, ...]
    default: tuple[str, ...]
    sep: str = " "
    null: str = "-"
    label: str = "text with a header line"

    def accepts(self, head: bytes) -> bool:
        """Anything that is text; a stray NUL is a matter of its line."""
        beginning = head[:4096]
        return beginning.count(b"\0") * 20 <= len(beginning)

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered by line, so that `sed -n 12p` shows record 12."""
        failed: list[ReadError] = []
        line, names, headed = 1, self.default, False
        named: set[tuple[str, ...]] = set()
        for text, too_long in _whole_lines(_until_error(iter(blocks), failed)):
            if too_long:
                yield Chunk(_no_lines(), [Bad(line, f"the line is longer than {RECORD_BYTES} bytes", bad_text(text))])
                line += 1
                continue
            if line == 1 and (found := self._header(text)) is not None:
                names, headed, line = found, True, 2
                named.add(names)
                text = text.partition(b"\n")[2]
            if not text:
                continue
            chunk, lines = self._chunk(text, names, line, headed)
            if not self._holds_header(chunk, names):
                yield chunk
                line += lines
                continue
            for part in self._between_headers(text):
                if (found := self._header(part)) is not None:
                    yield Chunk(_no_lines(), dropped={"repeated header line": 1})
                    names, headed, line = found, True, line + 1
                    if len(named) < COLUMN_SETS:
                        named.add(names)
                    part = part.partition(b"\n")[2]
                if not part:
                    continue
                if headed and names not in named:
                    chunk, lines = _unnamed(part, line)
                else:
                    chunk, lines = self._chunk(part, names, line, headed)
                yield chunk
                line += lines
        if failed:
            yield _failure(failed[0], line - 1)

    def _holds_header(self, chunk: Chunk, names: tuple[str, ...]) -> bool:
        """Whether some line begins like a header, as when files were put one after the other."""
        spelled = [*self.columns, *(name.replace("_", "-") for name in self.columns)]
        if any(item.text.partition(self.sep)[0] in spelled for item in chunk.bad):
            return True
        if names[0] not in chunk.records.column_names:
            return False
        return bool(pc.any(pc.is_in(chunk.records[names[0]], pa.array(spelled))).as_py())

    def _between_headers(self, text: bytes) -> Iterator[bytes]:
        """The text cut before each line that names columns instead of holding values."""
        start = 0
        for found in self._header_start.finditer(text):
            if self._header(text[found.start() : found.start() + 8192]) is not None:
                if found.start() > start:
                    yield text[start : found.start()]
                start = found.start()
        yield text[start:]

    @property
    def _header_start(self) -> re.Pattern[bytes]:
        names = "|".join(re.escape(name).replace("_", "[-_]") for name in self.columns)
        return re.compile(rf"(?m)^(?:{names})(?={re.escape(self.sep)}|\r?$)".encode())

    def _header(self, text: bytes) -> tuple[str, ...] | None:
        """The column names that the first line gives, or None when it holds values."""
        first = text.partition(b"\n")[0].strip(b"\r")
        words = first.decode("utf-8", errors="replace").split(self.sep)
        names = tuple(word.lower().replace("-", "_") for word in words)
        known = sum(name in self.columns for name in names)
        return names if known * 2 > len(names) and len(set(names)) == len(names) else None

    def _chunk(self, text: bytes, names: tuple[str, ...], line: int, headed: bool) -> tuple[Chunk, int]:
        try:
            text.decode()
        except UnicodeDecodeError:
            return self._chunk_by_line(text, names, line, headed)
        if b"\r" in text and text.count(b"\r") > text.count(b"\r\n"):
            return self._chunk_by_line(text, names, line, headed)
        bad: list[Bad] = []

        def invalid(row: pyarrow.csv.InvalidRow) -> str:
            expected = "the header names" if headed else "the default format has"
            reason = f"{row.actual_columns} values where {expected} {row.expected_columns}"
            bad.append(Bad(line + row.number - 1, reason, row.text))
            return "skip"

        parsed = pa.csv.read_csv(
            io.BytesIO(text),
            read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
            parse_options=pa.csv.ParseOptions(
                delimiter=self.sep,
                quote_char=False,
                escape_char=False,
                ignore_empty_lines=False,
                invalid_row_handler=invalid,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                null_values=[self.null],
                check_utf8=False,
            ),
        )
        lines = len(parsed) + len(bad)
        numbers = pa.array(range(line, line + lines), pa.int64())
        if bad:
            taken = pa.array([item.record for item in bad], pa.int64())
            numbers = numbers.filter(pc.invert(pc.is_in(numbers, taken)))
        records = parsed.append_column("_record", numbers)
        blank = pc.equal(parsed[0], "")
        for name in names[1:]:
            if not pc.any(blank).as_py():
                break
            blank = pc.and_(blank, pc.equal(parsed[name], ""))
        dropped = {}
        if blanks := pc.sum(blank).as_py():
            records = records.filter(pc.invert(pc.fill_null(blank, False)))
            dropped["blank line"] = blanks
        return Chunk(records, bad, dropped), lines

    def _chunk_by_line(
        self, text: bytes, names: tuple[str, ...], line: int, headed: bool
    ) -> tuple[Chunk, int]:
        """The slow way, for text with lines that are no UTF-8 or hold carriage returns: those are set apart."""
        good: list[bytes] = []
        numbers: list[int] = []
        bad: list[Bad] = []
        lines = text.removesuffix(b"\n").split(b"\n")
        for number, item in enumerate(lines, start=line):
            try:
                item.decode()
            except UnicodeDecodeError as error:
                bad.append(Bad(number, f"invalid UTF-8 at byte {error.start} of the line", bad_text(item)))
            else:
                if b"\r" in item.removesuffix(b"\r"):
                    bad.append(Bad(number, "a carriage return inside the line", bad_text(item)))
                    continue
                good.append(item)
                numbers.append(number)
        if not good:
            return Chunk(_no_lines(), bad), len(lines)
        chunk, _ = self._chunk(b"\n".join(good) + b"\n", names, 1, headed)
        real = pa.array(numbers, pa.int64())
        position = chunk.records.schema.get_field_index("_record")
        moved = real.take(pc.subtract(chunk.records["_record"], 1).combine_chunks())
        records = chunk.records.set_column(position, "_record", moved)
        others = [Bad(numbers[item.record - 1], item.reason, item.text) for item in chunk.bad]
        return Chunk(records, sorted([*bad, *others], key=lambda item: item.record), chunk.dropped), len(lines)


def _no_lines() -> pa.Table:
    return pa.table({"_record": pa.array([], pa.int64())})


def _unnamed(text: bytes, line: int) -> tuple[Chunk, int]:
    """Lines below a header that is one too many."""
    reason = f"the object has more than {COLUMN_SETS} different header lines"
    lines = text.removesuffix(b"\n").split(b"\n")
    bad = [Bad(number, reason, bad_text(item)) for number, item in enumerate(lines, start=line)]
    return Chunk(_no_lines(), bad), len(lines)


def _whole_lines(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The bytes in pieces that end at a line's end, each of some megabytes; and whether it is a line too long to hold.

    Of such a line the beginning is given, without its end.
    """
    held, skipping = b"", False
    for block in blocks:
        if skipping:
            _, line_end, block = block.partition(b"\n")
            skipping = not line_end
        end = block.rfind(b"\n") + 1
        if end:
            yield held + block[:end], False
            held = block[end:]
        else:
            held += block
        if len(held) > RECORD_BYTES:
            yield held[:KEPT_BYTES], True
            held, skipping = b"", True
    if held:
        yield held, False


@dataclass(frozen=True)
class DelimitedInJson:
    """The same text log as JSON lines: whole lines inside CloudWatch Logs documents, or members named like the fields.

    Args:
        text: How the lines themselves are read.
        lists: Names of members that hold lists of CloudWatch log events.
        message: Member that holds a line.
    """

    text: Delimited
    lists: tuple[str, ...] = ("logEvents",)
    message: str = "message"
    label: str = "JSON lines (CloudWatch Logs, Firehose)"

    def accepts(self, head: bytes) -> bool:
        """JSON, perhaps with a broken line before it; a line of a text log never begins with a bracket."""
        return head.lstrip()[:1] in (b"{", b"[") or _OBJECT_LINE.search(head) is not None

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered in the order they stand in the object."""
        for chunk in JsonRecords(self.lists).read(blocks):
            yield from self._columns(chunk)

    def _columns(self, chunk: Chunk) -> Iterator[Chunk]:
        # This format is rare and small, so its records are read one by one.
        groups: dict[tuple[str, ...], list[tuple[int, list[str | None]]]] = {}
        bad, dropped = list(chunk.bad), Counter(chunk.dropped)
        rows = zip(chunk.records["_record"].to_pylist(), _raws(chunk.records), strict=True)
        for number, raw in rows:
            try:
                members = msgspec.json.decode(raw)
            except (msgspec.DecodeError, RecursionError) as error:
                bad.append(Bad(number, f"the record is not valid JSON: {error}", raw[:KEPT_BYTES]))
                continue
            if not isinstance(members, dict):
                bad.append(Bad(number, "not a JSON object", raw[:KEPT_BYTES]))
            elif _is_control(members, self.message):
                dropped[CONTROL_DROP] += 1
            else:
                names, values = self._fields(members)
                if names not in groups and len(groups) == COLUMN_SETS:
                    reason = f"more than {COLUMN_SETS} different sets of members"
                    bad.append(Bad(number, reason, raw[:KEPT_BYTES]))
                elif len(names) != len(values):
                    reason = f"{len(values)} values where the default format has {len(names)}"
                    bad.append(Bad(number, reason, raw[:KEPT_BYTES]))
                else:
                    groups.setdefault(names, []).append((number, values))
        yield Chunk(_no_lines(), bad, dropped)
        for names, found in groups.items():
            columns = {"_record": pa.array([number for number, _ in found], pa.int64())}
            for position, name in enumerate(names):
                columns[name] = pa.array([values[position] for _, values in found], pa.string())
            yield Chunk(pa.table(columns))

    def _fields(self, members: Mapping[str, object]) -> tuple[tuple[str, ...], list[str | None]]:
        line = members.get(self.message)
        if isinstance(line, str):
            rest = {f"cloudwatch.{name}": value for name, value in members.items() if name != self.message}
            values = [None if word == self.text.null else word for word in line.split(self.text.sep)]
            if len(values) != len(self.text.default):
                return self.text.default, values
            return (*self.text.default, *rest), [*values, *(_as_text(value) for value in rest.values())]
        names = tuple(name.lower().replace("-", "_") for name in members)
        if len(set(names)) != len(names):
            names = tuple(members)
        texts = [_as_text(value) for value in members.values()]
        return names, [None if text == self.text.null else text for text in texts]


def _is_control(members: Mapping[str, object], message: str) -> bool:
    """Whether CloudWatch Logs wrote this to try the way: the document itself, or the log event taken out of it."""
    line = str(members.get(message))
    return members.get("messageType") == "CONTROL_MESSAGE" or line.startswith(CONTROL_TEXT)


def _raws(records: pa.Table) -> list[str]:
    return records["_raw"].to_pylist() if "_raw" in records.column_names else []


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


@dataclass(frozen=True)
class ParquetRows:
    """Parquet: one record a row; every column is read as text.

    Args:
        zero_padded: Column -> number of digits, for identifiers that a writer stored as numbers.
        nulls: Texts that stand for a missing value.
    """

    zero_padded: Mapping[str, int] = field(default_factory=dict)
    nulls: tuple[str, ...] = ("-", "None")
    label: str = "Parquet"

    def accepts(self, head: bytes) -> bool:
        """Parquet files begin with PAR1."""
        return head.startswith(b"PAR1")

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered by row."""
        number = 0
        try:
            blocks.file.seek(0)
            for batch in pa.parquet.ParquetFile(blocks.file).iter_batches(batch_size=65_536):
                columns = {"_record": pa.array(range(number + 1, number + 1 + len(batch)), pa.int64())}
                for name, values in zip(batch.schema.names, batch.columns, strict=True):
                    key = name.lower().replace("-", "_")
                    columns[key] = self._text(key, values)
                number += len(batch)
                yield Chunk(pa.table(columns))
        except (pa.ArrowException, OSError) as error:
            yield _failure(ReadError(f"the Parquet file is damaged: {error}"), number)

    def _text(self, name: str, values: pa.Array) -> pa.Array:
        kind = values.type
        if pa.types.is_floating(kind):
            whole = pc.cast(pc.floor(values), pa.int64(), safe=False)
            values = pc.if_else(pc.equal(pc.floor(values), values), whole.cast(pa.string()), values.cast(pa.string()))
        elif pa.types.is_timestamp(kind):
            values = pc.divide(values.cast(pa.timestamp("us")).cast(pa.int64()), 1_000_000).cast(pa.string())
        elif pa.types.is_nested(kind):
            values = pa.array([_as_text(item) for item in values.to_pylist()], pa.string())
        else:
            values = values.cast(pa.string())
        if name in self.zero_padded and not pa.types.is_string(kind):
            values = pc.utf8_lpad(values, width=self.zero_padded[name], padding="0")
        return pc.if_else(pc.is_in(values, pa.array(self.nulls)), pa.scalar(None, pa.string()), values)
