"""JSON records, as AWS delivers most of its logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers import surrogates
from ocsf_mappers.errors import ReadError
from ocsf_mappers.json_split import RECORD_BYTES, TOO_LONG, Piece, Windows, split, text_array
from ocsf_mappers.readers.chunk import Bad, Chunk, bad_text, failure, until_error
from ocsf_mappers.readers.envelope import Envelope, unwrap
from ocsf_mappers.streams import Blocks

WINDOW_BYTES = 16 << 20
"""An object is held in memory up to this size and read window by window beyond it."""

_OBJECT = re.compile(rb'\{\s*+"')


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
                yield failure(error, number)

    def _pieces(self, blocks: Blocks) -> Iterator[tuple[Piece, ReadError | None]]:
        held: list[bytes] = []
        failed: list[ReadError] = []
        stream = until_error(iter(blocks), failed)
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
        escaped = b"\\ud" in joined or b"\\uD" in joined
        texts = surrogates.whole(texts) if escaped else texts
        chunk = self._unwrapped(pa.table({"_record": numbers, "_raw": texts}), joined)
        all_bad = sorted([*bad, *too_long, *not_utf8, *chunk.bad], key=lambda item: item.record)
        records = self._camel_case(chunk.records)
        if escaped and self.envelopes:
            # What comes as text inside an envelope is spelled by the log itself.
            records = records.set_column(1, "_raw", surrogates.whole(records["_raw"].combine_chunks()))
        yield Chunk(records, all_bad, chunk.dropped)

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
                found = unwrap(chunk.records, envelope)
                chunk = Chunk(found.records, [*chunk.bad, *found.bad], {**chunk.dropped, **found.dropped})
        return chunk


_CAPITAL_NAME = re.compile(r"""(?<!\\)"([A-Z])(\w*"\s*:)""", re.ASCII)
"""A member's name with a capital. A quote without a backslash before it, and a name, a quote and a colon behind it, can
only be where a name begins: behind a closing quote no letter may follow."""


def _lower_names(text: str) -> str:
    return _CAPITAL_NAME.sub(lambda found: f'"{found[1].lower()}{found[2]}', text)


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
