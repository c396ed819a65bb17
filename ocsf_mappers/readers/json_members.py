"""Members of JSON records as columns: the raw text of each, and which records need a closer look.

The compiled reader of `json_columns` reads them where it is there. What it does not take, and everything where it is
not, is read here, in one pass by msgspec over many records at a time. Members that the caller does not name are
skipped, and of a repeated one the last is kept: both show in that the lengths of what was found do not add up to the
length of the record.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.errors import ReadError
from ocsf_mappers.readers import json_columns
from ocsf_mappers.readers.column import Column, encoded
from ocsf_mappers.readers.members import RepeatedError, raw_members

AT_ONCE = 512
"""Records that are Python objects at the same time."""

_BETWEEN = secrets.randbelow(2**53)
"""Stands between records, where nobody who writes logs can put it: two halves of records that are whole only together,
and two records in one, are found by it."""

_NONE = msgspec.Raw(b"")


class Members:
    """Reads the named members of records.

    Args:
        names: Names of the members.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._pure = PureMembers(names)
        self._compiled: json_columns.CompiledMembers | None = None
        with suppress(json_columns.UnavailableError):
            self._compiled = json_columns.CompiledMembers(names, json_columns.library())

    def read(self, records: pa.ChunkedArray) -> tuple[list[Column], np.ndarray[Any, Any]]:
        """The members of some records.

        Args:
            records: JSON text of each, UTF-8.

        Returns:
            For each name the raw JSON text in each record, null where it is not there; and a boolean a record, true
            where there are other members too, one is repeated, or the record is no JSON object that can be read.
        """
        columns = self._compiled.read(records) if self._compiled is not None else None
        return columns if columns is not None else self._pure.read(records)


class PureMembers:
    """`Members` without the compiled reader: the same values, the same records to look at.

    Args:
        names: Names of the members.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._name_set = frozenset(names)
        # Attributes are numbered, because a member may have a name that no attribute can have.
        fields = [(f"m{number}", msgspec.Raw, _NONE) for number, _ in enumerate(self.names)]
        renamed = {f"m{number}": name for number, name in enumerate(self.names)}
        record = msgspec.defstruct("Record", fields, rename=renamed, gc=False)
        self._record = record
        self._decoder = msgspec.json.Decoder(list[record | int])  # type: ignore[valid-type]
        self._values = attrgetter(*(name for name, _, _ in fields)) if len(fields) > 1 else _only
        # A member, its quotes and its colon.
        self._around = [len(msgspec.json.encode(name)) + 1 for name in self.names]

    def read(self, records: pa.ChunkedArray) -> tuple[list[Column], np.ndarray[Any, Any]]:
        """As `Members.read`."""
        columns: list[list[pa.Array]] = [[] for _ in self.names]
        odd = []
        for part in _slices(records):
            arrays, flags = self._part(part)
            for column, values in zip(columns, arrays, strict=True):
                column.append(values)
            odd.append(flags)
        read: list[Column] = []
        while columns:  # one after the other, so that the texts are not held twice
            read.append(encoded(pa.chunked_array(columns.pop(0), pa.binary())).map(_without_end))
        return read, np.concatenate(odd) if odd else np.zeros(0, bool)

    def _part(self, records: pa.Array) -> tuple[list[pa.Array], np.ndarray[Any, Any]]:
        size = len(records)
        broken = None
        objects = self._objects(records)
        if objects is None:
            broken = np.array([not self._is_object(text) for text in records.to_pylist()])
            records = pc.if_else(pa.array(broken), pa.scalar("{}"), records)
            objects = self._objects(records)
            if objects is None:
                raise ReadError("records that are objects alone are none together")
        lengths = pc.binary_length(records).to_numpy()
        accounted = np.full(size, 1, np.int64)
        columns = []
        for place, texts in enumerate(zip(*map(self._values, objects), strict=True)):
            text = b"\0".join(texts) + b"\0"
            if len(text) == size:
                columns.append(pa.nulls(size, pa.binary()))
                continue
            ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
            if len(ends) != size:
                raise ReadError("a member of a record holds a NUL")
            offsets = np.zeros(size + 1, np.int32)
            offsets[1:] = ends + 1
            sizes = np.diff(offsets) - 1
            accounted += np.where(sizes > 0, sizes + (self._around[place] + 1), 0)
            values = pa.Array.from_buffers(pa.binary(), size, [None, pa.py_buffer(offsets), pa.py_buffer(text)])
            columns.append(values)
        odd = accounted != lengths
        for row in np.flatnonzero(odd).tolist():
            odd[row] = self._is_odd(records[row].as_py())
        return columns, odd if broken is None else odd | broken

    def _objects(self, records: pa.Array) -> list[Any] | None:
        """The records as objects; None where some are none, or become others when they stand together."""
        as_list = pa.ListArray.from_arrays(pa.array([0, len(records)], pa.int32()), records.cast(pa.binary()))
        joined = pc.binary_join(as_list, b",%d," % _BETWEEN)[0].as_buffer()
        try:
            items = self._decoder.decode(b"".join((b"[", joined, b"]")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        objects: list[Any] = items[::2]
        whole = len(items) == 2 * len(records) - 1 and items[1::2] == [_BETWEEN] * (len(records) - 1)
        return objects if whole and set(map(type, objects)) == {self._record} else None

    def _is_object(self, text: str) -> bool:
        try:
            items = self._decoder.decode(f"[{text}]")  # as deep in the stack as with others
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return list(map(type, items)) == [self._record]

    def _is_odd(self, text: str) -> bool:
        """Whether a record whose lengths do not add up has more than blanks and escapes beside what was found."""
        try:
            return not self._name_set.issuperset(raw_members(text.encode()))
        except (RepeatedError, msgspec.DecodeError, ValueError, RecursionError):
            return True


def _only(record: Any) -> tuple[msgspec.Raw]:
    return (record.m0,)


def _slices(records: pa.ChunkedArray) -> Iterator[pa.Array]:
    for chunk in records.chunks:
        for start in range(0, len(chunk), AT_ONCE):
            yield chunk.slice(start, AT_ONCE)


def _without_end(values: pa.Array) -> pa.Array:
    """The texts without the sign that each ends with, as text; null for those that have nothing else."""
    bare = pc.binary_slice(values, 0, -1)
    return pc.if_else(pc.equal(pc.binary_length(bare), 0), pa.scalar(None, pa.binary()), bare).cast(pa.string())
