"""The table's columns put together from results.

Structs exist where one of their members does. `unmapped` and `observables` gather, row by row, the values that are
there. What depends on one result is computed once for each of its distinct values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_mappers.compiler.program import EVENT_MAP, Caption, Program
from ocsf_mappers.ocsf import tables
from ocsf_mappers.readers.column import Codes, Column, combined, plain
from ocsf_mappers.readers.tabular import numbered

MARKED = 16
"""Numbers are marked in a table of all that could be where these are no more than so many times as many."""


class Assembler:
    """Builds the table's columns for some records.

    Args:
        program: How results make up the columns.
        columns: The results, without those of invalid events; `_event_map` among them where there are several.
        length: How many records.
        more_unmapped: Lists of further entries of `unmapped`, in this order.
    """

    def __init__(
        self, program: Program, columns: Mapping[str, Column], length: int, more_unmapped: Sequence[Column] = ()
    ) -> None:
        self.program = program
        self.length = length
        self._columns = columns
        self._more_unmapped = more_unmapped
        self.event_map = columns[EVENT_MAP] if len(program.class_captions) > 1 else None
        self._leaves: dict[str, Column] = {}
        self._presence: dict[tuple[int, bytes], Any] = {}

    def columns(self, fields: Sequence[pa.Field]) -> list[pa.Array]:
        """One array for each field of the table."""
        special = {"unmapped": self.unmapped, "observables": self.observables}
        return [
            special[field.name]() if field.name in special else self._build(field, field.name)[0] for field in fields
        ]

    # -- structs ------------------------------------------------------------------------------------------------------
    def _build(self, field: pa.Field, path: str) -> tuple[pa.Array, Any]:
        """The array at a path, and where it is present: a boolean a row, or one for all rows."""
        leaf = self.leaf(path)
        if leaf is not None:
            if pa.types.is_integer(leaf.values.type) and leaf.values.type != field.type:
                # What is a number of 32 bits in the version that the table is of may have 64 in a later one. One that
                # does not fit fails its record.
                leaf = leaf.map(lambda values: values.cast(field.type))
            return leaf.array(self.length), self._present(path, leaf)
        if not pa.types.is_struct(field.type):
            return pa.nulls(self.length, field.type), False
        members = [self._build(member, f"{path}.{member.name}") for member in field.type]
        present: Any = False
        for _, is_present in members:
            present = _either(present, is_present)
        if present is False:
            return pa.nulls(self.length, field.type), False
        mask = None if present is True else pa.array(~present)
        names = [member.name for member in field.type]
        return pa.StructArray.from_arrays([array for array, _ in members], names=names, mask=mask), present

    def _present(self, path: str, leaf: Column) -> Any:
        flags = leaf.valid()
        defaults = self.program.defaults
        # A default says nothing of the log, so it makes no object, nor does the caption of an id that has one.
        if path in defaults:
            flags = flags & (pc.fill_null(leaf.values, defaults[path]).to_numpy(zero_copy_only=False) != defaults[path])
        elif any(caption.sibling == path and id_path in defaults for id_path, caption in self.program.captions.items()):
            return False
        if leaf.codes is None or flags.all() or not flags.any():
            return bool(flags.any())
        key = (id(leaf.codes), flags.tobytes())
        if key not in self._presence:
            self._presence[key] = flags[leaf.codes]
        return self._presence[key]

    def _caption_of_sibling(self, path: str) -> Caption | None:
        return next((caption for caption in self.program.captions.values() if caption.sibling == path), None)

    # -- leaves -------------------------------------------------------------------------------------------------------
    def leaf(self, path: str) -> Column | None:
        """The values at an OCSF path; None when the mapping has none there."""
        if path not in self._leaves:
            column = self._leaf(path)
            if column is None:
                return None
            self._leaves[path] = column
        return self._leaves[path]

    def _leaf(self, path: str) -> Column | None:
        program = self.program
        if path in program.constants:
            return self._constant(program.constants[path])
        if path in program.values:
            return self._columns[program.values[path]]
        if path in program.times:
            return self._columns[program.times[path]].map(lambda micros: pc.divide(micros, 1000))
        if path.endswith("_dt") and path.removesuffix("_dt") in program.times:
            micros = self._columns[program.times[path.removesuffix("_dt")]]
            return micros.map(lambda values: values.cast(tables.TIMESTAMP))
        if path in program.captions:
            return self._columns[program.captions[path].column].map(lambda ids: ids.cast(pa.int32()))
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

    def _by_event_map(self, choices: pa.Array) -> Column:
        """A value for each event map."""
        if self.event_map is None or len(choices) == 1:
            return Column(choices.slice(0, 1), None)
        return self.event_map.map(choices.take)

    def _with_event_map(self, ids: Column) -> tuple[Codes | None, Any, pa.Array]:
        """Combinations of the number of an event map and an id: codes, numbers, ids."""
        if self.event_map is None:
            return ids.codes, 0, ids.values
        codes, (numbers, values) = combined([self.event_map, ids], self.length)
        return codes, numbers.to_numpy(zero_copy_only=False).astype(np.int64), values

    def _constant(self, choices: Sequence[Any]) -> Column:
        """A value that depends on nothing but the event map."""
        if len(set(map(repr, choices))) == 1:
            choices = choices[:1]
        first = next((choice for choice in choices if choice is not None), None)  # an event map may have none
        kinds = ((list, pa.list_(pa.string())), (tuple, pa.list_(pa.string())), (str, pa.string()), (bool, pa.bool_()))
        kind = next((kind for python, kind in kinds if isinstance(first, python)), pa.int32())
        return self._by_event_map(pa.array(choices, kind))

    def _looked_up(self, caption: Caption, texts: Sequence[Mapping[int, str]]) -> Column:
        """The text that an id stands for; null where it stands for none."""
        table = np.full(1000 * max(len(texts), 1), -1, np.int32)
        words: dict[str, int] = {}
        for number, by_id in enumerate(texts):
            for key, text in by_id.items():
                table[number * 1000 + key] = words.setdefault(text, len(words))
        codes, numbers, ids = self._with_event_map(self._columns[caption.column])
        places = table[pc.fill_null(ids, 0).to_numpy(zero_copy_only=False).astype(np.int64) + numbers * 1000]
        missing = ids.is_null().to_numpy(zero_copy_only=False) | (places < 0)
        return Column(pa.array(list(words), pa.string()).take(pa.array(places, mask=missing)), codes)

    def _sibling(self, caption: Caption) -> Column:
        labels = self._looked_up(caption, caption.captions)
        if caption.other is None:
            return labels
        other = self._columns[caption.other]
        if other.values.null_count == len(other.values):
            return labels
        codes, (texts, others) = combined([labels, other], self.length)
        return Column(pc.coalesce(others, texts), codes)

    def _type_uid(self) -> Column:
        codes, numbers, ids = self._with_event_map(self._columns[self.program.captions["activity_id"].column])
        uids = np.array([uid for _, uid in self.program.class_captions], np.int64)[numbers]
        return Column(pc.add(ids.cast(pa.int64()), uids * 100), codes)

    def _type_name(self) -> Column:
        activity = self.program.captions["activity_id"]
        texts = []
        for (label, _), captions in zip(self.program.class_captions, activity.captions, strict=True):
            texts.append({key: f"{label}: {text}" for key, text in captions.items()})
        return self._looked_up(activity, texts)

    def _duration(self) -> Column:
        """Milliseconds from start to end; null where either is missing, the end is earlier, or the span too long."""
        start, end = self.leaf("start_time"), self.leaf("end_time")
        assert start is not None
        assert end is not None
        codes, (starts, ends) = combined([start, end], self.length)
        span = pc.subtract(ends, starts)
        sound = pc.and_(pc.greater_equal(span, 0), pc.less(span, 2**31))
        return Column(pc.if_else(sound, span, pa.scalar(None, pa.int64())).cast(pa.int32()), codes)

    def _safe(self, path: str, pattern: str) -> Column:
        """A value that may enter a path: the event's own where it is well formed, else `unknown`."""
        leaf = self.leaf(path)
        if leaf is None:
            return Column(pa.array(["unknown"]), None)
        return leaf.map(
            lambda texts: pc.if_else(pc.fill_null(pc.match_substring_regex(texts, pattern), False), texts, "unknown")
        )

    # -- lists gathered row by row ------------------------------------------------------------------------------------
    def unmapped(self) -> pa.Array:
        """The map of what no attribute took."""
        gathered = _Gathered(self.length)
        for key, name in self.program.leftovers.items():
            column = self._columns[name]
            gathered.add(key, column, column.values)
        repeatable = False
        for column in self._more_unmapped:
            values, parents = _flat(column.values, None)
            if len(values):
                gathered.add(values.field("key"), column, values.field("value"), parents)
                repeatable = True
        offsets, names, values = gathered.done()
        if repeatable:
            names = numbered_names(np.repeat(np.arange(self.length), np.diff(offsets)), names)
        return pa.MapArray.from_arrays(pa.array(offsets), names, values)

    def observables(self) -> pa.Array:
        """The list of values that are worth pivoting on, in the order of their paths."""
        observables = self.program.observables
        gathered = _Gathered(self.length)
        for number, observable in enumerate(observables):
            column = self.leaf(observable.path)
            if column is None:
                continue
            values, parents = _observed(column.values, observable.members)
            if observable.shape is not None:
                shaped = pc.fill_null(pc.match_substring_regex(values, observable.shape), False)
                values = pc.if_else(shaped, values, pa.scalar(None, pa.string()))
            gathered.add(str(number), column, _relative_names(values) if observable.relative else values, parents)
        offsets, marks, values = gathered.done()
        numbers = pc.cast(marks.dictionary, pa.int32()).take(marks.indices).to_numpy(zero_copy_only=False)
        kinds = pa.array([observable.type_id for observable in observables], pa.int32())
        members = [
            _dictionary(numbers, [observable.name for observable in observables]),
            values,
            _dictionary(numbers, [observable.type for observable in observables]),
            kinds.take(pa.array(numbers)),
        ]
        items = pa.StructArray.from_arrays(members, names=["name", "value", "type", "type_id"])
        return pa.ListArray.from_arrays(pa.array(offsets), items)


def _observed(values: pa.Array, members: tuple[str, ...]) -> tuple[pa.Array, Any]:
    """Texts at a path, and the place of the value that each comes out of when they come out of lists."""
    leaf, parents = _flat(values, None)
    for member in members:
        leaf, parents = _flat(pc.struct_field(leaf, member), parents)
    leaf = leaf.cast(pa.string())
    empty = pc.equal(leaf, "")
    return (pc.if_else(empty, pa.scalar(None, pa.string()), leaf) if pc.any(empty).as_py() else leaf), parents


def numbered_names(rows: np.ndarray[Any, Any], names: pa.Array) -> pa.Array:
    """The keys of a map's entries; one that stands in its row before (`a.b` and the `b` of `a`) gets a number.

    Args:
        rows: The row of each entry, ascending.
        names: The key of each.
    """
    coded = names.dictionary_encode()
    places = rows.astype(np.int64) * len(coded.dictionary) + coded.indices.to_numpy()
    if _number_of_distinct(places) == len(places):
        return names
    _, first, counts = np.unique(places, return_index=True, return_counts=True)
    repeated = np.isin(rows, rows[first[counts > 1]])
    keys, used, row = names.to_pylist(), set[str](), -1
    for place in np.flatnonzero(repeated).tolist():
        if rows[place] != row:
            row, of_row = rows[place], slice(*np.searchsorted(rows, [rows[place], rows[place] + 1]).tolist())
            every, used = set(keys[of_row]), set()
        if (name := keys[place]) in used:
            keys[place] = numbered(name, every)
            every.add(keys[place])
        used.add(name)
    return pa.array(keys, pa.string())


def _number_of_distinct(places: np.ndarray[Any, Any]) -> int:
    """How many different numbers there are: by marking them where those from 0 to the largest are not many more."""
    size = int(places.max(initial=-1)) + 1
    if size > MARKED * len(places):
        return len(pc.unique(pa.array(places)))
    marks = np.zeros(size, bool)
    marks[places] = True
    return int(np.count_nonzero(marks))


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
    """Named values of several columns, gathered row by row in the order in which they were added."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._counts = np.zeros(length, np.int64)
        self._names: list[pa.Array] = []
        self._values: list[pa.Array] = []
        self._sources: list[tuple[Any, Any, Any]] = []
        self._size = 0

    def add(self, names: str | pa.Array, column: Column, values: pa.Array, parents: Any = None) -> None:
        """Adds values; those that are null are left out.

        Args:
            names: Their name, or the name of each.
            column: Whose values they come out of.
            values: For each of the column's values one; or, with `parents`, any number.
            parents: The place of the column's value that each comes out of, ascending.
        """
        if values.null_count == len(values):
            return
        places = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        of = places if parents is None else parents[places]
        counts = np.bincount(of, minlength=len(column.values))
        starts = np.cumsum(counts) - counts
        codes = np.zeros(self._length, np.int32) if column.codes is None else column.codes
        rows = np.flatnonzero((counts > 0)[codes])
        if not len(rows):
            return
        if len(places) < len(values):
            values = values.drop_null()
        keys = pa.repeat(pa.scalar(names), len(values)) if isinstance(names, str) else names.take(pa.array(places))
        self._names.append(keys)
        self._values.append(values)
        codes = codes[rows]
        each = counts[codes]
        self._counts[rows] += each
        self._sources.append((rows, each, starts[codes] + self._size))
        self._size += len(values)

    def done(self) -> tuple[Any, pa.Array, pa.Array]:
        """Offsets of the rows' lists, int32, the names as a dictionary, and the values."""
        offsets = np.zeros(self._length + 1, np.int64)
        np.cumsum(self._counts, out=offsets[1:])
        places = np.empty(int(offsets[-1]), np.int32)
        free = offsets[:-1].copy()
        for rows, each, starts in self._sources:
            if each.max() == 1:
                places[free[rows]] = starts
            else:
                within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
                places[np.repeat(free[rows], each) + within] = np.repeat(starts, each) + within
            free[rows] += each
        texts = pa.array([], pa.string())
        names = pa.concat_arrays([texts, *self._names]).dictionary_encode()
        values = Column(pa.concat_arrays([texts, *self._values]), places) if self._values else plain(texts)
        codes = names.indices.to_numpy()[places]
        coded = pa.DictionaryArray.from_arrays(pa.array(codes), names.dictionary)
        return offsets.astype(np.int32), coded, values.array(len(places))


def _dictionary(numbers: Any, words: Sequence[str]) -> pa.Array:
    """A dictionary column; words may recur."""
    distinct = pa.array(words, pa.string()).dictionary_encode()
    codes = distinct.indices.to_numpy()[numbers] if len(words) else np.zeros(0, np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes), distinct.dictionary)


def _either(left: Any, right: Any) -> Any:
    if left is True or right is True:
        return True
    if left is False:
        return right
    return left if right is False else left | right
