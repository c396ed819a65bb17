"""A column as distinct values and a code a row, so that what is computed of it is computed once a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE = 2_000
MOST_DISTINCT = 0.9
"""A text column whose first rows are nearly all distinct is not searched for equal ones."""

DENSE = 4
"""Combinations are found by marking them in a table of all that could be, where those are this many times the rows."""

TEXTS = pa.dictionary(pa.int32(), pa.string())

Codes = np.ndarray[Any, np.dtype[np.int32]]


class Column:
    """A value a row.

    Args:
        values: The values, in any order; what no row has may be among them.
        codes: For each row the place of its value, int32; None where every row has the only value there is.
    """

    __slots__ = ("codes", "values")

    def __init__(self, values: pa.Array, codes: Codes | None) -> None:
        self.values = values
        self.codes = codes

    def map(self, change: Callable[[pa.Array], pa.Array]) -> Column:
        """The column of other values, one for each of these."""
        return Column(change(self.values), self.codes)

    def rows_where(self, flags: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
        """A boolean a row, of a boolean a value."""
        return np.full(length, bool(flags[0])) if self.codes is None else flags[self.codes]

    def some(self, flags: np.ndarray[Any, Any]) -> bool:
        """Whether a boolean a value is true for some row."""
        if not flags.any():
            return False
        return self.codes is None or bool(flags.all() or flags[self.codes].any())

    def valid(self) -> np.ndarray[Any, Any]:
        """For each value whether it is not null."""
        flags: np.ndarray[Any, Any] = self.values.is_valid().to_numpy(zero_copy_only=False)
        return flags

    def array(self, length: int) -> pa.Array:
        """The values row by row; texts that recur as a dictionary."""
        if self.codes is None:
            return _repeated(self.values, length)
        if self.codes is identity(len(self.values)):
            return self.values
        if pa.types.is_string(self.values.type) and 2 * len(self.values) <= length:
            return _dictionary(self.values, self.codes)
        return self.values.take(pa.array(self.codes))


def _repeated(values: pa.Array, length: int) -> pa.Array:
    if values.null_count:
        return pa.nulls(length, values.type)
    if pa.types.is_string(values.type):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int32)), values)
    if pa.types.is_nested(values.type):
        return values.take(pa.array(np.zeros(length, np.int8)))
    return pa.repeat(values[0], length)


def _dictionary(values: pa.Array, codes: Codes) -> pa.Array:
    encoded = values.dictionary_encode()
    places = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    indices = places[codes]
    mask = indices < 0 if encoded.indices.null_count else None
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=mask), encoded.dictionary)


@lru_cache(maxsize=4)
def identity(length: int) -> Codes:
    """The codes of a column whose values are its rows."""
    return np.arange(length, dtype=np.int32)


def plain(values: pa.Array | pa.ChunkedArray) -> Column:
    """A column whose values are its rows."""
    array = whole(values) if isinstance(values, pa.ChunkedArray) else values
    return Column(array, identity(len(array)))


def whole(chunks: pa.ChunkedArray) -> pa.Array:
    """One array of all chunks, which begins where its buffers do; a single one that does so is not copied."""
    if chunks.num_chunks == 1 and not chunks.chunk(0).offset:
        return chunks.chunk(0)
    return chunks.combine_chunks()


def compacted(values: pa.Array, codes: Codes) -> Column:
    """A column of these codes, without the values that no row has."""
    used, used_codes = compaction(codes, len(values))
    return Column(values.take(pa.array(used)), used_codes)


def compaction(codes: Codes, size: int) -> tuple[np.ndarray[Any, Any], Codes | None]:
    """Which of some values are those that rows have, and the codes of the rows among these.

    Args:
        codes: For each row the place of its value.
        size: How many values there are.
    """
    used = np.zeros(size, bool)
    used[codes] = True
    count = int(np.count_nonzero(used))
    if len(codes) > 1 and count == len(codes):
        return codes, identity(len(codes))
    places = np.flatnonzero(used)
    if count < 2:
        return places, None
    return places, codes if count == size else (np.cumsum(used, dtype=np.int32) - 1)[codes]


def encoded(chunks: pa.ChunkedArray) -> Column:
    """A text column as it was read; equal texts are found unless hardly any are equal."""
    if not len(chunks):
        return Column(pa.nulls(1, chunks.type), None)
    if hardly_any_are_equal(chunks):
        return plain(chunks)
    coded = whole(chunks.dictionary_encode(null_encoding="encode"))
    if len(coded.dictionary) == 1:
        return Column(coded.dictionary, None)
    return Column(coded.dictionary, coded.indices.to_numpy().astype(np.int32, copy=False))


def hardly_any_are_equal(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether many values are, to judge by the first, nearly all different."""
    first = values.slice(0, SAMPLE)
    return len(first) == SAMPLE and len(first.unique()) > MOST_DISTINCT * SAMPLE


def narrowed(column: Column) -> Column:
    """The column with equal values brought together."""
    if column.codes is None or len(column.values) < 2:
        return column
    coded = column.values.dictionary_encode(null_encoding="encode")
    if len(coded.dictionary) == len(column.values):
        return column
    if len(coded.dictionary) == 1:
        return Column(coded.dictionary, None)
    return Column(coded.dictionary, coded.indices.to_numpy().astype(np.int32, copy=False)[column.codes])


def combined(columns: Sequence[Column], length: int) -> tuple[Codes | None, list[pa.Array]]:
    """The combinations of the values of several columns; those of columns with the same codes may recur.

    Returns:
        The number of each row's combination, None where there is only one; and for each column its value in each of
        the combinations.
    """
    moving = [column for column in columns if column.codes is not None]
    if not moving:
        return None, [column.values.slice(0, 1) for column in columns]
    if all(column.codes is moving[0].codes for column in moving):
        size = len(moving[0].values)
        spread = [column.values if column.codes is not None else _spread(column.values, size) for column in columns]
        return moving[0].codes, spread
    codes, places = _numbered(moving, length)
    indices = {id(column): pa.array(place) for column, place in zip(moving, places, strict=True)}
    size = len(places[0])
    spread = [
        column.values.take(indices[id(column)]) if id(column) in indices else _spread(column.values, size)
        for column in columns
    ]
    return codes, spread


def _spread(values: pa.Array, size: int) -> pa.Array:
    if pa.types.is_nested(values.type):
        return values.take(pa.array(np.zeros(size, np.int8)))
    return pa.nulls(size, values.type) if values.null_count else pa.repeat(values[0], size)


def _numbered(columns: Sequence[Column], length: int) -> tuple[Codes, list[np.ndarray[Any, Any]]]:
    """The number of each row's combination, and for each column the code that stands in each combination."""
    number: Any = None
    sizes: list[int] = []
    total = 1
    for position, column in enumerate(columns):
        if total * len(column.values) >= 2**62:
            before = pa.array(number).dictionary_encode()  # of no more combinations than there are rows
            joined = Column(before.dictionary, before.indices.to_numpy())
            codes, places = _numbered([joined, *columns[position:]], length)
            return codes, [*_split(before.dictionary.to_numpy()[places[0]], sizes), *places[1:]]
        kind = np.int32 if total * len(column.values) < 2**31 else np.int64
        assert column.codes is not None
        number = column.codes if number is None else number.astype(kind) * kind(len(column.values)) + column.codes
        sizes.append(len(column.values))
        total *= len(column.values)
    assert number is not None
    if total <= DENSE * length:
        used = np.zeros(total, bool)
        used[number] = True
        distinct = np.flatnonzero(used)
        codes = (np.cumsum(used, dtype=np.int32) - 1)[number]
    else:
        coded = pa.array(number).dictionary_encode()
        codes, distinct = coded.indices.to_numpy(), coded.dictionary.to_numpy()
    return codes, _split(distinct, sizes)


def _split(distinct: np.ndarray[Any, Any], sizes: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    places = []
    for size in reversed(sizes):
        distinct, place = np.divmod(distinct, size)
        places.append(place)
    return places[::-1]


def alike(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type that columns of the same values, some of their texts in dictionaries and some not, are cast to.

    A text, at any depth, that is a dictionary in one of them is one.
    """
    first = kinds[0]
    if all(kind == first for kind in kinds):
        return first
    if pa.types.is_struct(first):
        names = [field.name for field in first]
        return pa.struct([pa.field(name, alike([kind.field(name).type for kind in kinds])) for name in names])
    if pa.types.is_map(first):
        return pa.map_(alike([kind.key_type for kind in kinds]), alike([kind.item_type for kind in kinds]))
    if pa.types.is_list(first):
        return pa.list_(alike([kind.value_type for kind in kinds]))
    return TEXTS


def without_dictionaries(kind: pa.DataType) -> pa.DataType:
    """The type with plain texts, at any depth."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, without_dictionaries(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(without_dictionaries(kind.key_type), without_dictionaries(kind.item_type))
    return pa.list_(without_dictionaries(kind.value_type)) if pa.types.is_list(kind) else kind
