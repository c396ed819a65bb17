"""JSON documents taken apart into the text of their records, without reading the records.

Whole documents go through msgspec, which checks the syntax and finds the boundaries in C. A document that does not
parse is salvaged: its records are found by their brackets, so that one bad record costs only itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

KEPT_BYTES = 1 << 20
"""Of text that is not a record, this much is kept in quarantine."""

RECORD_BYTES = 4 << 20
"""The longest record. CloudTrail's own limit is 1 MB; where a document is broken, a record may not swallow the rest."""

TOO_LONG = f"the record is longer than {RECORD_BYTES} bytes"

HEAD_BYTES = 8 << 10
"""The list of records begins within this much of its document, where the document has to be taken apart by brackets."""

NO_OBJECT = "not a JSON object"

CUT_ATTEMPTS = 4
"""A window is parsed this often, each time without its last record, before its brackets are counted."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)
# A string that does not end takes all that follows: brackets in it must not count. Nothing here is ever tried twice
# (`*+`), so that text made to mislead costs no more time than any other.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|:\s*+[{\[]|[{}\[\]]', re.DOTALL)
_FIRST_KEY = re.compile(rb'\{\s*"[^"\\]{1,64}"\s*:')
_NOT_SPACE = re.compile(rb"\S")
_BLANK = b" \t\r\n"
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
    lengths = pa.array(map(len, map(memoryview, records)), pa.int64())  # type: ignore[arg-type]  # Raw is a buffer
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    buffers = [None, offsets.buffers()[1], pa.py_buffer(joined)]
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
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
    return salvage(body, lists, inner)


def _document(body: bytes, lists: Sequence[str]) -> Sequence[msgspec.Raw]:
    if body.startswith(b"["):
        return _RAWS.decode(body)
    try:
        document = _document_decoder(tuple(lists)).decode(body)
        found = [records for name in lists if (records := getattr(document, name)) is not None]
    except msgspec.ValidationError:  # a member of that name is no list
        members = _MEMBERS.decode(body)
        held = [members[name] for name in lists if name in members]
        found = [_RAWS.decode(member) for member in held if bytes(memoryview(member)[:1]) == b"["]
    around = _around(body, found)
    if any(around.count(b'"' + name.encode() + b'"') > 1 for name in lists):
        # A parser keeps the last of two members of the same name; the brackets lead to the records of both.
        raise msgspec.DecodeError("a list of records may stand there twice")
    return list(chain.from_iterable(found)) if found else [msgspec.Raw(body)]


def _around(body: bytes, lists: Sequence[Sequence[msgspec.Raw]]) -> bytes:
    """The document without the records of these lists: a few bytes, where the document has millions."""
    start = pa.py_buffer(body).address
    spans = []
    for records in filter(None, lists):
        first, last = pa.py_buffer(records[0]), pa.py_buffer(records[-1])
        spans.append((first.address - start, last.address + last.size - start))
    rest, position = [], 0
    for begin, end in sorted(spans):
        rest.append(body[position:begin])
        position = end
    return b"".join([*rest, body[position:]])


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
        rest = _NOT_SPACE.search(body, end)
        begin = rest.start() if rest else len(body)


def salvage(data: bytes, lists: Sequence[str], inner: Sequence[str] = ()) -> Piece:
    """Records found by their brackets in a document that does not parse; they may be bad JSON themselves."""
    return Salvage(data, lists, inner).piece()


class Salvage:
    """Records found by their brackets in text that does not parse.

    A record is broken when its brackets do not close, or close only behind the beginning of another one. To find out,
    the text is read beyond that beginning, and then again from there; `spare` bounds how much is read twice, so that
    the time grows with the length of the text and with nothing else.

    Args:
        data: The text.
        lists: Names of the members that hold the records.
        inner: The same in documents that are given whole where they are not damaged.
        more: Whether the text goes on elsewhere: then a last record that does not end is left (see `end`).
    """

    def __init__(self, data: bytes, lists: Sequence[str], inner: Sequence[str] = (), *, more: bool = False) -> None:
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
        found = _FIRST_KEY.search(data, self.start)
        self._first_key = found.group() if found else None
        self._next: dict[bytes, int] = {}

    def piece(self) -> Piece:
        """All records, and what stands between them."""
        data = self.data
        records: list[msgspec.Raw | bytes] = []
        piece = Piece(records)
        position = mark = self.start
        while (begin := data.find(b"{", position)) >= 0:
            key = self._after(self._first_key, begin)
            resume = min(key, self._after(b"\n{", begin) + 1, len(data))
            limit = len(data) if self.spare > 0 else resume
            end, reached = _closing(data, begin, limit)
            self.scanned += reached - begin
            if end is not None and (end <= key or _parses(data[begin:end])):
                _strange(piece, data[mark:begin])
                records += _listed(data[begin:end], self.lists)
                position = mark = end
                continue
            goes_on = self.more and end is None and reached == len(data)
            if goes_on and reached - begin < RECORD_BYTES:
                break
            stop = resume if end is None else key
            self.spare -= max(reached - stop, 0)
            if inner := _list_start(data[begin : begin + HEAD_BYTES], self.all_lists):
                _strange(piece, data[mark:begin])
                position = mark = begin + inner
                continue
            self.cut = goes_on and stop == len(data)
            reason = TOO_LONG if self.cut else "JSON is broken: it does not end before the next record begins"
            piece.bad.append((_position(piece), reason, data[mark:stop].strip(b" \t\r\n,")[:KEPT_BYTES]))
            position = mark = stop
        else:
            begin = len(data)
        _strange(piece, data[mark:begin])
        self.end = begin
        return piece

    def _after(self, text: bytes | None, begin: int) -> int:
        """Where the text stands next behind a place; beyond the end when it does not. The places only grow."""
        if text is None:
            return len(self.data)
        if self._next.get(text, 0) <= begin:
            found = self.data.find(text, begin + 1)
            self._next[text] = found if found >= 0 else len(self.data)
        return self._next[text]


def _listed(text: bytes, lists: Sequence[str]) -> Sequence[msgspec.Raw | bytes]:
    """The records in the list that an object holds, or the object itself."""
    if any(b'"' + name.encode() + b'"' in text for name in lists):
        try:
            return _document(text, lists)
        except (msgspec.DecodeError, RecursionError):
            pass
    return [text]


def _parses(text: bytes) -> bool:
    try:
        _RAW.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _list_start(data: bytes, lists: Sequence[str]) -> int:
    names = b"|".join(re.escape(name.encode()) for name in lists)
    found = re.match(rb'\s*\{[^{}\[\]]{0,4096}?"(?:' + names + rb')"\s*:\s*\[', data) if lists else None
    return found.end() if found else 0


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


def _strange(piece: Piece, text: bytes) -> None:
    """Text between records is bad: values that are no objects one by one, what is no JSON in one."""
    text = text.strip(b" \t\r\n,")
    if not text.strip(b"]} \t\r\n,"):
        return
    for items in (text, _without_end(text)):
        try:
            found = [bytes(item) for item in _RAWS.decode(b"[" + items + b"]")]
        except (msgspec.DecodeError, RecursionError):
            continue
        piece.bad += [(number, NO_OBJECT, item) for number, item in enumerate(found, start=_position(piece))]
        return
    piece.bad.append((_position(piece), "text that is no JSON record", text[:KEPT_BYTES]))


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
        if found := _FIRST_KEY.search(window):
            self._first_key = found.group()
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
                salvaged = Salvage(bytes(window), self.lists, self.inner, more=True)
                yield salvaged.piece()
                end, skipping = salvaged.end, salvaged.cut
            del window[:end]
        if skipping and not self._skipped(window):
            return
        tail = bytes(window)
        yield self._tail(tail) if inside else split(tail, self.lists, self.inner)

    def _skipped(self, window: bytearray) -> bool:
        """Takes off what belongs to a record already given up; whether the next one was found."""
        found = [place for text in (self._first_key, b"\n{") if text and (place := window.find(text)) >= 0]
        del window[: min(found) if found else -len(self._first_key or b"\n")]
        return bool(found)

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
            except (msgspec.DecodeError, RecursionError):
                continue
        return (), 0

    def _lines(self, window: bytearray) -> tuple[Sequence[msgspec.Raw], int]:
        end = window.rfind(b"\n") + 1
        try:
            return _lines(bytes(window[:end]).strip(), self.lists), end
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return (), 0

    def _tail(self, text: bytes) -> Piece:
        items = _without_end(text)
        if len(items) < len(text.rstrip(_BLANK)):
            try:
                return Piece(_RAWS.decode(b"[" + items.strip(b" \t\r\n,") + b"]"))
            except (msgspec.DecodeError, RecursionError):
                pass
        return salvage(text, ())


def _another_follows(window: bytearray) -> bool:
    """Whether a second document begins like the first: never within one, where a comma or a bracket stands before."""
    first = _FIRST_KEY.search(window)
    return first is not None and re.search(rb"\}\s*" + re.escape(first.group()), window) is not None
