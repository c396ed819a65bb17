"""Text logs without a header line: a record a line, each in one of some layouts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.chunk import COLUMNS, Bad, Chunk, bad_text, failure, no_records, positions, until_error
from ocsf_mappers.readers.exported import TIME, TIME_BYTES, is_exported
from ocsf_mappers.readers.json_split import KEPT_BYTES, RECORD_BYTES, TOO_LONG
from ocsf_mappers.readers.layouts import Layout, Read, Values
from ocsf_mappers.readers.streams import Blocks
from ocsf_mappers.readers.tokens import Flags, Numbers, cut

EXPORT_TIME = "envelope.timestamp"
"""The column of the time that stands before each message of an export task."""

BLANK, DIRECTIVE = "blank line", "line that describes the others"
NO_LAYOUT = "the line is in no layout that is known: "

LOOK_BYTES = 1 << 10
"""So far may an expression look that tells where records begin."""

HEADER_BYTES = 64 << 10
"""A line that names columns may be so long."""


@dataclass(frozen=True)
class FieldNames:
    """Lines below one that names their columns, as in W3C's extended format: `#Fields: date time cs(Host)`.

    Args:
        directive: What the naming line begins with; the names stand behind it with spaces between, and count for the
            lines below it until the next such line.
        sep: One sign between values.
        default: Names where no line has named any, with spaces between; without, lines before the first are bad.
    """

    directive: str = "#Fields:"
    sep: str = "\t"
    default: str = ""


@dataclass(frozen=True)
class Lines:
    """Text: a record a line, or some lines, each in one of some layouts.

    Args:
        layouts: How lines may be laid out; the first that fits one reads it.
        fields: Lines that name the columns of those below them.
        null: What stands for a missing value.
        comment: What lines begin with that describe the others; they are counted drops.
        begins: Regular expression that the first line of a record begins with; lines that do not belong to the record
            before them. It may go over line ends, and then no record begins where it has gone, within 1,024 bytes.
            Without it a line is a record.
    """

    layouts: tuple[Layout, ...] = ()
    fields: FieldNames | None = None
    null: str = "-"
    comment: str | None = None
    begins: str | None = None
    label: str = "text"

    def accepts(self, head: bytes) -> bool:
        """Anything that is text; a stray NUL is a matter of its line."""
        beginning = head[:4096]
        return beginning.count(b"\0") * 20 <= len(beginning)

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """Chunks of text columns; records are numbered by their first line, so that `sed -n 12p` shows record 12.

        Lines that a CloudWatch Logs export task wrote have the time of their log event in a further column, and a
        message of several lines is one record.
        """
        exported = is_exported(blocks.head) and not self._is_own(blocks.head)
        begins = TIME if exported else self._begins
        failed: list[ReadError] = []
        number, names = 1, self._default
        for piece, too_long in _pieces(until_error(iter(blocks), failed), begins):
            if too_long:
                yield Chunk(no_records(), [Bad(number, TOO_LONG, bad_text(piece[:KEPT_BYTES]))])
                number += piece.count(b"\n") or 1
                continue
            starts, ends, count = _records(piece, begins)
            data = np.frombuffer(piece, np.uint8)
            records = cut(data, starts, ends)
            numbers = number + np.searchsorted(np.flatnonzero(data == 10), starts)
            number += count
            for texts, record_numbers, bad in _utf8(records, numbers):
                if bad:
                    yield Chunk(no_records(), bad)
                messages, times = _without_times(texts) if exported else (texts, None)
                chunks, names = self._sections(_Texts(messages, record_numbers, texts, times), names)
                yield from chunks
        if failed:
            yield failure(failed[0], number - 1)

    def of_texts(self, texts: pa.Array, numbers: Numbers) -> Iterator[Chunk]:
        """Chunks of records that came one by one, as in log events.

        Args:
            texts: Their texts.
            numbers: The number of each.
        """
        return iter(self._sections(_Texts(texts, numbers, texts), self._default)[0])

    @cached_property
    def _begins(self) -> re.Pattern[bytes] | None:
        return None if self.begins is None else re.compile(rf"(?m)^(?:{self.begins})".encode())

    @property
    def _default(self) -> tuple[str, ...]:
        return tuple(self.fields.default.split()) if self.fields else ()

    def _is_own(self, head: bytes) -> bool:
        """Whether a first line that begins with a time may be this log's own."""
        line = pa.array([head.lstrip().partition(b"\n")[0].rstrip(b"\r").decode(errors="replace")])
        return any(layout.read(line, self.null)[0].any() for layout in self.layouts)

    # -- sections below lines that name columns -----------------------------------------------------------------------
    def _sections(self, texts: _Texts, names: tuple[str, ...]) -> tuple[list[Chunk], tuple[str, ...]]:
        """The records of some lines, and what the columns are called after them."""
        chunks: list[Chunk] = []
        if self.fields is None:
            return list(self._laid_out(texts, self.layouts)), names
        lines = texts.lines
        heads = np.flatnonzero(pc.starts_with(lines, self.fields.directive).to_numpy(zero_copy_only=False))
        for start, end in zip([-1, *heads.tolist()], [*heads.tolist(), len(lines)], strict=True):
            if start >= 0:
                columns = lines[start].as_py()[len(self.fields.directive) :].split()
                names = tuple(columns) if len(columns) <= COLUMNS and sum(map(len, columns)) <= HEADER_BYTES else ()
                chunks.append(Chunk(no_records(), dropped={DIRECTIVE: 1}))
            layouts = self.layouts
            if names:
                layouts = (Values(" ".join(names), self.fields.sep), *layouts)
            chunks += self._laid_out(texts.take(np.arange(start + 1, end)), layouts)
        return chunks, names

    # -- lines by layout ----------------------------------------------------------------------------------------------
    def _laid_out(self, texts: _Texts, layouts: tuple[Layout, ...]) -> Iterator[Chunk]:
        dropped: Counter[str] = Counter()
        others = [(BLANK, pc.equal(pc.utf8_trim_whitespace(texts.lines), ""))]
        if self.comment is not None:
            others.append((DIRECTIVE, pc.starts_with(texts.lines, self.comment)))
        remaining = np.ones(len(texts.lines), bool)
        for reason, matches in others:
            none = matches.to_numpy(zero_copy_only=False) & remaining
            remaining &= ~none
            if none.any():
                dropped[reason] = int(none.sum())
        texts = texts.where(remaining)
        for layout in layouts:
            if not len(texts.lines):
                break
            fits, reads = layout.read(texts.lines, self.null)
            if not fits.any():
                continue
            if layout.drop is not None:
                dropped[layout.drop] += int(fits.sum())
            else:
                yield from (_chunk(read, texts) for read in reads)
            texts = texts.where(~fits)
        bad = [
            Bad(int(number), self._misfit(line, layouts), whole[:KEPT_BYTES])
            for number, line, whole in zip(
                texts.numbers, texts.lines.to_pylist(), texts.wholes.to_pylist(), strict=True
            )
        ]
        if bad or dropped:
            yield Chunk(no_records(), bad, dropped)

    def _misfit(self, text: str, layouts: tuple[Layout, ...]) -> str:
        """Why a line cannot be read."""
        value_layouts = [layout for layout in layouts if isinstance(layout, Values)]
        if not value_layouts:
            return f"{NO_LAYOUT}{self.label}"
        counts = " or ".join(dict.fromkeys(layout.expected for layout in value_layouts))
        first = value_layouts[0]
        return f"{NO_LAYOUT}{first.count(text)} values, expected {counts}, each as its column has them"


@dataclass(frozen=True)
class _Texts:
    """Some records.

    Args:
        lines: What is laid out.
        numbers: The number of each in the object.
        wholes: Each as it stands there.
        times: What stands before it in an export task.
    """

    lines: pa.Array
    numbers: Numbers
    wholes: pa.Array
    times: pa.Array | None = None

    def take(self, rows: Numbers) -> _Texts:
        """Those at some places."""
        at = pa.array(rows)
        wholes = self.wholes.take(at)
        lines = wholes if self.times is None else self.lines.take(at)
        return _Texts(lines, self.numbers[rows], wholes, None if self.times is None else self.times.take(at))

    def where(self, flags: Flags) -> _Texts:
        """Those with a flag."""
        return self if flags.all() else self.take(np.flatnonzero(flags))


def _chunk(read: Read, texts: _Texts) -> Chunk:
    rows = texts.take(read.rows)
    names, columns = read.names, read.columns
    if rows.times is not None:
        names, columns = (EXPORT_TIME, *names), [rows.times, *columns]
    table = {"_record": pa.array(rows.numbers), "_text": rows.wholes}
    table |= dict(zip(positions(len(names)), columns, strict=True))
    return Chunk(pa.table(table), names=names)


def _without_times(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Messages of an export task, and the times before them; null where there is none."""
    timed = pc.match_substring_regex(texts, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")
    times = pc.if_else(timed, pc.utf8_slice_codeunits(texts, 0, TIME_BYTES - 1), pa.scalar(None, pa.string()))
    return pc.if_else(timed, pc.utf8_slice_codeunits(texts, TIME_BYTES), texts), times


# -- bytes to lines ---------------------------------------------------------------------------------------------------
def _pieces(blocks: Iterator[bytes], begins: re.Pattern[bytes] | None) -> Iterator[tuple[bytes, bool]]:
    """The bytes in pieces of whole records, each of some megabytes; and whether it is one record too long to hold."""
    if begins is None:
        yield from whole_lines(blocks)
        return
    buffer = b""
    for piece, too_long in whole_lines(blocks):
        if too_long:
            if buffer:
                yield buffer, False
            yield piece, True
            buffer = b""
            continue
        buffer += piece
        last, following, certain = 0, len(buffer), len(buffer) - LOOK_BYTES
        for match in begins.finditer(buffer):
            if match.start() > certain:
                following = match.start()  # what comes next may say otherwise
                break
            last = match.start()
        if last:
            yield buffer[:last], False
        if following - last > RECORD_BYTES:
            yield buffer[last:following], True
            last = following
        buffer = buffer[last:]
    if buffer:
        yield buffer, False


def whole_lines(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The bytes in pieces that end at a line's end, each of some megabytes; and whether it is a line too long to hold.

    Of such a line the beginning is given, without its end.
    """
    buffer, skipping = b"", False
    for block in blocks:
        if skipping:
            _, line_end, block = block.partition(b"\n")
            skipping = not line_end
        end = block.rfind(b"\n") + 1
        if end:
            yield buffer + block[:end], False
            buffer = block[end:]
        else:
            buffer += block
        if len(buffer) > RECORD_BYTES:
            yield buffer[:KEPT_BYTES], True
            buffer, skipping = b"", True
    if buffer:
        yield buffer, False


def _records(piece: bytes, begins: re.Pattern[bytes] | None) -> tuple[Numbers, Numbers, int]:
    """Where records begin and end in some bytes, without their line ends, and how many lines there are."""
    data = np.frombuffer(piece, np.uint8)
    ends = np.flatnonzero(data == 10)
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    count = len(starts)
    if begins is not None:
        record_starts = np.fromiter((match.start() for match in begins.finditer(piece)), np.int64)
        starts = np.unique(np.concatenate([[0], record_starts]))
        ends = np.append(starts[1:] - 1, ends[-1])
    return starts, ends - ((ends > starts) & (data[np.maximum(ends - 1, 0)] == 13)), count


def _utf8(lines: pa.Array, numbers: Numbers) -> Iterator[tuple[pa.Array, Numbers, list[Bad]]]:
    """Lines that are UTF-8 as texts, and the others as bad ones."""
    try:
        yield lines.cast(pa.string()), numbers, []
        return
    except pa.ArrowInvalid:
        pass
    bad: list[Bad] = []
    good = np.ones(len(lines), bool)
    for row, item in enumerate(lines.to_pylist()):
        try:
            item.decode()
        except UnicodeDecodeError as error:
            good[row] = False
            bad.append(Bad(int(numbers[row]), f"invalid UTF-8 at byte {error.start} of the line", bad_text(item)))
    yield lines.filter(pa.array(good)).cast(pa.string()), numbers[good], bad
