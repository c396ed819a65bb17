"""Bytes of an object, decompressed in blocks, with a limit on how far they may grow.

gzip (also of several members, or compressed twice, as some CloudTrail files are), zstd and plain bytes are told apart
by their first bytes, not by name. Text in UTF-16 with a byte order mark is read as UTF-8. What other archives and
compressed files hold is not read, and no text either: their bytes might be taken for lines.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import zstandard
from isal import isal_zlib

from ocsf_mappers.errors import ReadError

BLOCK_BYTES = 4 << 20
STEP_BYTES = 64 << 10
"""Compressed bytes go in, and decompressed ones come out, in steps of this size."""
RESCUED_STEPS = 1_024
"""What stands before the damage is recovered byte for byte in gzip members up to this many steps (64 MB) long."""
ZSTD_STEP_BYTES = 1 << 10
"""zstd gives all that a step holds at once, up to 32 kB a byte."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
OTHERS = {
    rb"PK(\x03\x04|\x05\x06)": "a ZIP archive",
    rb"BZh[1-9]1AY&SY": "compressed by bzip2",
    rb"\xfd7zXZ\x00": "compressed by xz",
    rb"7z\xbc\xaf\x27\x1c": "a 7z archive",
    rb"Rar!\x1a\x07": "a RAR archive",
    rb"\x04\x22\x4d\x18": "compressed by LZ4",
    rb"\xff\x06\x00\x00sNaPpY": "compressed by Snappy",
    rb"(?s).{257}ustar": "a tar archive",
}
"""First bytes of what is not opened -> what it is. Firehose can deliver ZIP and Snappy."""
LAYERS = 3
"""Compressed files inside compressed files are opened this deep."""


@dataclass(frozen=True)
class Limits:
    """How far an object may grow when it is decompressed.

    Both guard against an object made to exhaust memory or disk: `max_bytes` is absolute; `max_ratio` counts once
    `ratio_from_bytes` have come out. CloudTrail compresses some 10 to 30 times, repetitive flow logs up to 100.
    """

    max_bytes: int = 32 << 30
    max_ratio: int = 250
    ratio_from_bytes: int = 256 << 20


class Blocks:
    """An object's decompressed bytes, block by block.

    `head` is the first block, for telling formats apart. When the object is damaged or too large, the iteration gives
    what could be read before the damage, then raises `ReadError`. `file` is the raw file, for formats read by seeking,
    which have to keep to `limits` themselves.

    Args:
        file: The raw file.
        limits: How far it may grow.
        hashed: Whether `sha256` is wanted.

    Attributes:
        error: What damage there is before the end of the first block.
        sha256: Of the decompressed bytes, before they are decoded, hex; None until all of them were read.
    """

    def __init__(self, file: BinaryIO, limits: Limits | None = None, *, hashed: bool = False) -> None:
        self.file = file
        self.limits = limits or Limits()
        self.sha256: str | None = None
        content = _limited(_decompressed(_raw(file)), file, self.limits)
        self._blocks = _gathered(_decoded(self._hashed(content) if hashed else content))
        self.error: ReadError | None = None
        self.head = b""
        try:
            self.head = next(self._blocks, b"")
        except ReadError as error:
            self.error = error

    def _hashed(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for block in blocks:
            digest.update(block)
            yield block
        self.sha256 = digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        if self.head:
            yield self.head
        if self.error is not None:
            raise self.error
        yield from self._blocks


def _gathered(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Small blocks joined to large ones; what came before an error is given before it is raised."""
    pending: list[bytes] = []
    size = 0
    try:
        for block in blocks:
            pending.append(block)
            size += len(block)
            if size >= BLOCK_BYTES:
                yield b"".join(pending)
                pending, size = [], 0
    except ReadError:
        if pending:
            yield b"".join(pending)
        raise
    if pending:
        yield b"".join(pending)


def _raw(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def uncompressed(file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    """An object's bytes, decompressed and not decoded.

    Raises:
        ReadError: The object is damaged or too large.
    """
    return _limited(_decompressed(_raw(file)), file, limits)


def hashes(file: BinaryIO, limits: Limits) -> tuple[list[str], int]:
    """SHA-256, in hex, of an object as it is stored and of what each decompression gives; and the bytes of the last.

    Nothing is decoded. The content is that which reading the object goes through, so nothing appended escapes.

    Raises:
        ReadError: The object is damaged or too large.
    """
    digests: list[Any] = []

    def hashed(blocks: Iterator[bytes]) -> Iterator[bytes]:
        digest = hashlib.sha256()
        digests.append(digest)
        for block in blocks:
            digest.update(block)
            yield block

    size = sum(map(len, _limited(_decompressed(_raw(file), LAYERS, hashed), file, limits)))
    return [digest.hexdigest() for digest in digests], size


def _decompressed(
    blocks: Iterator[bytes], layers: int = LAYERS, seen: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> Iterator[bytes]:
    head = next(blocks, b"")
    stream = seen(chain([head], blocks))
    if head.startswith(GZIP) and layers:
        yield from _decompressed(_gunzip(stream), layers - 1, seen)
    elif head.startswith(ZSTD) and layers:
        yield from _decompressed(_unzstd(stream), layers - 1, seen)
    else:
        yield from stream


def _steps(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), size):
            yield block[start : start + size]


def _gunzip(blocks: Iterable[bytes]) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(31)
    compressed: list[bytes] = []  # the member's compressed bytes, as far as they may be needed for a rescue
    produced = 0
    for step in _steps(blocks, STEP_BYTES):
        data = step
        while data:
            if not compressed and not data.strip(b"\0"):
                break  # zero padding after the last member, as tar and some tools leave
            if not compressed and not data.startswith(GZIP[:1]):
                raise ReadError("the gzip stream is followed by bytes that are not gzip")
            if len(compressed) < RESCUED_STEPS:
                compressed.append(data)
            try:
                for out in _inflated(member, data):
                    produced += len(out)
                    yield out
            except isal_zlib.error as error:  # type: ignore[misc]  # untyped in isal
                if len(compressed) < RESCUED_STEPS:
                    yield from _rescued(b"".join(compressed), produced)
                raise ReadError(f"the gzip stream is corrupt: {error}") from error
            data = b""
            if member.eof:
                data, member, compressed, produced = member.unused_data, isal_zlib.decompressobj(31), [], 0
    if compressed:
        raise ReadError("the gzip stream is truncated: it ends before its checksum")


def _inflated(member: Any, data: bytes) -> Iterator[bytes]:
    while data and not member.eof:
        out = member.decompress(data, STEP_BYTES)
        if out:
            yield out
        data = member.unconsumed_tail


def _rescued(member: bytes, produced: int) -> Iterator[bytes]:
    """What a damaged gzip member holds before the damage, without the first bytes, which were given already."""
    inflate = zlib.decompressobj(31)
    total = 0
    for start in range(0, len(member), 4096):
        before = inflate.copy()
        step = member[start : start + 4096]
        try:
            out = inflate.decompress(step)
        except zlib.error:
            out, broken = _byte_by_byte(before, step), True
        else:
            broken = False
        if total + len(out) > produced:
            yield out[max(produced - total, 0) :]
        total += len(out)
        if broken:
            return


def _byte_by_byte(inflate: Any, step: bytes) -> bytes:
    out = bytearray()
    with contextlib.suppress(zlib.error):
        for number in range(len(step)):
            out += inflate.decompress(step[number : number + 1])
    return bytes(out)


def _unzstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    codec = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    frame = codec.decompressobj()
    fresh = True
    for step in _steps(blocks, ZSTD_STEP_BYTES):
        data = step
        while data:
            fresh = False
            try:
                out = frame.decompress(data)
            except zstandard.ZstdError as error:
                raise ReadError(f"the zstd stream is corrupt: {error}") from error
            if out:
                yield out
            data = b""
            if frame.eof:
                data, frame, fresh = frame.unused_data, codec.decompressobj(), True
    if not fresh:
        raise ReadError("the zstd stream is truncated: it ends inside a frame")


def _limited(blocks: Iterator[bytes], file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    total = 0
    for block in blocks:
        total += len(block)
        if total > limits.max_bytes:
            yield block[: limits.max_bytes - total]
            raise ReadError(f"the object decompresses to more than {limits.max_bytes} bytes; the rest was not read")
        consumed = max(file.tell(), 1)
        if total > limits.ratio_from_bytes and total > limits.max_ratio * consumed:
            raise ReadError(
                f"the object decompresses to more than {limits.max_ratio} times its size, like a zip bomb; "
                f"the rest was not read after {total} bytes"
            )
        yield block


_MARKS = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def _decoded(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """UTF-8 without a byte order mark, whatever Unicode form came in."""
    head = next(blocks, b"")
    if kind := _unopened(head):
        raise ReadError(f"it is {kind}, which is not opened: unpack it, and name what was in it")
    if encoding := _MARKS.get(head[:2]):
        yield from _from_utf16(chain([head[2:]], blocks), encoding)
    else:
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from blocks


def _unopened(head: bytes) -> str | None:
    """What an object is that begins like this, if that is nothing to be read as it stands."""
    return next((kind for magic, kind in OTHERS.items() if re.match(magic, head)), None)


def _from_utf16(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()
