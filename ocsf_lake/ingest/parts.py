"""Objects of a batch as parts: chunks of several objects together, as many records as one query maps well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ocsf_lake.config import Settings
from ocsf_lake.inputs import discovery
from ocsf_lake.storage.objects import ObjectError, ObjectRef, Prefetcher
from ocsf_mappers import Mapper, RawObject, registry
from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers import Chunk, of_object
from ocsf_mappers.readers.chunk import failure
from ocsf_mappers.readers.streams import Blocks


class SetAsideError(Exception):
    """The object holds no records of the log it lies among; the message says why."""


@dataclass(frozen=True)
class Piece:
    """Some records of one object."""

    ref: ObjectRef
    raw_object: RawObject
    chunk: Chunk


@dataclass(frozen=True)
class Part:
    """Pieces that one query maps.

    Args:
        number: Place in the batch, from 0.
        pieces: In the order of objects and records.
    """

    number: int
    pieces: Sequence[Piece]


class UnreadableError(ObjectError):
    """The object's bytes are no log of its source; reading them again changes nothing."""


class Source:
    """Reads the objects of a batch.

    Args:
        mapper: The source they are of.
        settings: Bounds of parts and of decompression.
        refs: The objects, in the order in which they will be asked for.

    Attributes:
        sha256s: Of the decompressed content of objects that were read whole, where the settings ask for it.
    """

    def __init__(self, mapper: Mapper, settings: Settings, refs: Sequence[ObjectRef] = ()) -> None:
        self.mapper = mapper
        self.settings = settings
        self.opener = Prefetcher(refs, settings.input_access)
        self.sha256s: dict[ObjectRef, str] = {}
        self._hashed = settings.content_hashes == "all" or (
            settings.content_hashes == "digests" and _has_digests(mapper.name)
        )

    def pieces(self, ref: ObjectRef) -> Iterator[Piece]:
        """The object's records in chunks, none of them longer than a part.

        Raises:
            ObjectError: It cannot be opened, is not what was listed, or fails while it is read.
            SetAsideError: It is a digest.
        """
        raw_object = discovery.raw_object(ref.uri, ref.etag)
        with self.opener.opened(ref) as file:
            try:
                blocks = Blocks(file, self.settings.limits, hashed=self._hashed)
                for chunk in self._chunks(blocks, ref.uri):
                    for cut in _cut(chunk, self.settings.part_rows):
                        yield Piece(ref, raw_object, cut)
                if blocks.sha256 is not None:
                    self.sha256s[ref] = blocks.sha256
            except TimeoutError:
                raise  # the time of the whole task is over; a store that is slow has been asked again before
            except OSError as error:
                raise ObjectError(f"reading the object failed: {error}", object=ref.uri) from error

    def _chunks(self, blocks: Blocks, uri: str) -> Iterator[Chunk]:
        if reason := discovery.without_records(blocks.head):
            raise SetAsideError(reason)
        reader = next((reader for reader in self.mapper.readers if reader.accepts(blocks.head)), None)
        if reader is None:
            labels = ", ".join(reader.label for reader in self.mapper.readers)
            raise UnreadableError(f"the object is in none of the formats of {self.mapper.name}: {labels}")
        number = 0
        try:
            for chunk in of_object(reader, uri).read(blocks):
                number += chunk.read
                yield chunk
        except ReadError as error:
            yield failure(error, number)


def _has_digests(source: str) -> bool:
    registered = registry.sources().get(source)
    return registered is not None and registered.digests is not None


def _cut(chunk: Chunk, rows: int) -> Iterator[Chunk]:
    if len(chunk.records) <= rows:
        yield chunk
        return
    for start in range(0, len(chunk.records), rows):
        records = chunk.records.slice(start, rows)
        yield replace(chunk, records=records, bad=(), dropped={}) if start else replace(chunk, records=records)


class PartBuilder:
    """Puts pieces together to parts.

    The parts depend on the pieces and the bounds alone, so that doing it again gives the same parts.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.number = 0
        self._pieces: list[Piece] = []
        self._rows = 0
        self._bytes = 0

    def add(self, piece: Piece) -> Iterator[Part]:
        """Takes a piece in; gives the part that was full before it."""
        rows = piece.chunk.read
        size = piece.chunk.records.nbytes + sum(len(bad.text) for bad in piece.chunk.bad)
        full = self._rows + rows > self.settings.part_rows or self._bytes + size > self.settings.part_bytes
        if self._pieces and full:
            yield from self.rest()
        self._pieces.append(piece)
        self._rows += rows
        self._bytes += size

    def rest(self) -> Iterator[Part]:
        """The last part, if anything is left."""
        if self._pieces:
            part = Part(self.number, self._pieces)
            self.number += 1
            self._pieces, self._rows, self._bytes = [], 0, 0
            yield part
