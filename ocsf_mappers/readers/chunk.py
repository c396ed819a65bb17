"""What every reader gives: chunks of records with their numbers, and beside them what could not be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import pyarrow as pa

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers.json_split import KEPT_BYTES
from ocsf_mappers.readers.streams import Blocks

COLUMNS = 1_024
"""A text log may name so many columns; the logs that we know have some sixty. What comes with more of them is bad."""


@dataclass(frozen=True)
class Bad:
    """A record that could not be read: its number in the object (from 1), why, and its text."""

    record: int
    reason: str
    text: str


@dataclass(frozen=True)
class Chunk:
    """Some of an object's records.

    `records` has `_record` (int64, the number in the object) and either `_raw` (JSON text, with `_envelope` where the
    record came inside another document) or, of a text log, the text columns `c0`, `c1`... in the object's order, with
    the record as it was written in `_text` where that was no line of these values.
    `names` has what the object calls those columns, whatever that is: such names never become names of ours. `dropped`
    counts lines that are no records.
    """

    records: pa.Table
    bad: Sequence[Bad] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns = [name for name in self.records.column_names if not name.startswith("_")]
        if columns != positions(len(self.names)):
            raise ValueError(f"{len(self.names)} names for the columns {columns}")

    @property
    def read(self) -> int:
        """How many records and lines this chunk accounts for."""
        return len(self.records) + len(self.bad) + sum(self.dropped.values())


def positions(count: int) -> list[str]:
    """What the columns of a text log are called in `Chunk.records`."""
    return [f"c{number}" for number in range(count)]


class Reader(Protocol):
    """One delivery format."""

    @property
    def label(self) -> str:
        """What the format is called in documentation."""

    def accepts(self, head: bytes) -> bool:
        """Whether an object that begins like this is in the format."""

    def read(self, blocks: Blocks) -> Iterator[Chunk]:
        """The object's records; the last chunk says what was damaged."""


def bad_text(raw: bytes) -> str:
    r"""Bytes as text for quarantine: not more than a megabyte, what is not UTF-8 escaped as \xNN."""
    return raw[:KEPT_BYTES].decode("utf-8", errors="backslashreplace")


def failure(error: ReadError, records_before: int) -> Chunk:
    """An error that ends an object, as the bad record that would have come next."""
    return Chunk(no_records(), [Bad(records_before + 1, str(error), "")])


def until_error(blocks: Iterator[bytes], failed: list[ReadError]) -> Iterator[bytes]:
    """The blocks until one cannot be read; the error is put into `failed`."""
    try:
        yield from blocks
    except ReadError as error:
        failed.append(error)


def no_records() -> pa.Table:
    """The records of a chunk that has only bad ones, or none."""
    return pa.table({"_record": pa.array([], pa.int64())})


def as_text(value: object) -> str | None:
    """A value of JSON as the text of a column: strings as they are, null as null, everything else as JSON text."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()
