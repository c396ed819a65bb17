"""Lines cut into values, all at once: numpy looks for separators, quotes and line ends, never Python row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
_Spans = tuple[Numbers, Flags]


@dataclass(frozen=True)
class Tokens:
    """The values of some lines.

    Args:
        values: All of them, in order, without the quotes around them.
        first: For each line the place of its first value.
        counts: For each line how many it has, at least one.
    """

    values: pa.Array
    first: Numbers
    counts: Numbers

    def column(self, position: int, rows: Numbers) -> pa.Array:
        """The value at a position (from 0) in each of some lines; null in those that have fewer."""
        missing = self.counts[rows] <= position
        return self.values.take(pa.array(self.first[rows] + position, mask=missing if missing.any() else None))


def cut(data: Bytes, starts: Numbers, ends: Numbers) -> pa.Array:
    """Pieces of some bytes as a binary array; they are in order and do not overlap."""
    mark = np.zeros(len(data) + 1, np.int8)
    nonempty = ends > starts
    mark[starts[nonempty]] += 1
    mark[ends[nonempty]] -= 1
    content = data[np.cumsum(mark[:-1], dtype=np.int8).astype(bool)]
    offsets = np.zeros(len(starts) + 1, np.int32)
    np.cumsum(ends - starts, out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def bytes_of(lines: pa.Array) -> tuple[Bytes, Numbers]:
    """The bytes of some texts without a null, and where each begins; the last number is where the last one ends."""
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset : lines.offset + len(lines) + 1]
    buffer = lines.buffers()[2]
    data = np.frombuffer(buffer, np.uint8) if buffer is not None and buffer.size else np.zeros(0, np.uint8)
    return data[offsets[0] : offsets[-1]], offsets.astype(np.int64) - int(offsets[0])


def tokens(lines: pa.Array, sep: str, quotes: Sequence[str] = (), escape: str = "\\", after: str = "") -> Tokens:
    r"""The values of each line.

    Args:
        lines: Texts, none null.
        sep: One sign between values.
        quotes: Pairs of signs, such as `""` or `[]`. A value that begins with the first sign of a pair goes to the next
            second one that a separator or the line's end follows, whatever separators lie between. Inside the quotes
            of a pair those of later pairs are nothing.
        escape: The sign before a closing quote that makes it part of the value; it is taken off there.
        after: A sign behind which a quote may open as well, such as `=`.
    """
    data, offsets = bytes_of(lines)
    bounds = np.zeros(len(data) + 1, bool)
    bounds[offsets] = True
    splits = np.flatnonzero(data == ord(sep))
    spans: list[_Spans] = []
    for pair in quotes:
        spans.append(_spans(data, offsets, bounds, sep, pair, escape, after, spans))
        splits = splits[~_inside(spans[-1:], splits)]
    # A line's own separators: those before its end.
    per_line = np.searchsorted(splits, offsets[1:]) - np.searchsorted(splits, offsets[:-1])
    starts = np.sort(np.concatenate([offsets[:-1], splits + 1]), kind="stable")
    ends = np.sort(np.concatenate([offsets[1:], splits]), kind="stable")
    counts = per_line + 1
    first = np.cumsum(counts) - counts
    if sep == " ":
        # A blank at the end of a line is no value.
        last = first + counts - 1
        blank = (starts[last] == ends[last]) & (counts > 1)
        counts = counts - blank
    quoted: list[tuple[str, Flags]] = []
    begins = data[np.minimum(starts, len(data) - 1)] if len(data) else np.zeros(len(starts), np.uint8)
    closes = data[np.maximum(ends - 1, 0)] if len(data) else np.zeros(len(starts), np.uint8)
    bare_starts, bare_ends = starts.copy(), ends.copy()
    for pair in quotes if not after else ():
        around = (ends - starts >= 2) & (begins == ord(pair[0])) & (closes == ord(pair[-1]))
        bare_starts, bare_ends = bare_starts + around, bare_ends - around
        quoted.append((pair[-1], around))
    values = cut(data, bare_starts, bare_ends).cast(pa.string())
    for sign, around in quoted:
        values = unescaped(values, pa.array(around), sign, escape)
    return Tokens(values, first, counts)


def unescaped(values: pa.Array, quoted: pa.Array, sign: str, escape: str) -> pa.Array:
    """Values with the escape taken off where it stands before the sign that closes, of those that were quoted."""
    has_escape = pc.and_(quoted, pc.match_substring(values, escape + sign))
    if not pc.any(has_escape).as_py():
        return values
    return pc.if_else(has_escape, pc.replace_substring(values, escape + sign, sign), values)


def _spans(
    data: Bytes, offsets: Numbers, bounds: Flags, sep: str, pair: str, escape: str, after: str,
    hidden: Sequence[_Spans],
) -> _Spans:  # fmt: skip
    """Where quotes of a pair open and close, line ends among them: positions, and whether what follows is inside."""
    opening, closing = ord(pair[0]), ord(pair[-1])
    opens = np.flatnonzero(data == opening)
    before = data[np.maximum(opens - 1, 0)]
    can_open = bounds[opens] | (before == ord(sep)) | (before == (ord(after) if after else ord(sep)))
    closers = opens if opening == closing else np.flatnonzero(data == closing)
    following = data[np.minimum(closers + 1, len(data) - 1)]
    escaped = _escaped(data, closers, escape, can_open, alike=opening == closing)
    can_close = (bounds[closers + 1] | (following == ord(sep))) & ~escaped
    kinds: list[tuple[Numbers, int]] = [(offsets[:-1], _SHUT)]
    if opening == closing:
        kinds += [
            (opens[can_open & ~can_close], _OPEN), (opens[can_close & ~can_open], _SHUT),
            (opens[can_open & can_close], _EITHER),
        ]  # fmt: skip
    else:
        kinds += [(opens[can_open & ~_inside(hidden, opens)], _OPEN)]
        kinds += [(closers[can_close & ~_inside(hidden, closers)], _SHUT)]
    at = np.concatenate([where for where, _ in kinds])
    kind = np.concatenate([np.full(len(where), number, np.int8) for where, number in kinds])
    order = np.argsort(at, kind="stable")  # a line's beginning comes before a quote at the same place
    at, kind = at[order], kind[order]
    # The state after a sign that opens or shuts is known; one that may do either turns the state before it.
    either = kind == _EITHER
    decided = np.maximum.accumulate(np.where(either, 0, np.arange(len(kind))))
    turns = np.cumsum(either)
    return at, ((kind[decided] == _OPEN) ^ ((turns - turns[decided]) & 1).astype(bool))


_SHUT, _OPEN, _EITHER = 0, 1, 2


def _inside(spans: Sequence[_Spans], positions: Numbers) -> Flags:
    inside: Flags = np.zeros(len(positions), bool)
    for at, state in spans:
        inside |= state[np.maximum(np.searchsorted(at, positions, side="right") - 1, 0)]
    return inside


def _escaped(data: Bytes, signs: Numbers, escape: str, can_open: Flags, *, alike: bool) -> Flags:
    """Whether an odd number of escapes stands before each sign."""
    marks = np.flatnonzero(data == ord(escape))
    if not len(marks) or not len(signs):
        return np.zeros(len(signs), bool)
    is_mark = np.zeros(len(data) + 1, bool)
    is_mark[marks] = True
    if alike and len(signs) == len(marks) and (signs == marks).all():
        # Quotes are doubled: one that opens a value escapes nothing.
        is_mark[signs[can_open]] = False
    # How many escapes end right before each place: the distance to the last byte that is none.
    place = np.arange(len(data) + 1)
    last_other = np.maximum.accumulate(np.where(is_mark, -1, place))
    run = np.where(signs > 0, (signs - 1) - last_other[np.maximum(signs - 1, 0)], 0)
    odd: Flags = run % 2 == 1
    return odd
