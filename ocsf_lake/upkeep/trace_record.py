"""One record of a raw object: whether the object is as it was, and the record's text as it stands in it.

The readers of ingest find the record by its number, whatever the object is packed in. Whether the text that they give
is what stands in the object, byte for byte, is not taken from them: it is looked for in the object's decompressed
bytes. Where it is not there, as of a line that came inside the JSON of another service, the document that it came in
is; of a row of Parquet, or of text in UTF-16, there is none, and the reason names that.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.config import Settings
from ocsf_lake.ingest.parts import Piece, SetAsideError, Source
from ocsf_lake.storage import objects, retry, s3
from ocsf_lake.storage.objects import ObjectError, ObjectRef
from ocsf_lake.text import iso8601
from ocsf_mappers import DelimitedInJson, Engine, JsonRecords
from ocsf_mappers.errors import OcsfMappersError, ReadError
from ocsf_mappers.readers import of_object, streams
from ocsf_mappers.readers.json_split import RECORD_BYTES
from ocsf_mappers.readers.streams import Blocks

UNCHANGED, CHANGED, GONE, CLOSED = "unchanged", "changed", "gone", "not readable"
"""States of a raw object: as it was read; with another ETag; not there; not to be had for another reason."""

VERSION_BYTES = 256 << 20
"""An earlier version of an object is read whole, up to this size."""

PARQUET = b"PAR1"
NO_TEXT = "a row of a Parquet file has no text of its own; its values are given as they are read"
UTF16 = "the object is in UTF-16, and this is the text in UTF-8"
CARRIED = "it stands escaped or packed in the document that it came in, which is given byte for byte"
UNLIKE = "the object does not hold it byte for byte as it is read"


@dataclass(frozen=True)
class RawState:
    """A raw object now.

    Args:
        uri: Its URI.
        etag: Its ETag when it was read; MD5 of its bytes, in hex, where the store has none.
        state: One of `UNCHANGED`, `CHANGED`, `GONE`, `CLOSED`.
        etag_now: Its ETag now.
        size: Bytes, as stored, now.
        modified: When it was last changed, ISO 8601, if the store says so.
        version: Version of the object in a bucket that keeps them: the one with the ETag it was read with.
        reason: What is wrong with it.
    """

    uri: str
    etag: str
    state: str
    etag_now: str | None = None
    size: int | None = None
    modified: str | None = None
    version: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """A record as its object has it.

    Args:
        number: Of the record in the object, from 1, as readers count.
        text: The text that the reader split out; None where it is unavailable.
        exact: Whether these very bytes stand in the object, decompressed.
        offset: Where they begin there, in bytes.
        line: In which line, from 1.
        places: How often the same bytes stand there.
        document: The document that the record came in, where its text stands in there otherwise; exact.
        document_offset: Where that begins.
        values: Column -> value, of a row of Parquet.
        reason: Why there is no exact text.
    """

    number: int
    text: str | None = None
    exact: bool = False
    offset: int | None = None
    line: int | None = None
    places: int = 0
    document: bytes | None = None
    document_offset: int | None = None
    values: dict[str, str | None] | None = None
    reason: str | None = None


# -- the object -------------------------------------------------------------------------------------------------------
class Raw:
    """A raw object, in the version that was read where that is still to be had.

    Args:
        uri: Its URI.
        etag: Its ETag when it was read.
        settings: How it is reached, and limits.
    """

    def __init__(self, uri: str, etag: str, settings: Settings) -> None:
        self._settings = settings
        self._ref: ObjectRef | None = None
        self._kept: bytes | None = None
        self._version: Callable[[], bytes] | None = None  # reads the earlier version
        self.state = self._looked_at(uri, etag)

    @property
    def is_there(self) -> bool:
        """Whether the bytes that were read can be read again."""
        return self._ref is not None

    @contextmanager
    def opened(self, ref: ObjectRef | None = None) -> Iterator[BinaryIO]:
        """Its bytes, raw, as they were read.

        Raises:
            ObjectError: They are not to be had.
        """
        if self._ref is None:
            raise ObjectError(self.state.reason or self.state.state, object=self.state.uri)
        if self._kept is None and self._version is not None:
            with s3.translate_errors(self._ref.uri, denied=ObjectError):
                self._kept = self._version()
        elif self._kept is None and s3.concerns(self._ref.uri) and self._ref.size <= objects.WHOLE_BYTES:
            with objects.opened(self._ref, self._settings.input_access) as file:
                self._kept = file.read()  # it is looked through several times
        if self._kept is not None:
            yield io.BytesIO(self._kept)
            return
        with objects.opened(ref or self._ref, self._settings.input_access) as file:
            yield file

    def forget(self) -> None:
        """Lets go of bytes that are kept in memory; whoever opens it again reads them again."""
        self._kept = None

    def pieces(self, engine: Engine) -> Iterator[Piece]:
        """Its records, as ingest reads them.

        Raises:
            ObjectError: They are not to be had.
            SetAsideError: It has no records.
        """
        if self._ref is None:
            raise ObjectError(self.state.reason or self.state.state, object=self.state.uri)
        reading = Source(engine.mapper, self._settings)
        reading.opener = self  # type: ignore[assignment]  # which opens what it is asked for, as that does
        yield from reading.pieces(self._ref)

    def _looked_at(self, uri: str, etag: str) -> RawState:
        state = RawState(uri, etag, CLOSED)
        try:
            fs, path = objects.filesystem(uri, self._settings.input_access)
            fs.invalidate_cache()
            with s3.translate_errors(uri, denied=ObjectError):
                try:
                    info = objects.followed(fs, retry.call(fs.info, path))
                except FileNotFoundError:
                    state = replace(state, state=GONE, reason="the object is gone")
                else:
                    state = self._compared(fs, info, state)
                return self._earlier(fs, path, state) if state.state in (CHANGED, GONE) and s3.is_s3(fs) else state
        except (OcsfMappersError, OSError) as error:
            return replace(state, reason=str(error))

    def _compared(self, fs: Any, info: dict[str, Any], state: RawState) -> RawState:
        if info["type"] != "file":
            return replace(state, state=GONE, reason="a folder has its name now")
        ref = objects.with_etag(objects.unhashed(fs, info))
        modified = info.get("LastModified") or info.get("mtime") or info.get("created")
        state = replace(
            state, etag_now=ref.etag or None, size=ref.size, version=_version(info.get("VersionId")),
            modified=_moment(modified),
        )  # fmt: skip
        if not ref.etag:
            return replace(state, reason="it cannot be read")
        if ref.etag != state.etag:
            return replace(state, state=CHANGED, version=None, reason="the object has another content than was read")
        self._ref = replace(ref, uri=state.uri)
        return replace(state, state=UNCHANGED)

    def _earlier(self, fs: Any, path: str, state: RawState) -> RawState:
        """The version that was read, of a bucket that keeps versions and lets us list them."""
        try:
            with s3.translate_errors(state.uri, denied=ObjectError):
                earlier = s3.version_of(fs, path, state.etag)
                if earlier is None:
                    return state
                version, size = earlier
                if size > VERSION_BYTES:
                    reason = f"{state.reason}; its earlier version is there, and too large to be read here"
                    return replace(state, version=version, reason=reason)
                self._version = partial(s3.read_version, fs, path, version)
                self._kept = self._version()
        except (OcsfMappersError, OSError) as error:
            return replace(state, reason=f"{state.reason}; earlier versions cannot be had: {error}")
        self._ref = ObjectRef(state.uri, state.etag, len(self._kept))
        return replace(state, version=version, reason=f"{state.reason}; its earlier version is read")


def _moment(given: object) -> str | None:
    if isinstance(given, int | float):
        given = datetime.fromtimestamp(given, UTC)
    return iso8601(given) if isinstance(given, datetime) else None


def _version(given: object) -> str | None:
    return str(given) if given not in (None, "", "null") else None


# -- the record -------------------------------------------------------------------------------------------------------
def read(raw: Raw, engine: Engine, number: int, settings: Settings) -> tuple[Record, Piece | None]:
    """A record of an object, and the chunk of it alone, to be mapped.

    Args:
        raw: The object.
        engine: Of the source that the object was read as.
        number: The record's number.
        settings: Limits.
    """
    record = Record(number)
    if not raw.is_there:
        return replace(record, reason=raw.state.reason), None
    try:
        piece = _piece(raw, engine, number)
        if piece is None:
            return replace(record, reason="the object reads differently now: it has no such record"), None
        with raw.opened() as file:
            head = file.read(len(PARQUET))
        if head == PARQUET:
            columns = piece.chunk.records.drop_columns(["_record"]).to_pylist()
            values = dict(zip(piece.chunk.names, columns[0].values(), strict=True)) if columns else None
            return replace(record, values=values, reason=NO_TEXT), piece
        return _Text(raw, engine, piece, settings).located(record), piece
    except (OcsfMappersError, SetAsideError, OSError) as error:
        return replace(record, reason=str(error)), None


def _piece(raw: Raw, engine: Engine, number: int) -> Piece | None:
    for piece in raw.pieces(engine):
        chunk = piece.chunk
        records = chunk.records.filter(pc.equal(chunk.records["_record"], pa.scalar(number, pa.int64())))
        bad = [item for item in chunk.bad if item.record == number]
        if len(records) or bad:
            return replace(piece, chunk=replace(chunk, records=records, bad=bad, dropped={}))
    return None


@dataclass
class _Text:
    """The text of one record, looked for in its object."""

    raw: Raw
    engine: Engine
    piece: Piece
    settings: Settings
    reader: Any = field(init=False)

    def located(self, record: Record) -> Record:
        chunk = self.piece.chunk
        whole = chunk.bad[0].text if chunk.bad else self.engine.texts(chunk)[0]
        has_inner = len(chunk.records) and "_raw" in chunk.records.column_names
        inner = chunk.records["_raw"][0].as_py() if has_inner else None
        with self.raw.opened() as file:
            blocks = Blocks(file, self.settings.limits)
            head = blocks.head
        self.reader = next(reader for reader in self.engine.mapper.readers if reader.accepts(head))
        is_json = isinstance(self.reader, JsonRecords | DelimitedInJson)
        # What quarantine would keep, and the record alone, which a carrier may hold as it is.
        for text in dict.fromkeys(text for text in (inner, whole) if text):
            search = self._search(text.encode(), None if is_json else record.number)
            if search.places:
                exact = replace(
                    record, text=text, exact=True, offset=search.offset, line=search.line, places=search.places
                )
                return self._in_document(exact) if is_json and text != whole else exact
        if not is_json and (line := self._line(record.number)) is not None:
            text, offset = line
            return replace(record, text=text, exact=True, offset=offset, line=record.number, places=1)
        inexact = replace(record, text=inner or whole, reason=UTF16 if self._is_utf16() else UNLIKE)
        inexact = self._in_document(inexact) if is_json else inexact
        return replace(inexact, reason=CARRIED) if inexact.document else inexact

    def _in_document(self, record: Record) -> Record:
        """The record with the document that it came in, if that stands in the object."""
        with self.raw.opened() as file:
            reader = of_object(self.reader, self.piece.ref.uri)
            assert isinstance(reader, JsonRecords | DelimitedInJson)
            document = reader.document_of(Blocks(file, self.settings.limits), record.number)
        if not document or (record.text is not None and document == record.text.encode()):
            return record
        search = self._search(document, None)
        return replace(record, document=document, document_offset=search.offset) if search.places else record

    def _blocks(self, file: BinaryIO) -> Iterator[bytes]:
        """The decompressed bytes, as far as they can be read."""
        try:
            yield from streams.uncompressed(file, self.settings.limits)
        except ReadError:
            return

    def _is_utf16(self) -> bool:
        with self.raw.opened() as file:
            return next(self._blocks(file), b"")[:2] in (b"\xff\xfe", b"\xfe\xff")

    def _search(self, text: bytes, line: int | None) -> Search:
        with self.raw.opened() as file:
            return search(self._blocks(file), text, line)

    def _line(self, number: int) -> tuple[str, int] | None:
        """A line of a text log, where it has the values that were read: these may be spelled otherwise in it."""
        with self.raw.opened() as file:
            data, offset = line_of(self._blocks(file), number)
        try:
            text = data.rstrip(b"\r\n").decode()
        except UnicodeDecodeError:
            return None
        columns = self.piece.chunk.records.drop_columns(["_record"]).to_pylist()
        values = [value for value in columns[0].values() if value is not None] if columns else []
        return (text, offset) if text and values and all(value in text for value in values) else None


@dataclass
class Search:
    """Where some bytes stand: the first place, or the one in the line that was asked for; and how often."""

    offset: int | None = None
    line: int | None = None
    places: int = 0


def search(blocks: Iterator[bytes], needle: bytes, line: int | None) -> Search:
    """Looks for bytes in a stream, of which memory holds a block and what may be the beginning of them.

    Args:
        blocks: The stream.
        needle: The bytes, at least one.
        line: Of a text log, the line that they begin in; they count only where they are whole lines.
    """
    result = Search()
    buffered, base, lines, start = b"", 0, 1, 0
    for block in chain(blocks, (None,)):
        is_end = block is None
        buffered += block or b""
        counted = 0  # newlines before this place of what is buffered are in `lines`
        at = buffered.find(needle, max(start - base, 0))
        while at >= 0 and (is_end or at + len(needle) < len(buffered)):
            lines += buffered.count(b"\n", counted, at)
            counted = at
            before, after = buffered[max(at - 1, 0) : at], buffered[at + len(needle) : at + len(needle) + 1]
            if line is None or (before in (b"", b"\n", b"\r") and after in (b"", b"\n", b"\r")):
                result.places += 1
                if result.places == 1 or lines == line:
                    result.offset, result.line = base + at, lines
            start = base + at + (1 if line is not None else len(needle))
            at = buffered.find(needle, start - base)
        cut = max(len(buffered) - len(needle) - 2, counted)
        lines += buffered.count(b"\n", counted, cut)
        buffered, base = buffered[cut:], base + cut
    return result


def line_of(blocks: Iterator[bytes], number: int) -> tuple[bytes, int]:
    """A line of a stream by its number, from 1, and where it begins; nothing where there are fewer."""
    base, lines, begin = 0, 1, 0
    pieces: list[bytes] = []
    for block in blocks:
        at = 0
        while lines < number and (end := block.find(b"\n", at)) >= 0:
            at, lines = end + 1, lines + 1
            begin = base + at
        if lines == number and at < len(block):
            end = block.find(b"\n", at)
            pieces.append(block[at : end if end >= 0 else len(block)])
            if end >= 0 or sum(map(len, pieces)) > RECORD_BYTES:
                break
        base += len(block)
    return b"".join(pieces), begin
