"""Text logs: a line a record, values between separators."""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.chunk import (
    COLUMNS,
    Bad,
    Chunk,
    bad_text,
    failure,
    no_records,
    positions,
    until_error,
)
from ocsf_mappers.readers.exported import is_exported
from ocsf_mappers.readers.json_split import RECORD_BYTES
from ocsf_mappers.readers.lines import EXPORT_TIME, whole_lines
from ocsf_mappers.readers.streams import Blocks

HEADER_SETS = 64
"""The header lines inside an object may name this many different sets of columns; lines below others are bad."""

HEADER_BYTES = 64 << 10
"""A header line may be so long; names are kept as long as an object is read."""

HEADER_WORDS = 3
"""So many names of fields in a first line make it a header, whatever else it names."""

VALUE_WORDS = 3
"""So many numbers among the names of a header are the values of a line that was put into it."""


@dataclass(frozen=True)
class _Misfit(Bad):
    """A sound line that has another number of values than there are columns."""


@dataclass(frozen=True)
class Unheaded:
    """The columns of lines without a header that differ from the default: those that have this value in this column."""

    columns: tuple[str, ...]
    name: str
    value: str

    def fits(self, words: Sequence[str]) -> bool:
        """Whether a line of these values is of this kind."""
        return len(words) == len(self.columns) and words[self.columns.index(self.name)] == self.value


@dataclass(frozen=True)
class Named:
    """What a setting says of objects without a header: a glob over URIs, and the names of their columns."""

    uri: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Delimited:
    """Text lines of values between one separator; a header line may name the columns, in any order.

    Args:
        columns: Every field name that the log's documentation knows; `-` and `_` in names are the same, and so are
            capitals and small letters.
        default: Names of the columns when there is no header line.
        has_header: Whether there may be one. In a log whose values are anybody's, a line of names must not be taken
            for it.
        null: What stands for a missing value.
        others: Kinds of lines that are read by columns of their own where they do not fit those of the object.
        setting: Name of the setting that gives `named`, for messages.
        named: Columns of objects without a header line, in place of the default; the last that fits a URI counts.
    """

    columns: tuple[str, ...]
    default: tuple[str, ...]
    sep: str = " "
    has_header: bool = True
    null: str = "-"
    label: str = "text with a header line"
    others: tuple[Unheaded, ...] = ()
    setting: str | None = None
    named: tuple[Named, ...] = ()

    def accepts(self, head: bytes) -> bool:
        """Anything that is text; a stray NUL is a matter of its line."""
        beginning = head[:4096]
        return beginning.count(b"\0") * 20 <= len(beginning)

    def of_object(self, uri: str) -> Delimited:
        """The reader of one object, with the columns that `named` has for it."""
        columns = [item.columns for item in self.named if fnmatch.fnmatchcase(uri, item.uri)]
        return replace(self, default=columns[-1], named=()) if columns else self

    def unheaded(self, words: Sequence[str]) -> tuple[str, ...] | None:
        """The columns of a line without a header, or None where it does not fit any that are known."""
        if len(words) == len(self.default):
            return self.default
        return next((other.columns for other in self.others if other.fits(words)), None)

    def misfit(self, values: int) -> str:
        """Why a line without a header cannot be read, and what helps."""
        hint = f"; there is no header: name the fields with the setting {self.setting}" if self.setting else ""
        return f"{values} values where the default format has {len(self.default)}{hint}"

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered by line, so that `sed -n 12p` shows record 12.

        Lines that a CloudWatch Logs export task wrote have the time of their log event in a column before the others.
        """
        reader = self
        if is_exported(blocks.head) and not self._is_line(blocks.head.lstrip().partition(b"\n")[0]):
            others = tuple(replace(other, columns=(EXPORT_TIME, *other.columns)) for other in self.others)
            reader = replace(self, default=(EXPORT_TIME, *self.default), others=others)
        for chunk in reader._read(blocks):
            yield from reader._with_others(chunk)

    def _is_line(self, first: bytes) -> bool:
        """Whether a first line that begins with a time may be this log's own, by the number of its values."""
        return first.strip().count(self.sep.encode()) + 1 == len(self.default)

    def _with_others(self, chunk: Chunk) -> Iterator[Chunk]:
        """A chunk, and after it the lines that did not fit and are of another kind that is known."""
        kinds: dict[Unheaded, list[Bad]] = {}
        bad: list[Bad] = []
        for item in chunk.bad:
            words = item.text.split(self.sep) if isinstance(item, _Misfit) else ()
            kind = next((other for other in self.others if other.fits(words)), None)
            (bad if kind is None else kinds.setdefault(kind, [])).append(item)
        yield replace(chunk, bad=bad)
        for kind, lines in kinds.items():
            text = "\n".join(line.text for line in lines).encode() + b"\n"
            other_chunk, _ = self._chunk(text, kind.columns, 0, True)
            line_numbers = pa.array([line.record for line in lines], pa.int64())
            numbers = line_numbers.take(other_chunk.records["_record"].combine_chunks())
            position = other_chunk.records.column_names.index("_record")
            yield replace(other_chunk, records=other_chunk.records.set_column(position, "_record", numbers))

    def _read(self, blocks: Blocks) -> Iterator[Chunk]:
        failed: list[ReadError] = []
        line, names, headed = 1, self.default, False
        headers: set[tuple[str, ...]] = set()
        refused: str | None = None
        for text, too_long in whole_lines(until_error(iter(blocks), failed)):
            if too_long:
                yield Chunk(no_records(), [Bad(line, f"the line is longer than {RECORD_BYTES} bytes", bad_text(text))])
                line += 1
                continue
            if line == 1 and self.has_header:
                first, _, rest = text.partition(b"\n")
                words = self._words(first)
                if (reason := self._no_header(words)) is not None:
                    yield Chunk(no_records(), [Bad(1, reason, bad_text(first))])
                    refused = reason if self._field_count(words) >= HEADER_WORDS else None
                    line, text = 2, rest
                elif self._is_header(words, first=True):
                    names, headed, line, text = words, True, 2, rest
                    headers.add(names)
            if not text:
                continue
            if refused is not None:
                chunk, lines = _unnamed(text, line, refused)
                yield chunk
                line += lines
                continue
            chunk, lines = self._chunk(text, names, line, headed)
            if not self._holds_header(chunk, names):
                yield chunk
                line += lines
                continue
            for part in self._between_headers(text):
                words = self._words(part.partition(b"\n")[0])
                if self._is_header(words):
                    yield Chunk(no_records(), dropped={"repeated header line": 1})
                    names, headed, line = words, True, line + 1
                    if len(headers) < HEADER_SETS:
                        headers.add(names)
                    part = part.partition(b"\n")[2]
                if not part:
                    continue
                if headed and names not in headers:
                    reason = f"the object has more than {HEADER_SETS} different header lines"
                    chunk, lines = _unnamed(part, line, reason)
                else:
                    chunk, lines = self._chunk(part, names, line, headed)
                yield chunk
                line += lines
        if failed:
            yield failure(failed[0], line - 1)

    def _holds_header(self, chunk: Chunk, names: tuple[str, ...]) -> bool:
        """Whether some line begins like a header, as when files were put one after the other."""
        if not self.has_header:
            return False
        field_names = [*self.columns, *(name.replace("_", "-") for name in self.columns)]
        if any(item.text.partition(self.sep)[0] in field_names for item in chunk.bad):
            return True
        if not len(chunk.records):
            return False
        return bool(pc.any(pc.is_in(chunk.records["c0"], pa.array(field_names))).as_py())

    def _between_headers(self, text: bytes) -> Iterator[bytes]:
        """The text cut before each line that names columns instead of holding values."""
        start = 0
        for match in self._header_start.finditer(text):
            end = text.find(b"\n", match.start(), match.start() + HEADER_BYTES)
            line = text[match.start() : end if end >= 0 else match.start() + HEADER_BYTES]
            if self._is_header(self._words(line)):
                if match.start() > start:
                    yield text[start : match.start()]
                start = match.start()
        yield text[start:]

    @property
    def _header_start(self) -> re.Pattern[bytes]:
        names = "|".join(re.escape(name).replace("_", "[-_]") for name in self.columns)
        return re.compile(rf"(?m)^(?:{names})(?={re.escape(self.sep)}|\r?$)".encode())

    def _words(self, line: bytes) -> tuple[str, ...]:
        return tuple(line.rstrip(b"\r").decode("utf-8", errors="replace").split(self.sep))

    def _field_count(self, words: tuple[str, ...]) -> int:
        return sum(word.lower().replace("-", "_") in self.columns for word in words)

    def _is_header(self, words: tuple[str, ...], *, first: bool = False) -> bool:
        """Whether a line names columns instead of holding values.

        Most of its words are names of fields. Of a first line some are enough; further down they might be values.
        """
        count = self._field_count(words)
        if _holds_values(words):
            return False
        small = len(words) <= COLUMNS and sum(map(len, words)) <= HEADER_BYTES
        return small and (count * 2 > len(words) or (first and count >= HEADER_WORDS))

    def _no_header(self, words: tuple[str, ...]) -> str | None:
        """Why a first line that names fields is none that could name the columns; None where it is one, or values."""
        count = self._field_count(words)
        size = sum(map(len, words))
        if count >= HEADER_WORDS and (len(words) > COLUMNS or size > HEADER_BYTES):
            return (
                f"the first line names {len(words)} columns with {size} characters; "
                f"{COLUMNS} and {HEADER_BYTES} are read at most"
            )
        if count >= HEADER_WORDS and _holds_values(words):
            return "the header line holds values too: the end of the line is lost, or is a carriage return alone"
        begins = self._field_count(words[:1]) > 0
        if (begins or count > 1) and not self._is_header(words, first=True):
            return (
                f"the first line looks like a header, but only {count} of its {len(words)} words are names of fields; "
                "the lines below are read as the default format"
            )
        return None

    def _chunk(self, text: bytes, names: tuple[str, ...], line: int, headed: bool) -> tuple[Chunk, int]:
        try:
            text.decode()
        except UnicodeDecodeError:
            return self._chunk_by_line(text, names, line, headed)
        if b"\r" in text and text.count(b"\r") > text.count(b"\r\n"):
            return self._chunk_by_line(text, names, line, headed)
        bad: list[Bad] = []
        trailing: list[Bad] = []
        trimmed = _trimmed(names)

        def invalid(row: pyarrow.csv.InvalidRow) -> str:
            text = row.text.rstrip(self.sep)
            if text and text.count(self.sep) + 1 == len(trimmed):
                trailing.append(Bad(line + row.number - 1, "", text))
                return "skip"
            expected = f"{row.actual_columns} values where the header names {row.expected_columns}"
            reason = expected if headed else self.misfit(row.actual_columns)
            bad.append(_Misfit(line + row.number - 1, reason, row.text))
            return "skip"

        columns = positions(len(names))
        parsed = pa.csv.read_csv(
            io.BytesIO(text),
            read_options=pa.csv.ReadOptions(column_names=columns, use_threads=False, block_size=len(text) + 1),
            parse_options=pa.csv.ParseOptions(
                delimiter=self.sep,
                quote_char=False,
                escape_char=False,
                ignore_empty_lines=False,
                invalid_row_handler=invalid,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                null_values=[self.null],
                check_utf8=False,
            ),
        )
        lines = len(parsed) + len(bad) + len(trailing)
        numbers = pa.array(np.arange(line, line + lines))
        if bad or trailing:
            skipped = pa.array([item.record for item in (*bad, *trailing)], pa.int64())
            numbers = numbers.filter(pc.invert(pc.is_in(numbers, skipped)))
        records = parsed.append_column("_record", numbers)
        if trailing:
            records = pa.concat_tables([records, self._without_blanks(trailing, trimmed, columns)]).sort_by("_record")
            parsed = records
        blank = pc.equal(parsed[0], "")
        for name in columns[1:]:
            if not pc.any(blank).as_py():
                break
            blank = pc.and_(blank, pc.equal(parsed[name], ""))
        dropped = {}
        if blanks := pc.sum(blank).as_py():
            records = records.filter(pc.invert(pc.fill_null(blank, False)))
            dropped["blank line"] = blanks
        return Chunk(records, bad, dropped, names), lines

    def _without_blanks(self, lines: list[Bad], names: tuple[str, ...], columns: list[str]) -> pa.Table:
        """Lines that fit once blanks at the end are taken off, theirs or the header's."""
        chunk, _ = self._chunk("\n".join(line.text for line in lines).encode() + b"\n", names, 0, True)
        records = chunk.records
        for name in columns[len(names) :]:
            records = records.append_column(name, pa.nulls(len(records), pa.string()))
        numbers = pa.array([line.record for line in lines], pa.int64()).take(records["_record"].combine_chunks())
        renumbered = records.set_column(records.column_names.index("_record"), "_record", numbers)
        return renumbered.select([*columns, "_record"])

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
            return Chunk(no_records(), bad), len(lines)
        chunk, _ = self._chunk(b"\n".join(good) + b"\n", names, 1, headed)
        real = pa.array(numbers, pa.int64())
        position = chunk.records.schema.get_field_index("_record")
        line_numbers = real.take(pc.subtract(chunk.records["_record"], 1).combine_chunks())
        records = chunk.records.set_column(position, "_record", line_numbers)
        others = [replace(item, record=numbers[item.record - 1]) for item in chunk.bad]
        everything = sorted([*bad, *others], key=lambda item: item.record)
        return Chunk(records, everything, chunk.dropped, names), len(lines)


def _holds_values(words: Sequence[str]) -> bool:
    """Whether a line that names columns has another line in it, which would be lost with it."""
    return any("\r" in word for word in words) or sum(word.isdigit() for word in words) >= VALUE_WORDS


def _trimmed(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names without those at the end that are empty, as of a header that ends in blanks."""
    while names and not names[-1]:
        names = names[:-1]
    return names


def _unnamed(text: bytes, line: int, reason: str) -> tuple[Chunk, int]:
    """Lines below a header that is not used."""
    lines = text.removesuffix(b"\n").split(b"\n")
    bad = [Bad(number, reason, bad_text(item)) for number, item in enumerate(lines, start=line)]
    return Chunk(no_records(), bad), len(lines)
