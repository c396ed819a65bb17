"""The table's columns put together from a query's flat ones.

Structs exist where one of their members does. `unmapped` and `observables` gather, row by row, the values that are
there. Everything works on whole columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.compiler.program import EVENT_MAP, Caption, Program
from ocsf_mappers.ocsf import tables
from ocsf_mappers.readers.tabular import UNDECLARED, numbered


class Assembler:
    """Builds the table's columns for one batch.

    Args:
        program: The plan.
        found: The query's result, without rows of invalid events; of a text log with `_undeclared` beside it.
    """

    def __init__(self, program: Program, found: pa.Table) -> None:
        self.program = program
        self.found = found
        self.event_map = self.column(EVENT_MAP).to_numpy(zero_copy_only=False).astype(np.int16)
        self._leaves: dict[str, pa.Array] = {}

    def column(self, name: str) -> pa.Array:
        """A column of the query's result, in one piece."""
        chunked = self.found[name]
        return chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()

    def columns(self, fields: Sequence[pa.Field]) -> list[pa.Array]:
        """One array for each field of the table."""
        special = {"unmapped": self.unmapped, "observables": self.observables}
        return [
            special[field.name]() if field.name in special else self._build(field, field.name)[0] for field in fields
        ]

    # -- structs ------------------------------------------------------------------------------------------------------
    def _build(self, field: pa.Field, path: str) -> tuple[pa.Array, pa.Array | bool]:
        """The array at a path, and where it is present: a boolean a row, or one for all rows."""
        leaf = self.leaf(path)
        if leaf is not None:
            return leaf, self._present(path, leaf)
        if not pa.types.is_struct(field.type):
            return pa.nulls(len(self.found), field.type), False
        members = [self._build(member, f"{path}.{member.name}") for member in field.type]
        present: pa.Array | bool = False
        for _, there in members:
            present = _either(present, there)
        if present is False:
            return pa.nulls(len(self.found), field.type), False
        mask = None if present is True else pc.invert(present)
        names = [member.name for member in field.type]
        return pa.StructArray.from_arrays([array for array, _ in members], names=names, mask=mask), present

    def _present(self, path: str, leaf: pa.Array) -> pa.Array | bool:
        caption = self.program.captions.get(path) or self._caption_of_sibling(path)
        if caption is not None and caption.weak:
            # A default says nothing of the log, so it makes no object.
            return pc.not_equal(self.leaf(path), 0) if path in self.program.captions else False
        if leaf.null_count == 0:
            return True
        return False if leaf.null_count == len(leaf) else pc.is_valid(leaf)

    def _caption_of_sibling(self, path: str) -> Caption | None:
        return next((caption for caption in self.program.captions.values() if caption.sibling == path), None)

    # -- leaves -------------------------------------------------------------------------------------------------------
    def leaf(self, path: str) -> pa.Array | None:
        """The values at an OCSF path; None when the mapping has none there."""
        if path not in self._leaves:
            found = self._leaf(path)
            if found is None:
                return None
            self._leaves[path] = found
        return self._leaves[path]

    def _leaf(self, path: str) -> pa.Array | None:
        program = self.program
        if path in program.constants:
            return self._constant(program.constants[path])
        if path in program.values:
            return self.column(program.values[path])
        if path in program.times:
            return pc.divide(self.column(program.times[path]), 1000)
        if path.endswith("_dt") and path.removesuffix("_dt") in program.times:
            return self.column(program.times[path.removesuffix("_dt")]).cast(tables.TIMESTAMP)
        if path in program.captions:
            return self.column(program.captions[path].column).cast(pa.int32())
        if (caption := self._caption_of_sibling(path)) is not None:
            return self._sibling(caption)
        match path:
            case "type_uid":
                return self._type_uid()
            case "type_name":
                return self._type_name()
            case "duration" if {"start_time", "end_time"} <= set(program.times):
                return self._duration()
            case "region":
                return self._safe("cloud.region", r"^[a-z0-9-]{1,32}$")
            case "accountid":
                return self._safe("cloud.account.uid", r"^[0-9]{12}$")
            case _:
                return None

    def _constant(self, choices: Sequence[Any]) -> pa.Array:
        """A value that depends on nothing but the event map."""
        numbers = self.event_map if len(set(map(repr, choices))) > 1 else np.zeros(len(self.found), np.int16)
        if isinstance(choices[0], list | tuple):
            return pa.array(choices, pa.list_(pa.string())).take(pa.array(numbers))
        if any(isinstance(choice, str) for choice in choices):
            return _dictionary(numbers, choices)
        return pa.array(choices, pa.int32()).take(pa.array(numbers))

    def _ids(self, caption: Caption) -> Any:
        """Event map and id in one number: the row of a lookup table. A missing id is 0."""
        ids = pc.fill_null(self.column(caption.column), 0).to_numpy(zero_copy_only=False)
        return self.event_map.astype(np.int64) * 1000 + ids

    def _looked_up(self, caption: Caption, texts: Sequence[Mapping[int, str]]) -> pa.Array:
        """A dictionary column with the text that an id stands for."""
        table = np.full(1000 * max(len(texts), 1), -1, np.int16)
        words: dict[str, int] = {}
        for number, by_id in enumerate(texts):
            for key, text in by_id.items():
                table[number * 1000 + key] = words.setdefault(text, len(words))
        indices = table[self._ids(caption)]
        missing = self.column(caption.column).is_null().to_numpy(zero_copy_only=False) | (indices < 0)
        return pa.DictionaryArray.from_arrays(pa.array(indices, mask=missing), pa.array(list(words), pa.string()))

    def _sibling(self, caption: Caption) -> pa.Array:
        found = self._looked_up(caption, caption.captions)
        if caption.other is None:
            return found
        other = self.column(caption.other)
        return found if other.null_count == len(other) else pc.coalesce(other, found.cast(pa.string()))

    def _class_uids(self) -> pa.Array:
        uids = np.array([uid for _, uid in self.program.class_captions], np.int64)
        return pa.array(uids[self.event_map])

    def _type_uid(self) -> pa.Array:
        activity = self.column(self.program.captions["activity_id"].column)
        return pc.add(pc.multiply(self._class_uids(), 100), activity.cast(pa.int64()))

    def _type_name(self) -> pa.Array:
        activity = self.program.captions["activity_id"]
        texts = []
        for (label, _), captions in zip(self.program.class_captions, activity.captions, strict=True):
            texts.append({key: f"{label}: {text}" for key, text in captions.items()})
        return self._looked_up(activity, texts)

    def _duration(self) -> pa.Array:
        """Milliseconds from start to end; null where either is missing, the end is earlier, or the span too long."""
        span = pc.subtract(self.leaf("end_time"), self.leaf("start_time"))
        sound = pc.and_(pc.greater_equal(span, 0), pc.less(span, 2**31))
        return pc.if_else(sound, span, pa.scalar(None, pa.int64())).cast(pa.int32())

    def _safe(self, path: str, pattern: str) -> pa.Array:
        """A value that may enter a path: the event's own where it is well formed, else `unknown`."""
        leaf = self.leaf(path)
        if leaf is None:
            return _dictionary(np.zeros(len(self.found), np.int16), ["unknown"])
        coded = leaf if pa.types.is_dictionary(leaf.type) else leaf.dictionary_encode()
        words = coded.dictionary
        safe = pc.if_else(pc.fill_null(pc.match_substring_regex(words, pattern), False), words, "unknown")
        indices = pc.fill_null(coded.indices.cast(pa.int32()), len(words))
        return pa.DictionaryArray.from_arrays(indices, pa.concat_arrays([safe, pa.array(["unknown"])]))

    # -- lists gathered row by row ------------------------------------------------------------------------------------
    def unmapped(self) -> pa.Array:
        """The map of what no attribute took."""
        keys = list(self.program.leftovers)
        found = _gather([self.column(name) for name in self.program.leftovers.values()], len(self.found))
        numbers, rows, values = found.numbers, found.rows, found.values
        names = pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(keys, pa.string()))
        for name in ("_more", UNDECLARED):
            if name not in self.found.column_names or self.found[name].null_count == len(self.found):
                continue
            more = self.column(name)
            entries = more.flatten()
            parents = pc.list_parent_indices(more).to_numpy(zero_copy_only=False)
            rows = np.concatenate([rows, parents])
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
            names = pa.concat_arrays([names.cast(pa.string()), entries.field("key")]).take(pa.array(order))
            values = pa.concat_arrays([values, entries.field("value")]).take(pa.array(order))
        if not pa.types.is_dictionary(names.type):
            names = _numbered(rows, names)
        return pa.MapArray.from_arrays(_offsets(rows, len(self.found)), names, values)

    def observables(self) -> pa.Array:
        """The list of values that are worth pivoting on, in the order of their paths."""
        listed = self.program.observables
        columns, parents = [], []
        for observable in listed:
            values, rows = self._observed(observable.path, observable.members)
            if observable.shape is not None:
                shaped = pc.fill_null(pc.match_substring_regex(values, observable.shape), False)
                values = pc.if_else(shaped, values, pa.scalar(None, pa.string()))
            columns.append(_relative_names(values) if observable.relative else values)
            parents.append(rows)
        found = _gather(columns, len(self.found), parents)
        numbers = pa.array(found.numbers)
        kinds = pa.array([observable.type_id for observable in listed], pa.int32())
        members = [
            pa.DictionaryArray.from_arrays(numbers, pa.array([observable.name for observable in listed], pa.string())),
            found.values,
            pa.DictionaryArray.from_arrays(numbers, pa.array([observable.type for observable in listed], pa.string())),
            kinds.take(numbers),
        ]
        items = pa.StructArray.from_arrays(members, names=["name", "value", "type", "type_id"])
        return pa.ListArray.from_arrays(_offsets(found.rows, len(self.found)), items)

    def _observed(self, path: str, members: tuple[str, ...]) -> tuple[pa.Array, np.ndarray[Any, Any] | None]:
        """Values at a path, and the row of each when they come out of a list."""
        leaf = self.leaf(path)
        if leaf is None:
            return pa.nulls(0, pa.string()), np.zeros(0, np.int64)
        leaf, rows = _flat(leaf, None)
        for member in members:
            leaf, rows = _flat(pc.struct_field(leaf, member), rows)
        leaf = leaf.cast(pa.string())
        empty = pc.equal(leaf, "")
        return (pc.if_else(empty, pa.scalar(None, pa.string()), leaf) if pc.any(empty).as_py() else leaf), rows


def _numbered(rows: np.ndarray[Any, Any], names: pa.Array) -> pa.Array:
    """The keys of a map's entries; one that stands in its row before (`a.b` and the `b` of `a`) gets a number.

    Args:
        rows: The row of each entry, ascending.
        names: The key of each.
    """
    coded = names.dictionary_encode()
    places = rows.astype(np.int64) * len(coded.dictionary) + coded.indices.to_numpy()
    if len(pc.unique(pa.array(places))) == len(places):
        return names
    _, first, counts = np.unique(places, return_index=True, return_counts=True)
    repeated = np.isin(rows, rows[first[counts > 1]])
    found, used, row = names.to_pylist(), set[str](), -1
    for place in np.flatnonzero(repeated).tolist():
        if rows[place] != row:
            row, of_row = rows[place], slice(*np.searchsorted(rows, [rows[place], rows[place] + 1]).tolist())
            every, used = set(found[of_row]), set()
        if (name := found[place]) in used:
            found[place] = numbered(name, every)
            every.add(found[place])
        used.add(name)
    return pa.array(found, pa.string())


def _relative_names(names: pa.Array) -> pa.Array:
    """Absolute DNS names (`WWW.example.com.`) as other logs write them: in lower case, without the dot."""
    absolute = pc.fill_null(pc.ends_with(names, "."), False)
    if not pc.any(absolute).as_py():
        return pa.nulls(len(names), pa.string())
    bare = pc.utf8_lower(pc.utf8_slice_codeunits(names, 0, -1))
    return pc.if_else(pc.and_(absolute, pc.not_equal(bare, "")), bare, pa.scalar(None, pa.string()))


def _flat(values: pa.Array, rows: Any) -> tuple[pa.Array, Any]:
    """The items of a list one after the other, and the row of each; other values as they are."""
    if not pa.types.is_list(values.type):
        return values, rows
    parents = pc.list_parent_indices(values).to_numpy(zero_copy_only=False)
    return values.flatten(), parents if rows is None else rows[parents]


class _Gathered:
    """Values of several columns in row order: for each its row, the number of its column, and itself."""

    def __init__(self, rows: Any, numbers: Any, values: pa.Array) -> None:
        self.rows = rows
        self.numbers = numbers
        self.values = values


def _gather(columns: Sequence[pa.Array], length: int, parents: Sequence[Any] | None = None) -> _Gathered:
    """The values that are not null, by row and then by column.

    Args:
        columns: One array a row, or of any length where `parents` gives the row of each value.
        length: Number of rows.
        parents: For each column None, or the rows.
    """
    rows, numbers, values = [], [], []
    for number, column in enumerate(columns):
        where = parents[number] if parents is not None and parents[number] is not None else None
        if column.null_count == len(column):
            continue
        if column.null_count:
            there = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            values.append(column.drop_null())
            rows.append(there if where is None else where[there])
        else:
            values.append(column)
            rows.append(np.arange(length) if where is None else where)
        numbers.append(np.full(len(values[-1]), number, np.int16))
    if not values:
        return _Gathered(np.zeros(0, np.int64), np.zeros(0, np.int16), pa.array([], pa.string()))
    joined = np.concatenate(rows)
    order = np.argsort(joined, kind="stable")
    text = pa.concat_arrays([value.cast(pa.string()) for value in values]).take(pa.array(order))
    return _Gathered(joined[order], np.concatenate(numbers)[order], text)


def _offsets(rows: Any, length: int) -> pa.Array:
    """List offsets for values in row order."""
    counts = np.bincount(rows, minlength=length) if len(rows) else np.zeros(length, np.int64)
    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


def _dictionary(indices: Any, words: Sequence[str | None]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(words, pa.string()))


def _either(left: pa.Array | bool, right: pa.Array | bool) -> pa.Array | bool:
    if left is True or right is True:
        return True
    if left is False:
        return right
    return left if right is False else pc.or_(left, right)
