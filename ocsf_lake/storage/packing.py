"""Slices of columns whose texts are dictionaries, with only the values that are in the slice.

A file is made of a slice of what was mapped together, and a dictionary would be written with all its values: those of
other accounts among them.

No value stands twice in what this gives. Arrow reserves a dictionary's page for all values and fills it with the
different ones: what happens to be in memory, of other logs perhaps, would fill the rest, and the column would be
written out text by text.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

FEW_ROWS = 256
"""So few texts are sooner written out than brought to a dictionary of their own."""

MANY_ROWS = 8_192
"""In so many codes those that are used are sooner found by marking them than by hashing."""


def packed(values: pa.Array) -> pa.Array:
    """The same values; dictionaries at any depth have what is in them alone, or are written out."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _own_dictionary(values)
    if pa.types.is_struct(kind):
        members = [packed(values.field(number)) for number in range(kind.num_fields)]
        names = [field.name for field in kind]
        return pa.StructArray.from_arrays(members, names=names, mask=values.is_null() if values.null_count else None)
    if pa.types.is_map(kind):
        offsets, start, length = _offsets(values)
        keys, items = values.keys.slice(start, length), values.items.slice(start, length)
        return pa.MapArray.from_arrays(offsets, packed(keys), packed(items))
    if pa.types.is_list(kind) and _has_dictionary(kind.value_type):
        offsets, start, length = _offsets(values)
        mask = values.is_null() if values.null_count else None
        return pa.ListArray.from_arrays(offsets, packed(values.values.slice(start, length)), mask=mask)
    return values


def _own_dictionary(values: pa.Array) -> pa.Array:
    texts, length = values.dictionary, len(values)
    if len(texts) == 1 and values.null_count < length:
        return values
    if length < FEW_ROWS:
        return values.dictionary_decode()
    codes = None
    if length < MANY_ROWS:
        coded = values.indices.dictionary_encode()
        used, codes = coded.dictionary, coded.indices
    else:
        used = _used(values.indices, len(texts))
    if 2 * len(used) > length or not len(used):
        return values.dictionary_decode()
    distinct = texts.take(used).dictionary_encode(null_encoding="encode")
    if len(distinct.dictionary) == len(texts):
        return values
    if codes is None or len(distinct.dictionary) < len(used):
        places = np.zeros(len(texts), np.int32)
        places[used] = distinct.indices
        codes = pa.array(places).take(values.indices)
    return pa.DictionaryArray.from_arrays(codes, distinct.dictionary)


def _used(codes: pa.Array, size: int) -> pa.Array:
    """Which codes below `size` there are."""
    used = np.zeros(size, bool)
    used[(codes.drop_null() if codes.null_count else codes).to_numpy(zero_copy_only=False)] = True
    return pa.array(np.flatnonzero(used))


def _offsets(values: pa.Array) -> tuple[pa.Array, int, int]:
    """Offsets from 0, and where the items begin and how many they are."""
    offsets = values.offsets.to_numpy()
    return pa.array(offsets - offsets[0]), int(offsets[0]), int(offsets[-1] - offsets[0])


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return any(_has_dictionary(kind.field(number).type) for number in range(kind.num_fields))
