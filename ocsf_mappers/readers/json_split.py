"""JSON documents taken apart into the text of their records, without reading the records.

Whole documents go through msgspec, which checks the syntax and finds the boundaries in C. A document that does not
parse is salvaged: its records are found by their brackets, so that one bad record costs only itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, chain

import msgspec
import numpy as np
import pyarrow as pa

from ocsf_mappers.readers import surrogates
from ocsf_mappers.readers.members import RepeatedError, raw_members

KEPT_BYTES = 1 << 20
"""Of text that is not a record, this much is kept in quarantine."""

RECORD_BYTES = 4 << 20
"""The longest record. CloudTrail's own limit is 1 MB; where a document is broken, a record may not swallow the rest."""

TOO_LONG = f"the record is longer than {RECORD_BYTES} bytes"

HEAD_BYTES = 8 << 10
"""The list of records begins within this much of its document, where the document has to be taken apart by brackets."""

NO_OBJECT = "not a JSON object"
NO_RECORD = "text that is no JSON record"
NO_JSON = "the record is not valid JSON"
BROKEN = "JSON is broken: it does not end before the next record begins"

KEY_BYTES, KEY_CANDIDATES = 128 << 10, 32
"""How records begin is found out in so much of a damaged text, among so many ways in which objects begin there."""

CUT_ATTEMPTS = 4
"""A window is parsed this often, each time without its last record, before its brackets are counted."""

COLUMN_BYTES = 2**31 - 1
"""What a column of texts may hold."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)
_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What a parser raises: too deep, or a member's name that is not UTF-8."""
# A string that does not end takes all that follows: brackets in it must not count. Nothing here is ever tried twice
# (`*+`), so that text made to mislead costs no more time than any other.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|:\s*+[{\[]|[{}\[\]]', re.DOTALL)
_FIRST_KEY = re.compile(rb'\{\s*"[^"\\]{1,64}"\s*:')
_MEMBER = re.compile(rb'[\s}\],]*+"[^"\\]{0,256}"\s*+:')
_SEPARATED = re.compile(rb"[\s,]*+")
_LIST_CLOSED = re.compile(rb"\s*+\]")
_LIST_OPENED = re.compile(rb'[\s\],]*+"([A-Za-z]{1,64})"\s*+:\s*+\[\s*+')
_NAME = re.compile(rb'"([^"\\]{1,64})"\s*+:')
_ESCAPED_NAME = re.compile(rb'"[^"\\]*+\\[^"]*+"\s*+:')
_ARRAY = re.compile(rb"\s*+\[")
_NOT_SPACE = re.compile(rb"\S")
_BLANK = b" \t\r\n"
_SEPARATORS = _BLANK + b","
_OBJECT, _OBJECT_END, _LIST, _QUOTE, _COLON = b'{}[":'


@dataclass
class Piece:
    """Records found in some bytes, in order, and the text in which none was found.

    `bad` holds (position among the records and bad texts, reason, text).
    """

    records: Sequence[msgspec.Raw | bytes] = ()
    bad: list[tuple[int, str, bytes]] = field(default_factory=list)


def text_array(records: Sequence[msgspec.Raw | bytes], joined: bytes) -> pa.Array:
    """JSON texts as one Arrow column over their joined bytes, which may not be UTF-8: cast to string to find out."""
    if len(joined) > COLUMN_BYTES:
        raise pa.ArrowInvalid(f"{len(joined)} bytes of records are more than a column holds")
    lengths = map(len, map(memoryview, records))  # type: ignore[arg-type]  # Raw is a buffer
    ends = np.fromiter(accumulate(lengths, initial=0), np.int32, len(records) + 1)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(joined)]
    return pa.Array.from_buffers(pa.binary(), len(records), buffers)


def split(data: bytes, lists: Sequence[str], inner: Sequence[str] = ()) -> Piece:
    """The records of one whole object.

    Args:
        data: JSON: a document with the records in a list, an array, one record, or records line by line.
        lists: Names of the members that hold the records, such as `Records`.
        inner: Names of members that hold lists of records in documents that are given whole. Only of a document that is
            damaged the records are given one by one.
    """
    body = data.strip()
    if not body:
        return Piece()
    for attempt in (_document, _lines, _glued):
        try:
            return Piece(attempt(body, lists))
        except _ERRORS:
            continue
    piece = salvage(body, lists, inner)
    if not piece.records and not piece.bad:
        piece.bad.append((0, NO_RECORD, body[:KEPT_BYTES]))
    return piece


def _document(body: bytes, lists: Sequence[str]) -> Sequence[msgspec.Raw]:
    if body.startswith(b"["):
        return _RAWS.decode(body)
    try:
        document = _document_decoder(tuple(lists)).decode(body)
        record_lists = [records for name in lists if (records := getattr(document, name)) is not None]
    except msgspec.ValidationError:  # a member of that name is no list
        members = _MEMBERS.decode(body)
        values = [members[name] for name in lists if name in members]
        record_lists = [_RAWS.decode(member) for member in values if bytes(memoryview(member)[:1]) == b"["]
    around = _around(body, record_lists)
    if any(around.count(b'"' + name.encode() + b'"') > 1 for name in lists) or (b"\\u" in around and _repeats(body)):
        # A parser keeps the last of two members of the same name; the brackets lead to the records of both.
        raise msgspec.DecodeError("a list of records may stand there twice")
    return list(chain.from_iterable(record_lists)) if record_lists else [msgspec.Raw(body)]


def _repeats(body: bytes) -> bool:
    try:
        raw_members(body)
    except RepeatedError:
        return True
    return False


def _around(body: bytes, lists: Sequence[Sequence[msgspec.Raw]]) -> bytes:
    """The document without the records of these lists: a few bytes, where the document has millions."""
    start = pa.py_buffer(body).address
    spans = []
    for records in filter(None, lists):
        first, last = pa.py_buffer(records[0]), pa.py_buffer(records[-1])
        spans.append((first.address - start, last.address + last.size - start))
    parts, position = [], 0
    for begin, end in sorted(spans):
        parts.append(body[position:begin])
        position = end
    return b"".join([*parts, body[position:]])


@cache
def _document_decoder(lists: tuple[str, ...]) -> msgspec.json.Decoder[msgspec.Struct]:
    """A decoder that finds the lists of records in one pass and skips everything else."""
    fields = [(name, list[msgspec.Raw] | None, None) for name in lists]
    return msgspec.json.Decoder(msgspec.defstruct("Document", fields))


def _lines(body: bytes, lists: Sequence[str]) -> Sequence[msgspec.Raw]:
    records = _RAW.decode_lines(body)
    if not any(b'"' + name.encode() + b'"' in body for name in lists):
        return records
    return [inner for record in records for inner in _document(bytes(record), lists)]


def _glued(body: bytes, lists: Sequence[str]) -> Sequence[msgspec.Raw]:
    """Documents with nothing between them, as Firehose delivers what CloudWatch Logs subscriptions send."""
    if b"}{" not in body:
        raise msgspec.DecodeError("nothing is glued together")
    try:
        return _lines(body.replace(b"}{", b"}\n{"), lists)
    except msgspec.DecodeError:  # some text holds these two characters: then the brackets are counted
        return [record for document in _cut(body) for record in _document(document, lists)]


def _cut(body: bytes) -> Iterator[bytes]:
    """Objects that stand one after the other, with nothing but white space between."""
    begin = 0
    while begin < len(body):
        end = _closing(body, begin, len(body))[0] if body[begin] == _OBJECT else None
        if end is None:
            raise msgspec.DecodeError("there is more than objects")
        yield body[begin:end]
        following = _NOT_SPACE.search(body, end)
        begin = following.start() if following else len(body)


def salvage(data: bytes, lists: Sequence[str], inner: Sequence[str] = ()) -> Piece:
    """Records found by their brackets in a document that does not parse; they may be bad JSON themselves."""
    return Salvage(data, lists, inner).piece()


class Salvage:
    """Records found by their brackets in text that does not parse.

    A record is broken when its brackets do not close, or close only behind the beginning of another one. To find out,
    the text is read beyond that beginning, and then again from there; `spare` bounds how much is read twice, so that
    the time grows with the length of the text and with nothing else. What is broken is kept as regions of text, as
    `_Regions` joins them, so that damage without end costs a few entries.

    Args:
        data: The text.
        lists: Names of the members that hold the records.
        inner: The same in documents that are given whole where they are not damaged.
        more: Whether the text goes on elsewhere: then a last record that does not end is left (see `end`).
        first_key: How records begin, where that is known, see `_record_key`.
    """

    def __init__(
        self, data: bytes, lists: Sequence[str], inner: Sequence[str] = (), *, more: bool = False,
        first_key: bytes | None = None,
    ) -> None:  # fmt: skip
        self.data = data
        self.lists = lists
        self.all_lists = (*lists, *inner)
        self.more = more
        self.scanned = 0
        """Bytes looked at for brackets."""
        self.spare = 2 * len(data)
        self.end = 0
        """What stands before this was taken."""
        self.cut = False
        """Whether the last record is too long to wait for its end: the text that follows belongs to it."""
        self.start = _list_start(data, lists)
        self._first_key = first_key or _record_key(data, self.start)
        self._next: dict[bytes, int] = {}
        self._records: list[msgspec.Raw | bytes] = []
        self._regions = _Regions(data, Piece(self._records), self._first_key)

    def piece(self) -> Piece:
        """All records, and what stands between them."""
        data, regions = self.data, self._regions
        position = mark = last = self.start
        while True:
            begin = data.find(b"{", position)
            if begin < 0 or self._is_end(mark):
                begin = len(data)
            if fragment := self._fragment(last, mark, begin):
                start, stop, whole = fragment
                if start == last < mark:
                    self._records.pop()
                if not whole:
                    begin = mark = start
                    break
                regions.add(start, stop, BROKEN, inside=start == mark)
                position = mark = last = stop
                continue
            if begin == len(data):
                break
            key = self._after(self._first_key, begin)
            resume = min(key, self._after(b"\n{", begin) + 1, len(data))
            limit = len(data) if self.spare > 0 else resume
            end, reached = _closing(data, begin, limit)
            self.scanned += reached - begin
            whole = end is not None and (end <= key or not self._swallows(key))
            if end is not None and whole and _parses(data[begin:end]):
                regions.strange(mark, begin)
                regions.closed()
                records = _listed(data[begin:end], self.lists)
                self._records += records
                last = begin if len(records) == 1 else end
                position = mark = end
                continue
            goes_on = self.more and end is None and reached == len(data)
            if goes_on and reached - begin < RECORD_BYTES:
                break
            if end is not None and end <= key:
                regions.strange(mark, begin)
                regions.add(begin, end, NO_JSON)
                position = mark = last = end
                continue
            stop = resume if end is None else key
            self.spare -= max(reached - stop, 0)
            if inner := _list_start(data[begin : begin + HEAD_BYTES], self.all_lists):
                regions.strange(mark, begin)
                position = mark = last = begin + inner
                continue
            self.cut = goes_on and stop == len(data)
            regions.add(mark, stop, TOO_LONG if self.cut else BROKEN)
            position = mark = last = stop
        regions.strange(mark, begin)
        self.end = begin
        return regions.closed()

    def _after(self, text: bytes | None, begin: int) -> int:
        """Where the text stands next behind a place; beyond the end when it does not. The places only grow."""
        if text is None:
            return len(self.data)
        if self._next.get(text, 0) <= begin:
            place = self.data.find(text, begin + 1)
            self._next[text] = place if place >= 0 else len(self.data)
        return self._next[text]

    def _swallows(self, key: int) -> bool:
        """Whether an object that goes beyond the beginning of another record lost its end before that one.

        A record may hold others like itself, as the value of a member or as a whole list of them. Where one stands
        behind another item of a list, that list was left open, and took the records that follow for its own.
        """
        return _ends_with(self.data, key, b",")

    def _is_end(self, mark: int) -> bool:
        """Whether nothing follows but the end of the document, with its other members, of which there are a few."""
        if len(self.data) - mark > HEAD_BYTES or not _LIST_CLOSED.match(self.data, mark):
            return False
        tail = self.data[mark:].strip(_BLANK)
        if _ESCAPED_NAME.search(tail):
            return False  # it may be the name of a list
        return _ends_document(tail) and not any(b'"' + name.encode() + b'"' in tail for name in self.all_lists)

    def _fragment(self, last: int, mark: int, begin: int) -> tuple[int, int, bool] | None:
        """Whether members of a torn record stand between the last whole record and the next object.

        They are those of the last record where it ended too early; those of the next one, which lost its beginning,
        where the last record has members of the same names.

        Args:
            last: Where the last record begins.
            mark: Where it ends.
            begin: Where the next object begins.

        Returns:
            Where what is torn begins and ends, and whether that is certain: the text may go on elsewhere.
        """
        data = self.data
        if mark == begin or (not _MEMBER.match(data, mark) and not _ends_with(data, begin, b":")):
            return None
        if (opening := _LIST_OPENED.fullmatch(data, mark, begin)) and opening.group(1).decode() in self.all_lists:
            return None
        stop = min(self._after(self._first_key, mark), self._after(b"\n{", mark) + 1, len(data))
        if self._is_end(mark):
            return None
        start = mark
        if last < mark and _MEMBER.match(data, mark):
            names = _names(data[last:mark])
            following = {match.group(1) for match in _NAME.finditer(data, mark, min(stop, mark + RECORD_BYTES))}
            start = mark if names & following else last
        return start, stop, not (self.more and stop == len(data) and stop - start < RECORD_BYTES)


def _names(text: bytes) -> set[bytes]:
    """The names of a record's members; none where one is not UTF-8, which only shows when they are read as texts."""
    try:
        return {name.encode() for name in _MEMBERS.decode(text)}
    except _ERRORS:
        return set()


SEPARATE_REGIONS = 16
"""So many broken records in a row are regions of their own; what is broken beyond them is one more region."""


class _Regions:
    """The broken parts of a text, as bad entries of a piece.

    Regions that follow each other with nothing whole between them are one where the second begins inside the first, as
    the value of a member, or does not begin like a record, and where there are too many of them.
    """

    def __init__(self, data: bytes, piece: Piece, first_key: bytes | None) -> None:
        self.data = data
        self.first_key = first_key or b"{"
        self.piece = piece
        self._open: tuple[int, int, str] | None = None
        self._in_a_row = 0

    def add(self, begin: int, end: int, reason: str, *, inside: bool = False) -> None:
        """A broken part.

        Args:
            begin: Where it begins.
            end: Where it ends.
            reason: What is wrong.
            inside: Whether it belongs to the broken part that ends where it begins, if there is one.
        """
        if self._open is not None and self._open[1] == begin:
            separator = _SEPARATED.match(self.data, begin)
            like_a_record = self.data.startswith(self.first_key, separator.end() if separator else begin)
            inside = inside or not like_a_record or _ends_with(self.data, begin, b":")
            self._in_a_row += not inside
            if inside or self._in_a_row > SEPARATE_REGIONS:
                self._open = (self._open[0], end, self._open[2])
                return
        else:
            self._in_a_row = 1
        self._flush()
        self._open = (begin, end, reason)

    def strange(self, begin: int, end: int) -> None:
        """Text between two records, which may be signs alone; what is no JSON goes with a broken part before it."""
        text = self.data[begin:end].strip(_SEPARATORS)
        if not text.strip(b"]}" + _SEPARATORS) or _ends_document(text) or _LIST_OPENED.fullmatch(text):
            self._flush()
        elif (values := _values(text)) is not None:
            self._flush()
            self.piece.bad += [(number, NO_OBJECT, item) for number, item in enumerate(values, _position(self.piece))]
        else:
            self.add(begin, end, NO_RECORD, inside=True)

    def closed(self) -> Piece:
        """The piece, with all that is broken in it so far."""
        self._flush()
        return self.piece

    def _flush(self) -> None:
        if self._open is None:
            return
        (begin, end, reason), self._open = self._open, None
        text = self.data[begin:end].strip(_SEPARATORS)
        if len(text) > KEPT_BYTES or self._in_a_row > SEPARATE_REGIONS:
            reason = f"{reason} ({end - begin:,} bytes, of which the first {KEPT_BYTES:,} are kept at most)"
        self.piece.bad.append((_position(self.piece), reason, text[:KEPT_BYTES]))


def _record_key(data: bytes, start: int) -> bytes | None:
    """How records begin, up to the colon of their first member: None where nothing begins so.

    That is the first one, unless it is the first one that is damaged: of the ways in which many objects begin, it is
    the one whose objects hold the most of the text.
    """
    stop = start + KEY_BYTES
    counted = Counter(match.group() for match in _FIRST_KEY.finditer(data, start, stop))
    if len(counted) < 2:
        return next(iter(counted), None)
    candidates = dict.fromkeys([next(iter(counted)), *(key for key, _ in counted.most_common(KEY_CANDIDATES))])
    return max(candidates, key=lambda key: _covered_by(key, data, start, stop))


def _covered_by(key: bytes, data: bytes, start: int, stop: int) -> int:
    """How many bytes stand in objects that begin like this, as far as looking at each byte twice can tell."""
    covered, position, spare = 0, start, 2 * KEY_BYTES
    while spare > 0 and (begin := data.find(key, position, stop)) >= 0:
        end, reached = _closing(data, begin, min(stop, len(data)))
        spare -= reached - begin
        if end is None and reached == min(stop, len(data)):
            return covered + reached - begin
        covered += (end or begin) - begin
        position = end or begin + 1
    return covered


def _listed(text: bytes, lists: Sequence[str]) -> Sequence[msgspec.Raw | bytes]:
    """The records in the list that an object holds, or the object itself."""
    if any(b'"' + name.encode() + b'"' in text for name in lists):
        try:
            return _document(text, lists)
        except _ERRORS:
            # It holds a half of a surrogate pair: what parses when that is mended is still a document with a list.
            if _list_start(text, lists):
                return Salvage(text, lists).piece().records
    return [text]


def _parses(text: bytes) -> bool:
    """Whether this is JSON; halves of surrogate pairs are mended later, record by record."""
    try:
        _RAW.decode(text)
    except _ERRORS:
        if b"\\ud" not in text and b"\\uD" not in text:
            return False
        mended = surrogates.without_halves(text.decode("utf-8", errors="replace"))
        return mended.encode() != text and _parses_as_it_is(mended)
    return True


def _parses_as_it_is(text: str) -> bool:
    try:
        _RAW.decode(text)
    except _ERRORS:
        return False
    return True


def _list_start(data: bytes, lists: Sequence[str]) -> int:
    if array := _ARRAY.match(data):
        return array.end()
    match = _list_opening(tuple(lists)).match(data) if lists else None
    return match.end() if match else 0


@cache
def _list_opening(lists: tuple[str, ...]) -> re.Pattern[bytes]:
    names = b"|".join(re.escape(name.encode()) for name in lists)
    return re.compile(rb'\s*\{[^{}\[\]]{0,4096}?"(?:' + names + rb')"\s*:\s*\[')


def _closing(data: bytes, begin: int, limit: int) -> tuple[int | None, int]:
    """Where the object that begins here ends, None when its brackets do not close; and how far it was read."""
    open_brackets: list[int] = []
    for token in _TOKEN.finditer(data, begin, limit):
        first, mark = data[token.start()], data[token.end() - 1]
        if first == _QUOTE:
            continue
        if mark in b"{[":
            # A value in an object stands behind a colon; otherwise the object before it was not closed.
            if first != _COLON and open_brackets and open_brackets[-1] == _OBJECT:
                return None, token.end()
            open_brackets.append(mark)
            continue
        if not open_brackets or (open_brackets.pop() == _OBJECT) != (mark == _OBJECT_END):
            return None, token.end()
        if not open_brackets:
            return token.end(), token.end()
    return None, limit


def _ends_with(data: bytes, end: int, sign: bytes) -> bool:
    """Whether the last sign before a place is this one, not counting up to 64 blanks."""
    return data[max(end - 64, 0) : end].rstrip(_BLANK).endswith(sign)


def _ends_document(text: bytes) -> bool:
    """Whether this is the end of a list, and of the document around it with its other members."""
    return text.startswith(b"]") and _parses(b'{"":[' + text)


def _values(text: bytes) -> list[bytes] | None:
    """Values of a list that are no objects; None where the text is no JSON."""
    for items in (text, _without_end(text)):
        try:
            return [bytes(item) for item in _RAWS.decode(b"[" + items + b"]")]
        except _ERRORS:
            continue
    return None


def _position(piece: Piece) -> int:
    return len(piece.records) + len(piece.bad)


def _without_end(text: bytes) -> bytes:
    """The items of a list, without the brackets that close the list and the document around it."""
    text = text.rstrip(_BLANK)
    inner = text[:-1].rstrip(_BLANK) if text.endswith(b"}") else text
    return inner[:-1].strip(b" \t\r\n,") if inner.endswith(b"]") else text


class Windows:
    """A document too large to hold, split window by window.

    A window is cut at the last place where all before it parses as whole records, which a parser decides: brackets
    inside strings cannot mislead it. Where none is found, the brackets decide. A record longer than `RECORD_BYTES` is
    bad, and only its beginning is held.
    """

    def __init__(self, lists: Sequence[str], window_bytes: int, inner: Sequence[str] = ()) -> None:
        self.lists = lists
        self.inner = inner
        self.window_bytes = window_bytes
        self._first_key = b""

    def pieces(self, blocks: Iterator[bytes], head: bytes) -> Iterator[Piece]:
        """Pieces of the document that begins with `head`; the last one may be damaged."""
        window = bytearray(head)
        start = _list_start(bytes(window[:HEAD_BYTES]), self.lists)
        inside = (start > 0 and not _another_follows(window)) or window.lstrip().startswith(b"[")
        if inside:
            del window[: start or window.index(b"[") + 1]
        self._first_key = _record_key(bytes(window[:KEY_BYTES]), 0) or b""
        skipping = False
        for block in blocks:
            window += block
            if skipping:
                skipping = not self._skipped(window)
            if len(window) < self.window_bytes or skipping:
                continue
            records, end = self._listed(window) if inside else self._lines(window)
            if end:
                yield Piece(records)
            else:
                salvaged = Salvage(bytes(window), self.lists, self.inner, more=True, first_key=self._first_key)
                yield salvaged.piece()
                end, skipping = salvaged.end, salvaged.cut
            del window[:end]
        if skipping and not self._skipped(window):
            return
        tail = bytes(window)
        yield self._tail(tail) if inside else split(tail, self.lists, self.inner)

    def _skipped(self, window: bytearray) -> bool:
        """Takes off what belongs to a record already given up; whether the next one was found."""
        places = [place for text in (self._first_key, b"\n{") if text and (place := window.find(text)) >= 0]
        del window[: min(places) if places else -len(self._first_key or b"\n")]
        return bool(places)

    def _listed(self, window: bytearray) -> tuple[Sequence[msgspec.Raw], int]:
        """The whole records of a list, and the beginning of the one that follows them; 0 when none is found."""
        stop = len(window)
        for _ in range(CUT_ATTEMPTS):
            stop = window.rfind(self._first_key, 0, stop) if self._first_key else 0
            if stop <= 0:
                break
            before = bytes(window[:stop]).rstrip(_BLANK)
            if not before.endswith(b","):
                continue
            try:
                return _RAWS.decode(b"[" + before.strip(b" \t\r\n,") + b"]"), stop
            except _ERRORS:
                continue
        return (), 0

    def _lines(self, window: bytearray) -> tuple[Sequence[msgspec.Raw], int]:
        end = window.rfind(b"\n") + 1
        try:
            return _lines(bytes(window[:end]).strip(), self.lists), end
        except _ERRORS:
            return (), 0

    def _tail(self, text: bytes) -> Piece:
        items = _without_end(text)
        if len(items) < len(text.rstrip(_BLANK)):
            try:
                return Piece(_RAWS.decode(b"[" + items.strip(b" \t\r\n,") + b"]"))
            except _ERRORS:
                pass
        return Salvage(text, (), first_key=self._first_key).piece()


def _another_follows(window: bytearray) -> bool:
    """Whether a second document begins like the first: never within one, where a comma or a bracket stands before."""
    first = _FIRST_KEY.search(window)
    return first is not None and re.search(rb"\}\s*" + re.escape(first.group()), window) is not None
