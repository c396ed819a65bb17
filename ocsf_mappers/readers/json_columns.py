"""Members of JSON records as columns, read by the library that `hatch_build.py` makes of jsoncolumns.c.

It reads what `json_members` reads, several times as fast, and is not always there: it is made for some platforms only.
`state()` tells which of the two reads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ocsf_mappers.readers.column import MOST_DISTINCT, SAMPLE, Column, identity

SOURCE = Path(__file__).with_name("jsoncolumns.c")
LIBRARY = Path(__file__).with_name("_jsoncolumns.so")
PURE = "OCSF_LAKE_PURE"
"""An environment variable; with 1 the library is left alone."""

_SEEDS = secrets.randbits(64), secrets.randbits(64)
_FACTS = 6


class UnavailableError(Exception):
    """The library is not there, is not to be used, or cannot be."""


@cache
def library() -> ctypes.CDLL:
    """The library, once a process.

    Raises:
        UnavailableError: It says why.
    """
    # Which of two readers reads changes no result, so it is nothing that a caller would have to say.
    if os.environ.get(PURE) == "1":  # noqa: TID251
        raise UnavailableError(f"{PURE} is 1")
    return load(LIBRARY)


def load(path: Path) -> ctypes.CDLL:
    """A library made of the source beside this module.

    Raises:
        UnavailableError: There is none, it cannot be loaded, or it is made of another source.
    """
    if not path.exists():
        raise UnavailableError(f"there is no {path.name}: it was not made for this platform")
    try:
        library = ctypes.CDLL(str(path))
        library.jsoncolumns_source.restype = ctypes.c_char_p
        library.jsoncolumns_new.restype = ctypes.c_void_p
        library.jsoncolumns_new.argtypes = [
            ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_int64, ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64,
        ]  # fmt: skip
        library.jsoncolumns_read.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64,
        ]  # fmt: skip
        library.jsoncolumns_take.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
        library.jsoncolumns_free.argtypes = library.jsoncolumns_release.argtypes = [ctypes.c_void_p]
        library.jsoncolumns_free.restype = library.jsoncolumns_release.restype = None
        made_of = library.jsoncolumns_source()
        expected = digest(SOURCE)
    except (OSError, AttributeError) as error:
        raise UnavailableError(f"{path.name} cannot be loaded: {error}") from error
    if made_of.decode() != expected:
        raise UnavailableError(f"{path.name} is made of another {SOURCE.name}: install the project again")
    return library


def state() -> str:
    """Which reader reads, and why if it is the one in Python."""
    try:
        library()
    except UnavailableError as error:
        return f"pure Python: {error}"
    return "compiled"


def digest(source: Path) -> str:
    """What a library says that is made of a source."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


class CompiledMembers:
    """Reads the named members of records.

    Args:
        names: Names of the members, none of them twice, and none that JSON escapes: `PureMembers` refuses those.
        library: The library.
        sample: So many records are looked at to see whether a member's texts are worth searching for equal ones.
    """

    def __init__(self, names: Sequence[str], library: ctypes.CDLL, *, sample: int = SAMPLE) -> None:
        encoded = [name.encode() for name in names]
        self._library = library
        self._names = b"".join(encoded)
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int32)
        self._sample = sample

    def read(self, records: pa.ChunkedArray) -> tuple[list[Column], np.ndarray[Any, Any]] | None:
        """The members of some records, as `json_members.PureMembers.read` gives them.

        Returns:
            None when they are to be read otherwise: one is nested deeper than 256 levels, or there is too much.
        """
        rows = len(records)
        if not (len(self._ends) and rows and pa.types.is_string(records.type)) or records.null_count:
            return None
        codes = [np.zeros(rows, np.int32) for _ in self._ends]
        places = np.array([column.ctypes.data for column in codes], np.uintp)
        odd = np.zeros(rows, np.uint8)
        reader = self._library.jsoncolumns_new(
            len(codes), self._names, self._ends.ctypes.data, rows, places.ctypes.data, odd.ctypes.data,
            self._sample, int(self._sample * MOST_DISTINCT), *_SEEDS,
        )  # fmt: skip
        if reader is None:
            return None
        try:
            if not all(self._take_in(reader, chunk) for chunk in records.chunks if len(chunk)):
                return None
            columns = [self._column(reader, number, column) for number, column in enumerate(codes)]
        except MemoryError:
            return None
        finally:
            self._library.jsoncolumns_free(reader)
        return columns, odd.view(np.bool_)

    def _take_in(self, reader: int, records: pa.Array) -> bool:
        _, offsets, texts = records.buffers()
        first = offsets.address + records.offset * np.dtype(np.int32).itemsize
        at, size = (texts.address, texts.size) if texts is not None else (None, 0)
        return bool(self._library.jsoncolumns_read(reader, at, size, first, len(records)))

    def _column(self, reader: int, number: int, codes: np.ndarray[Any, np.dtype[np.int32]]) -> Column:
        numbers = np.zeros(_FACTS, np.int64)
        if not self._library.jsoncolumns_take(reader, number, numbers.ctypes.data):
            raise MemoryError
        at_texts, size, at_ends, values, present, searched = numbers.tolist()
        texts = pa.foreign_buffer(at_texts, size, _Memory(self._library, at_texts))
        ends = pa.foreign_buffer(at_ends, (values + 2) * codes.itemsize, _Memory(self._library, at_ends))
        if not present:
            return Column(pa.nulls(1, pa.string()), None)
        if not searched:
            missing = len(codes) - present
            valid = pa.py_buffer(np.packbits(codes != 0, bitorder="little")) if missing else None
            array = pa.StringArray.from_buffers(values, ends.slice(codes.itemsize), texts, valid, missing)
            return Column(array, identity(len(codes)))
        if present < len(codes):  # a null comes first, for the records that do not have the member
            valid = np.full(values // 8 + 1, 255, np.uint8)
            valid[0] = 254
            array = pa.StringArray.from_buffers(values + 1, ends, texts, pa.py_buffer(valid), 1)
            return Column(array, codes)
        array = pa.StringArray.from_buffers(values, ends.slice(codes.itemsize), texts)
        if values == 1:
            return Column(array, None)
        codes -= 1
        return Column(array, codes)


class _Memory:
    """What the library allocated and handed over; given back when no array needs it."""

    def __init__(self, library: ctypes.CDLL, address: int) -> None:
        self._release = library.jsoncolumns_release
        self._address = address

    def __del__(self) -> None:
        self._release(self._address)

