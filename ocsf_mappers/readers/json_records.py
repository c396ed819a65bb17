"""JSON records, as AWS delivers most of its logs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers import surrogates
from ocsf_mappers.readers.chunk import Bad, Chunk, bad_text, failure, until_error
from ocsf_mappers.readers.envelope import (
    CARRIERS,
    EVENT_LIST,
    Envelope,
    around_text,
    may_be_carried,
    opened,
    wrapped,
)
from ocsf_mappers.readers.exported import as_log_events, is_exported
from ocsf_mappers.readers.json_split import KEPT_BYTES, RECORD_BYTES, TOO_LONG, Piece, Windows, split, text_array
from ocsf_mappers.readers.members import RepeatedError, raw_members
from ocsf_mappers.readers.streams import Blocks

WINDOW_BYTES = 16 << 20
"""An object is held in memory up to this size and read window by window beyond it."""

OPENED_BYTES = 256 << 20
"""What the documents of one window hold, packed texts among them, may come to about so many bytes."""

_OBJECT = re.compile(rb'\{\s*+"')


@dataclass(frozen=True)
class JsonRecords:
    """JSON: `{"Records": [...]}`, an array, JSON lines, one document, each also inside the documents of other services.

    Records of every source may come in CloudWatch Logs documents and export tasks, EventBridge events, notifications of
    SNS and the like (see `ocsf_mappers.readers.envelope`).

    Args:
        lists: Names of the members that hold lists of records.
        envelopes: Documents that records of this source alone may come in.
        pascal_case: Member that some deliveries write with a capital, such as `SchemaVersion`; the names of all members
            of such a record, at any depth, then lose the capital they begin with. Names that hold other signs than
            letters, digits and `_` stay as they are: they are data, not names.
        renamed: Member -> name it is read under, where it is the record's own and the record has none of that name:
            names that differ by capitals alone cannot both be declared.
        drops: Member -> text there -> why such a record is a counted drop: what the service writes for itself.
        pascal_value: RE2 pattern that the JSON of this member's value begins with, where records of other logs that
            come in the same objects have a member of that name too.
    """

    lists: tuple[str, ...] = ("Records",)
    envelopes: tuple[Envelope, ...] = ()
    pascal_case: str | None = None
    pascal_value: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)
    drops: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    label: str = "JSON"
    texts: bool = False
    """Whether a document may hold a line of text in a record's place; otherwise such a document is bad."""

    @property
    def known_envelopes(self) -> tuple[Envelope, ...]:
        """Every document that a record may come in."""
        return (*self.envelopes, *CARRIERS)

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
                yield failure(error, number)

    def document_of(self, blocks: Blocks, record: int) -> bytes | None:
        """The document that a record came in, as it stands in the object; of a bare record, the record itself.

        Args:
            blocks: The object.
            record: The number that `read` gives the record.
        """
        number = 0
        for piece, _ in self._pieces(blocks):
            damaged = {position: text for position, _, text in piece.bad}
            records = iter(piece.records)
            for position in range(len(piece.records) + len(damaged)):
                document = damaged[position] if position in damaged else bytes(next(records))
                readable = _whole(pa.array([document], pa.binary())).to_pylist()[0]
                number += 1 if position in damaged else len(opened(readable, self.known_envelopes))
                if number >= record:
                    return document
        return None

    def _pieces(self, blocks: Blocks) -> Iterator[tuple[Piece, ReadError | None]]:
        pending: list[bytes] = []
        failed: list[ReadError] = []
        stream = until_error(iter(blocks), failed)
        if is_exported(blocks.head):
            stream = as_log_events(stream)
        for block in stream:
            pending.append(block)
            if sum(map(len, pending)) >= WINDOW_BYTES:
                for piece in Windows(self.lists, WINDOW_BYTES, (EVENT_LIST,)).pieces(stream, b"".join(pending)):
                    yield piece, None
                pending.clear()
                break
        yield split(b"".join(pending), self.lists, (EVENT_LIST,)), failed[0] if failed else None

    def _chunks(self, piece: Piece, before: int) -> Iterator[Chunk]:
        if not piece.records and not piece.bad:
            return
        skipped = {before + 1 + position for position, _, _ in piece.bad}
        total = len(piece.records) + len(piece.bad)
        numbers = pa.array(np.arange(before + 1, before + 1 + total))
        if skipped:
            numbers = numbers.filter(pc.invert(pc.is_in(numbers, pa.array(sorted(skipped), pa.int64()))))
        bad = [Bad(before + 1 + position, reason, bad_text(text)) for position, reason, text in piece.bad]
        joined = b"".join(piece.records)
        raw = text_array(piece.records, joined)
        escaped = surrogates.may_be_in(joined)
        around: pa.Array | None = None
        dropped: Counter[str] = Counter()
        plain = len(joined) <= RECORD_BYTES and joined.isascii()
        if may_be_carried(raw, joined, self.envelopes):
            raw, numbers, around, bad, dropped = self._opened(_whole(raw) if escaped else raw, numbers, bad, before)
            escaped, plain = True, False  # what they hold may be spelled in base64 or in escapes of its own
        raw = raw.view(pa.string()) if plain else raw
        records = pa.table({"_record": numbers, "_raw": raw} | ({"_envelope": around} if around is not None else {}))
        if not plain:
            records, too_long = _short_enough(records)
            records, not_utf8 = _utf8(records)
            bad += [*too_long, *not_utf8]
        if escaped:
            # What comes as text inside an envelope is spelled by the log itself, so this comes after it was opened.
            records = records.set_column(1, "_raw", surrogates.whole(records["_raw"].combine_chunks()))
        records = self._without_drops(records, dropped)
        bad.sort(key=lambda item: item.record)
        yield Chunk(self._with_names(self._camel_case(records)), bad, dropped)

    def _opened(
        self, raw: pa.Array, numbers: pa.Array, bad: Sequence[Bad], before: int
    ) -> tuple[pa.Array, pa.Array, pa.Array | None, list[Bad], Counter[str]]:
        """The records in these documents: their texts, numbers, what stood around them, and what is none.

        One document may hold several, so all are numbered anew.
        """
        damaged = {item.record: item for item in bad}
        texts: list[bytes] = []
        places: list[int] = []
        around: list[str | None] = []
        no_record: list[Bad] = []
        dropped: Counter[str] = Counter()
        number = before
        documents = dict(zip(numbers.to_pylist(), raw.to_pylist(), strict=True))
        size = 0
        for document in sorted([*documents, *damaged]):
            if document not in damaged and size > OPENED_BYTES:
                text = bad_text(documents[document])
                damaged[document] = Bad(document, f"the documents before it hold more than {OPENED_BYTES} bytes", text)
            if document in damaged:
                number += 1
                no_record.append(replace(damaged[document], record=number))
                continue
            for carried in opened(documents[document], self.known_envelopes):
                number += 1
                size += len(carried.text)
                if carried.drop is not None:
                    dropped[carried.drop] += 1
                elif carried.problem is not None:
                    no_record.append(Bad(number, carried.problem, bad_text(carried.text)))
                elif self.texts or carried.around is None or carried.text.lstrip()[:1] == b"{":
                    texts.append(carried.text)
                    places.append(number)
                    around.append(around_text(carried.around))
                else:
                    record = carried.text.decode(errors="replace")
                    text = wrapped(record, around_text(carried.around) or "", self.known_envelopes)
                    no_record.append(Bad(number, f"{carried.member} holds no JSON object", text[:KEPT_BYTES]))
        column = pa.array(around, pa.string()) if any(item is not None for item in around) else None
        return pa.array(texts, pa.binary()), pa.array(places, pa.int64()), column, no_record, dropped

    def _with_names(self, records: pa.Table) -> pa.Table:
        for member, name in self.renamed.items():
            may_be = pc.match_substring_regex(records["_raw"], f'"{member}"\\s*:')
            if pc.any(may_be).as_py():
                pairs = zip(records["_raw"].to_pylist(), may_be.to_pylist(), strict=True)
                texts = pa.array([_renamed(raw, member, name) if maybe else raw for raw, maybe in pairs], pa.string())
                records = records.set_column(1, "_raw", texts)
        return records

    def _without_drops(self, records: pa.Table, dropped: Counter[str]) -> pa.Table:
        """The records that are none of `drops`; the others are counted by reason."""
        for member, reasons in self.drops.items():
            # Text inside a value says nothing: those that may be one are read.
            may_be = pc.match_substring_regex(records["_raw"], f'"{member}"\\s*:')
            if not pc.any(may_be).as_py():
                continue
            pairs = zip(records["_raw"].to_pylist(), may_be.to_pylist(), strict=True)
            drop_reasons = [reasons.get(_text_of(raw, member)) if maybe else None for raw, maybe in pairs]
            dropped.update(reason for reason in drop_reasons if reason is not None)
            records = records.filter(pa.array([reason is None for reason in drop_reasons], pa.bool_()))
        return records

    def _camel_case(self, records: pa.Table) -> pa.Table:
        if self.pascal_case is None:
            return records
        is_pascal = pc.match_substring_regex(records["_raw"], rf'"{self.pascal_case}"\s*:\s*{self.pascal_value}')
        if not pc.any(is_pascal).as_py():
            return records
        pairs = zip(records["_raw"].to_pylist(), is_pascal.to_pylist(), strict=True)
        renamed = pa.array([_lower_names(text) if capital else text for text, capital in pairs], pa.string())
        return records.set_column(1, "_raw", renamed)


def _renamed(record: str, member: str, name: str) -> str:
    try:
        members = raw_members(record.encode())
    except (RepeatedError, msgspec.DecodeError, RecursionError):
        return record
    if member not in members or name in members:
        return record
    return msgspec.json.encode({name if key == member else key: value for key, value in members.items()}).decode()


def _text_of(record: str, member: str) -> str:
    """A member of a record that is a text; an empty text where it is none, or stands there twice."""
    try:
        return str(msgspec.json.decode(raw_members(record.encode())[member], type=str))
    except (RepeatedError, KeyError, msgspec.DecodeError, RecursionError):
        return ""


_CAPITAL_NAME = re.compile(r"""(?<!\\)"([A-Z])(\w*"\s*:)""", re.ASCII)
"""A member's name with a capital. A quote without a backslash before it, and a name, a quote and a colon behind it, can
only be where a name begins: behind a closing quote no letter may follow."""


def _lower_names(text: str) -> str:
    return _CAPITAL_NAME.sub(lambda match: f'"{match[1].lower()}{match[2]}', text)


def _whole(documents: pa.Array) -> pa.Array:
    """Documents without half surrogate pairs, which no parser takes; those that are no UTF-8 stay as they are."""
    try:
        return surrogates.whole(documents.cast(pa.string())).cast(pa.binary())
    except pa.ArrowInvalid:
        return documents


def _short_enough(records: pa.Table) -> tuple[pa.Table, list[Bad]]:
    """The records that are no longer than they may be, and the others as bad ones."""
    if records["_raw"].nbytes <= RECORD_BYTES:
        return records, []
    fits = pc.less_equal(pc.binary_length(records["_raw"]), RECORD_BYTES)
    if pc.all(fits).as_py():
        return records, []
    long = records.filter(pc.invert(fits))
    pairs = zip(long["_record"].to_pylist(), long["_raw"].to_pylist(), strict=True)
    return records.filter(fits), [Bad(number, TOO_LONG, bad_text(text)) for number, text in pairs]


def _utf8(records: pa.Table) -> tuple[pa.Table, list[Bad]]:
    """The records that are UTF-8, as text, and the others as bad ones."""
    bad: list[Bad] = []
    try:
        texts = records["_raw"].cast(pa.string())
    except pa.ArrowInvalid:
        keep = []
        for number, item in zip(records["_record"].to_pylist(), records["_raw"].to_pylist(), strict=True):
            try:
                item.decode()
                keep.append(True)
            except UnicodeDecodeError as error:
                keep.append(False)
                bad.append(Bad(number, f"invalid UTF-8 at byte {error.start} of the record", bad_text(item)))
        records = records.filter(pa.array(keep, pa.bool_()))
        texts = records["_raw"].cast(pa.string())
    return records.set_column(1, "_raw", texts), bad
