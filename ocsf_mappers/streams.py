"""Bytes of an object, decompressed in blocks, with a limit on how far they may grow.

gzip (also of several members, or compressed twice, as some CloudTrail files are), zstd and plain bytes are told apart by
their first bytes, not by name. Text in UTF-16 with a byte order mark is read as UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import zstandard
from isal import isal_zlib

from ocsf_mappers.errors import ReadError

BLOCK_BYTES = 4 << 20
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
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

    `head` is the first block's beginning, for telling formats apart. When the object is damaged or too large, the
    iteration gives what could be read, then raises `ReadError`. `file` is the raw file, for formats read by seeking.
    """

    def __init__(self, file: BinaryIO, limits: Limits | None = None) -> None:
        self.file = file
        self._blocks = _decoded(_limited(_decompressed(_raw(file)), file, limits or Limits()))
        self.head = b""
        self._error: ReadError | None = None
        try:
            self.head = next(self._blocks, b"")
        except ReadError as error:
            self._error = error

    def __iter__(self) -> Iterator[bytes]:
        if self.head:
            yield self.head
        if self._error is not None:
            raise self._error
        yield from self._blocks


def _raw(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def _decompressed(blocks: Iterator[bytes], layers: int = LAYERS) -> Iterator[bytes]:
    head = next(blocks, b"")
    rest = chain([head], blocks)
    if head.startswith(GZIP) and layers:
        return _decompressed(_gunzip(rest), layers - 1)
    if head.startswith(ZSTD) and layers:
        return _decompressed(_unzstd(rest), layers - 1)
    return rest


def _gunzip(blocks: Iterable[bytes]) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(31)
    fresh = True
    for block in blocks:
        data = block
        while data:
            if fresh and not data.strip(b"\0"):
                break  # zero padding after the last member, as tar and some tools leave
            if fresh and not data.startswith(GZIP[:1]):
                raise ReadError("the gzip stream is followed by bytes that are not gzip")
            fresh = False
            try:
                out = member.decompress(data, BLOCK_BYTES)
            except isal_zlib.error as error:
                raise ReadError(f"the gzip stream is corrupt: {error}") from error
            if out:
                yield out
            data = member.unconsumed_tail
            if member.eof:
                data, member, fresh = member.unused_data, isal_zlib.decompressobj(31), True
    if not fresh:
        raise ReadError("the gzip stream is truncated: it ends before its checksum")


def _unzstd(blocks: Iterable[bytes]) -> Iterator[bytes]:
    frames = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    with frames.stream_reader(_Joined(iter(blocks)), read_across_frames=True) as stream:  # type: ignore[arg-type]
        while True:
            try:
                block = stream.read(BLOCK_BYTES)
            except zstandard.ZstdError as error:
                raise ReadError(f"the zstd stream is corrupt: {error}") from error
            if not block:
                return
            yield block


class _Joined:
    """Blocks as a file that can only be read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._blocks, b"")
        if size < 0:
            size = len(self._rest)
        out, self._rest = self._rest[:size], self._rest[size:]
        return out


def _limited(blocks: Iterator[bytes], file: BinaryIO, limits: Limits) -> Iterator[bytes]:
    total = 0
    for block in blocks:
        total += len(block)
        if total > limits.max_bytes:
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
    if encoding := _MARKS.get(head[:2]):
        return _from_utf16(chain([head[2:]], blocks), encoding)
    return chain([head.removeprefix(codecs.BOM_UTF8)], blocks)


def _from_utf16(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for block in blocks:
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()
