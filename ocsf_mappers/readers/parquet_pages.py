"""What a Parquet file would take to decode, before anything is decoded.

A page of some hundred bytes can unfold to gigabytes, and the sizes in a file's footer are only what its writer claims.
The decoder goes by the headers of the pages, so these are read first. Footer and headers are structs of Thrift:
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
pyarrow's own view of a footer cannot be used: on a damaged one it ends the process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers import thrift

FOOTER_BYTES = 32 << 20
"""A footer may be so long."""

HEADER_BYTES = 1 << 20
"""A page header may be so long; it holds some numbers, and the smallest and largest value."""

BATCH_ROWS = 65_536
BATCH_BYTES = 64 << 20
"""Rows are decoded in batches of this size, as far as it shows beforehand, but of no fewer than `LEAST_ROWS`."""

LEAST_ROWS = 16

GROUP_BYTES = 256 << 20
"""What decoding some rows may take: a page of each column, the lists of the row group, and the rows. Writers make pages
of one megabyte."""

PLAIN, PLAIN_DICTIONARY, PREFIX_CODED, DICTIONARY = 0, 2, 7, 8
"""Encodings of values. With PREFIX_CODED (DELTA_BYTE_ARRAY) each names how much it shares with the one before."""

_BYTE_ARRAY = 6
_REPEATED = 2

_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
"""Fields of a page header that hold the header of its kind."""


@dataclass(frozen=True)
class Leaf:
    """A column of the file as it lies on disk.

    Args:
        text: Whether it holds bytes of any length.
        value_bytes: What a value takes in memory, without such bytes.
        repeated: Whether a row may hold several values.
    """

    text: bool
    value_bytes: int
    repeated: bool


@dataclass(frozen=True)
class Pages:
    """The pages of a column in one row group.

    Args:
        values: How many values they hold.
        page_bytes: Size of the largest one, decompressed.
        encodings: How the values are given.
    """

    values: int
    page_bytes: int
    encodings: frozenset[int]

    @property
    def dictionary(self) -> bool:
        """Whether texts can be read as a dictionary and references to it."""
        return self.encodings <= {PLAIN, PLAIN_DICTIONARY, DICTIONARY}

    @property
    def unfolds(self) -> bool:
        """Whether texts that cannot be read so may each be as long as a page."""
        return not self.dictionary and bool(self.encodings & {PLAIN_DICTIONARY, DICTIONARY, PREFIX_CODED})


@dataclass(frozen=True)
class Plan:
    """How to read a row group.

    Args:
        rows: So many rows together.
        dictionaries: Columns of texts that are read as dictionaries.
        total: Rows of the row group.
    """

    rows: int
    dictionaries: list[int]
    total: int


class Footer:
    """The footer of a Parquet file: what its columns are, and where their pages lie.

    Args:
        file: The file, to be read and sought in.

    `names` has what it calls the members of a row, `leaves` its columns, `groups` its row groups.

    Raises:
        ReadError: The footer is damaged, or too large.
    """

    def __init__(self, file: Any) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)
        file.seek(max(self.size - 8, 0))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or not 0 < length <= self.size - 12:
            raise ReadError("the Parquet file is damaged: it does not end with a footer")
        if length > FOOTER_BYTES:
            raise ReadError(f"the Parquet file's footer has {length} bytes, more than the {FOOTER_BYTES} that are read")
        file.seek(self.size - 8 - length)
        metadata = thrift.struct(file.read(length))[0]
        self.names, self.leaves = _schema(thrift.items(metadata, 2))
        self.groups = thrift.items(metadata, 4)

    def plan(self, number: int) -> Plan:
        """How to read a row group without taking more memory than is allowed.

        Args:
            number: Of the row group, from 0.

        Raises:
            ReadError: Even a few rows would take more memory than is allowed, or the headers are damaged.
        """
        columns = thrift.items(self.groups[number], 1)
        if len(columns) != len(self.leaves):
            raise ReadError("the Parquet file is damaged: a row group has other columns than the schema")
        page_bytes = nested = 0
        width = 1
        dictionaries = []
        for place, (leaf, column) in enumerate(zip(self.leaves, columns, strict=True)):
            pages = self._pages(column)
            page_bytes += pages.page_bytes
            if leaf.text and pages.dictionary:
                dictionaries.append(place)
            value = leaf.value_bytes + (pages.page_bytes if leaf.text and pages.unfolds else 0)
            if leaf.repeated:
                nested += pages.values * value
            else:
                width += value
        least = page_bytes + nested + LEAST_ROWS * width
        if least > GROUP_BYTES:
            raise ReadError(
                f"decoding row group {number + 1} of the Parquet file would take {least} bytes at once, more than the "
                f"{GROUP_BYTES} allowed; it was not read, nor what follows"
            )
        rows = max(min(BATCH_ROWS, BATCH_BYTES // width), LEAST_ROWS)
        return Plan(rows, dictionaries, thrift.number(self.groups[number], 3))

    def _pages(self, column: Any) -> Pages:
        description = column.get(3) if isinstance(column, dict) else None
        if not isinstance(description, dict):
            raise ReadError("the Parquet file is damaged or encrypted: a column has no description")
        start, dictionary = thrift.number(description, 9), description.get(11)
        if isinstance(dictionary, int) and 0 < dictionary < start:
            start = dictionary
        end = start + thrift.number(description, 7)
        if not 0 <= start <= end <= self.size:
            raise ReadError("the Parquet file is damaged: a column lies outside of it")
        expected = thrift.number(description, 5)
        values = largest = 0
        encodings = set()
        while start < end and values < expected:
            header, length = self._header(start, end)
            decompressed, compressed = thrift.number(header, 2), thrift.number(header, 3)
            if decompressed < 0 or compressed < 0:
                raise ReadError("the Parquet file is damaged: a page has no size")
            largest = max(largest, decompressed, compressed)
            for kind, encoding in ((_DATA, 2), (_DATA_V2, 4)):
                if isinstance(page_header := header.get(kind), dict):
                    values += max(thrift.number(page_header, 1), 0)
                    encodings.add(thrift.number(page_header, encoding))
            start += length + compressed
        return Pages(values, largest, frozenset(encodings))

    def _header(self, start: int, end: int) -> tuple[dict[int, Any], int]:
        """The page header at a place, and its length."""
        size = 512
        while True:
            self.file.seek(start)
            data = self.file.read(min(size, end - start))
            try:
                return thrift.struct(data)
            except thrift.IncompleteError:
                if size >= min(HEADER_BYTES, end - start):
                    raise
                size *= 16


def _schema(elements: list[Any]) -> tuple[list[str], list[Leaf]]:
    """The names of a row's members, and the columns; a schema lists groups before what is in them."""
    names, leaves = [], []
    open_groups: list[list[Any]] = []  # how many members are still to come, whether they are repeated
    for element in elements:
        if not isinstance(element, dict):
            raise ReadError("the Parquet file is damaged: its schema is unreadable")
        if len(open_groups) == 1 and isinstance(name := element.get(4), bytes):
            names.append(name.decode("utf-8", errors="backslashreplace"))
        repeated = element.get(3) == _REPEATED or bool(open_groups and open_groups[-1][1])
        children, length = element.get(5), element.get(2)
        if isinstance(children, int) and children > 0:
            open_groups.append([children, repeated])
            continue
        size = max(16, length if isinstance(length, int) else 0)
        leaves.append(Leaf(element.get(1) == _BYTE_ARRAY, size, repeated))
        while open_groups:
            open_groups[-1][0] -= 1
            if open_groups[-1][0] > 0:
                break
            open_groups.pop()
    return names, leaves
