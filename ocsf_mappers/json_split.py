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

RECORD_WINDOWS = 4
"""A single record may fill this many windows."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW = msgspec.json.Decoder(msgspec.Raw)
# A string that does not end takes all that follows: brackets in it must not count.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_LIST_END = re.compile(rb"\]\s*\}?\s*\Z")
_FIRST_KEY = re.compile(rb'\{\s*"[^"\\]{1,64}"\s*:')
_NOT_SPACE = re.compile(rb"\S")


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


def split(data: bytes, lists: Sequence[str]) -> Piece:
    """The records of one whole object.

    Args:
        data: JSON: a document with the records in a list, an array, one record, or records line by line.
        lists: Names of the members that hold the records, such as `Records`.
    """
    body = data.strip()
    if not body:
        return Piece()
    for attempt in (_document, _lines, _glued):
        try:
            return Piece(attempt(body, lists))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            continue
    return salvage(body, lists)


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
        end = _closing(body, begin) if body[begin] == 0x7B else None
        if end is None:
            raise msgspec.DecodeError("there is more than objects")
        yield body[begin:end]
        rest = _NOT_SPACE.search(body, end)
        begin = rest.start() if rest else len(body)


def salvage(data: bytes, lists: Sequence[str]) -> Piece:
    """Records found by their brackets in a document that does not parse; they may be bad JSON themselves."""
    start = _list_start(data, lists)
    first_key = _FIRST_KEY.search(data, start)
    records: list[msgspec.Raw | bytes] = []
    piece = Piece(records)
    position, mark = start, start
    while (begin := data.find(b"{", position)) >= 0:
        end = _closing(data, begin)
        resume = data.find(first_key.group(), begin + 1, end or len(data)) if first_key else -1
        if end is None or (resume >= 0 and not _parses(data[begin:end])):
            stop = resume if resume >= 0 else len(data)
            _strange(piece, data[mark:stop], "JSON is broken: it does not end before the next record begins")
            position = mark = stop
            continue
        _strange(piece, data[mark:begin], "text that is no JSON record")
        records += _listed(data[begin:end], lists)
        position = mark = end
    _strange(piece, data[mark:], "text that is no JSON record")
    return piece


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


def _closing(data: bytes, begin: int) -> int | None:
    """Where the object that begins here ends; None when its brackets do not close."""
    open_brackets: list[int] = []
    for token in _TOKEN.finditer(data, begin):
        mark = data[token.start()]
        if mark in b"{[":
            open_brackets.append(mark)
        elif mark in b"}]":
            if not open_brackets or (open_brackets.pop() == 0x7B) != (mark == 0x7D):
                return None
            if not open_brackets:
                return token.end()
    return None


def _strange(piece: Piece, text: bytes, reason: str) -> None:
    text = text.strip(b" \t\r\n,")
    if text and text.strip(b"]} \t\r\n"):
        piece.bad.append((len(piece.records) + len(piece.bad), reason, text[:KEPT_BYTES]))


class Windows:
    """A document too large to hold, split window by window.

    A window is cut at the last place where all before it parses as whole records, which a parser decides: brackets
    inside strings cannot mislead it.
    """

    def __init__(self, lists: Sequence[str], window_bytes: int) -> None:
        self.lists = lists
        self.window_bytes = window_bytes

    def pieces(self, blocks: Iterator[bytes], head: bytes) -> Iterator[Piece]:
        """Pieces of the document that begins with `head`; the last one may be damaged."""
        window = bytearray(head)
        start = _list_start(bytes(window[:8192]), self.lists)
        inside = (start > 0 and not _another_follows(window)) or window.lstrip().startswith(b"[")
        if inside:
            del window[: start or window.index(b"[") + 1]
        for block in blocks:
            window += block
            if len(window) < self.window_bytes:
                continue
            end = _record_cut(window) if inside else window.rfind(b"\n") + 1
            if end:
                yield self._piece(bytes(window[:end]), inside)
                del window[:end]
            elif (end := _closed_end(window)) > 0:
                yield salvage(bytes(window[:end]), ()) if inside else split(bytes(window[:end]), self.lists)
                del window[:end]
            elif len(window) >= RECORD_WINDOWS * self.window_bytes:
                yield Piece((), [(0, f"a record is longer than {len(window)} bytes", bytes(window[:KEPT_BYTES]))])
                window.clear()
        tail = bytes(window)
        yield self._tail(tail) if inside else split(tail, self.lists)

    def _piece(self, text: bytes, inside: bool) -> Piece:
        return split(b"[" + text.strip(b" \t\r\n,") + b"]", ()) if inside else split(text, self.lists)

    def _tail(self, text: bytes) -> Piece:
        if (end := _LIST_END.search(text)) is not None:
            try:
                return Piece(_RAWS.decode(b"[" + text[: end.start()].strip(b" \t\r\n,") + b"]"))
            except (msgspec.DecodeError, RecursionError):
                pass
        return salvage(text, ())


def _another_follows(window: bytearray) -> bool:
    """Whether a second document begins like the first: never within one, where a comma or a bracket stands before."""
    first = _FIRST_KEY.search(window)
    return first is not None and re.search(rb"\}\s*" + re.escape(first.group()), window) is not None


def _closed_end(window: bytearray) -> int:
    """Where the last object ends whose brackets close; 0 when the first one does not."""
    data, end = bytes(window), 0
    while (begin := data.find(b"{", end)) >= 0:
        closed = _closing(data, begin)
        if closed is None:
            break
        end = closed
    return end


def _record_cut(window: bytearray) -> int:
    """The end of the last whole record that is followed by another one; 0 when none is found."""
    found = _FIRST_KEY.search(window)
    if found is None:
        return 0
    key, stop = found.group(), len(window)
    for _ in range(64):
        stop = window.rfind(key, 0, stop)
        if stop <= 0:
            return 0
        before = bytes(window[:stop]).rstrip()
        if not before.endswith(b","):
            continue
        try:
            _RAWS.decode(b"[" + before.strip(b" \t\r\n,") + b"]")
        except (msgspec.DecodeError, RecursionError):
            continue
        return stop
    return 0
