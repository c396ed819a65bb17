"""Rules applied to columns of events: to each distinct value once, and to nothing where no rule finds anything.

A dictionary's values are replaced in it, so that Parquet's dictionary pages have no more than the rows do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ocsf_lake.redaction.hiding import Replace
from ocsf_lake.redaction.places import Path
from ocsf_lake.redaction.texts import Changed, Detection, NamedMembers, Texts, found_in
from ocsf_mappers.engine.assemble import numbered_names
from ocsf_mappers.readers.column import whole

Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

KEPT_NAMES, KEPT_NAME_BYTES = 256, 16 << 10
"""What a pattern finds among so few names, and no longer ones together, is remembered."""


@dataclass(frozen=True)
class Hidden:
    """What one rule hides altogether.

    Args:
        rule: Name of the rule.
        path: OCSF path.
        replace: What takes the place of a text.
        drop: Whether nothing does.
    """

    rule: str
    path: Path
    replace: Replace
    drop: bool


@dataclass(frozen=True)
class Key:
    """Entries of `unmapped` that one rule hides.

    Args:
        rule: Name of the rule.
        pattern: Of the names whose values are hidden.
        replace: What takes the place of a value.
        drop: Whether the entry goes.
        inside: Pattern of names, and the members that are hidden in the JSON texts under these.
        left: Pattern of those of the names whose values stay; empty for none.
    """

    rule: str
    pattern: str
    replace: Replace
    drop: bool = False
    inside: Sequence[tuple[str, NamedMembers]] = ()
    left: str = ""

    def of(self, names: pa.Array) -> Flags:
        """Which entries of these names are hidden."""
        matches = _matching(names, self.pattern)
        return matches & ~_matching(names, self.left) if self.left and matches.any() else matches


@dataclass(frozen=True)
class Columns:
    """Rules for columns of events.

    Args:
        everywhere: Rules for any text, earlier ones first.
        at: Rules for texts at an OCSF path and below it, which come before those.
        hidden: What is hidden altogether.
        keys: Entries of `unmapped`.
        kept: OCSF paths that nothing changes.
        pairs: Names in lists of names and values; None for none.
    """

    everywhere: Texts
    at: Sequence[tuple[Path, Detection | NamedMembers]]
    hidden: Sequence[Hidden]
    keys: Sequence[Key]
    kept: frozenset[Path]
    pairs: Key | None = None

    @cached_property
    def _texts(self) -> dict[tuple[int, ...], Texts]:
        return {}

    def texts_at(self, path: Path) -> Texts:
        """The rules for texts at an OCSF path."""
        own = tuple(number for number, (place, _) in enumerate(self.at) if path[: len(place)] == place)
        if not own:
            return self.everywhere
        if own not in self._texts:
            rules = [self.at[number][1] for number in own]
            detections = [rule for rule in rules if isinstance(rule, Detection)]
            members = [rule for rule in rules if isinstance(rule, NamedMembers)]
            self._texts[own] = Texts(
                [*detections, *self.everywhere.detections], [*members, *self.everywhere.members]
            )
        return self._texts[own]

    def changed(self, events: pa.Table, *, compact: bool = False) -> tuple[pa.Table, Counter[str]]:
        """Events without what rules hide, and how many values each rule hid.

        Args:
            events: As an engine gives them.
            compact: Whether dictionaries lose the values that no row has.
        """
        walk = _Walk(self, compact)
        names = [name for name in events.column_names if (name,) not in self.kept and not name.startswith("_")]
        columns = {name: whole(events[name]) for name in names}
        walk.look(columns)
        for name, column in columns.items():
            if (after := walk.array(column, (name,))) is not column:
                events = events.set_column(events.column_names.index(name), name, after)
        return events, walk.counts


@dataclass
class _Walk:
    """One table, gone through once."""

    rules: Columns
    compact: bool
    counts: Counter[str] = field(default_factory=Counter)
    changes: dict[Path, Changed | None] = field(default_factory=dict)
    """Leaves in which a rule may find something, and their texts without it; None where these may be others by then."""

    def look(self, columns: Mapping[str, pa.Array]) -> None:
        """Finds the leaves that are worth a closer look."""
        by_rules: dict[int, tuple[Texts, list[tuple[Path, pa.Array]]]] = {}
        for name, column in columns.items():
            for path, values in _leaves((name,), column):
                if path not in self.rules.kept:
                    texts = self.rules.texts_at(path)
                    by_rules.setdefault(id(texts), (texts, []))[1].append((path, values))
        for texts, leaves in by_rules.values():
            suspects = found_in([values for _, values in leaves], texts.hint)
            near = [(*leaf, places) for leaf, places in zip(leaves, suspects, strict=True) if len(places)]
            # What is hidden altogether goes first, and takes texts out of columns.
            late = [path for path, *_ in near if self.rules.hidden or path[0] == "unmapped" or path[-1] == "value"]
            self.changes |= dict.fromkeys(late)
            now = [leaf for leaf in near if leaf[0] not in self.changes]
            changed = texts.all_changed([values for _, values, _ in now], [places for *_, places in now])
            self.changes |= {path: after for (path, *_), after in zip(now, changed, strict=True) if after is not None}

    def array(self, array: pa.Array, path: Path, *, in_list: bool = False) -> pa.Array:
        """The array at an OCSF path with rules applied; the same object where nothing changes."""
        for hidden in self.rules.hidden:
            if hidden.path == path and not in_list:
                array = self._hidden(array, hidden)
        kind = array.type
        if pa.types.is_struct(kind):
            return self._struct(array, path)
        if pa.types.is_map(kind):
            return self._map(array, path)
        if pa.types.is_list(kind):
            array = self._observables(array) if path == ("observables",) else self._pairs(array)
            before = array.values
            after = self.array(before, path, in_list=True)
            return array if after is before else _list(array, after)
        return self._leaf(array, path)

    def _struct(self, array: pa.Array, path: Path) -> pa.Array:
        before = [array.field(number) for number in range(array.type.num_fields)]
        names = [member.name for member in array.type]
        after = [self.array(child, (*path, name)) for child, name in zip(before, names, strict=True)]
        if all(new is old for new, old in zip(after, before, strict=True)):
            return array
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(after, names=names, mask=mask)

    def _leaf(self, array: pa.Array, path: Path) -> pa.Array:
        if path in self.rules.kept or not _is_text(array.type):
            return array
        if path in self.changes:
            changed = self.changes[path]
            array = self._texts(array, self.rules.texts_at(path)) if changed is None else self._with(array, changed)
        return _compacted(array) if self.compact else array

    def _texts(self, array: pa.Array, texts: Texts) -> pa.Array:
        """Texts, or a dictionary of them, without what rules hide in them."""
        changed = texts.changed(array.dictionary if pa.types.is_dictionary(array.type) else array)
        return array if changed is None else self._with(array, changed)

    def _with(self, array: pa.Array, changed: Changed) -> pa.Array:
        """An array with its texts, or those of its dictionary, changed."""
        rows = _rows_of(array)
        for rule, places in changed.places.items():
            self.counts[rule] += int(rows[places].sum())
        coded = pa.types.is_dictionary(array.type)
        return pa.DictionaryArray.from_arrays(array.indices, changed.texts) if coded else changed.texts

    # -- what is hidden altogether ------------------------------------------------------------------------------------
    def _hidden(self, array: pa.Array, rule: Hidden) -> pa.Array:
        if array.null_count == len(array):
            return array
        kind = array.type
        if rule.drop:
            self.counts[rule.rule] += len(array) - array.null_count
            return _nothing(array)
        if pa.types.is_struct(kind):
            names = [member.name for member in kind]
            after = [self._hidden(array.field(number), rule) for number in range(kind.num_fields)]
            return pa.StructArray.from_arrays(after, names=names, mask=array.is_null() if array.null_count else None)
        if pa.types.is_map(kind):
            return _map(array, array.keys, self._hidden(array.items, rule))
        if pa.types.is_list(kind):
            return _list(array, self._hidden(array.values, rule))
        if not _is_text(kind):
            self.counts[rule.rule] += len(array) - array.null_count
            return _nothing(array)
        return self._replaced(array, rule)

    def _replaced(self, array: pa.Array, rule: Hidden | Key) -> pa.Array:
        coded = pa.types.is_dictionary(array.type)
        after, flags = _replaced(array.dictionary if coded else array, rule.replace)
        self.counts[rule.rule] += int(_rows_of(array)[flags].sum())
        return pa.DictionaryArray.from_arrays(array.indices, after) if coded else after

    def _observables(self, array: pa.Array) -> pa.Array:
        """Observables without those of attributes that are hidden."""
        for rule in self.rules.hidden:
            items = array.values
            flags = _matching(items.field("name"), rf"^{re.escape('.'.join(rule.path))}(?:\.|$)")
            if not flags.any():
                continue
            if rule.drop:
                array = _without(array, pa.array(flags))
                continue
            place = items.type.get_field_index("value")
            children = [items.field(number) for number in range(items.type.num_fields)]
            values = _decoded(children[place])
            chosen, _ = _replaced(values.filter(pa.array(flags)), rule.replace)
            children[place] = pc.replace_with_mask(values, pa.array(flags), chosen)
            array = _list(array, pa.StructArray.from_arrays(children, names=[member.name for member in items.type]))
        return array

    def _pairs(self, array: pa.Array) -> pa.Array:
        """Names with values, as headers are, without the values of those that are credentials'."""
        items = array.values
        if self.rules.pairs is None or not pa.types.is_struct(items.type):
            return array
        names, place = (items.type.get_field_index(name) for name in ("name", "value"))
        if min(names, place) < 0 or not _is_text(items.type.field(place).type):
            return array
        if not (flags := self.rules.pairs.of(items.field(names))).any():
            return array
        children = [items.field(number) for number in range(items.type.num_fields)]
        children[place] = self._at(children[place], flags, partial(self._replaced, rule=self.rules.pairs))
        mask = items.is_null() if items.null_count else None
        return _list(array, pa.StructArray.from_arrays(children, names=[one.name for one in items.type], mask=mask))

    # -- unmapped -----------------------------------------------------------------------------------------------------
    def _map(self, array: pa.Array, path: Path) -> pa.Array:
        array = self._without_keys(array)
        keys, items = array.keys, array.items
        after = items
        for key in self.rules.keys:
            if not key.drop and (flags := key.of(keys)).any():
                after = self._at(after, flags, partial(self._replaced, rule=key))
            for pattern, members in key.inside:
                if (flags := _matching(keys, pattern)).any():
                    texts = Texts((), [members])
                    after = self._at(after, flags, partial(self._texts, texts=texts))
        names = self._leaf(keys, (*path, "key"))
        values = self._leaf(after, (*path, "value"))
        if names is keys and values is items:
            return array
        return _map(array, names if names is keys else _unique_names(array, names), values)

    def _without_keys(self, array: pa.Array) -> pa.Array:
        """The map without the entries that go."""
        for key in self.rules.keys:
            if key.drop and (flags := key.of(array.keys)).any():
                self.counts[key.rule] += int(flags.sum())
                array = _without(array, pa.array(flags))
        return array

    def _at(self, items: pa.Array, flags: Flags, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
        """Values with those at some entries changed."""
        chosen = change(_decoded(items.filter(pa.array(flags))))
        after = pc.replace_with_mask(_decoded(items), pa.array(flags), chosen)
        return after.dictionary_encode() if pa.types.is_dictionary(items.type) else after


def _leaves(path: Path, array: pa.Array) -> Iterator[tuple[Path, pa.Array]]:
    """Path of each column of texts in an array, and its distinct values."""
    kind = array.type
    if pa.types.is_struct(kind):
        for number, member in enumerate(kind):
            yield from _leaves((*path, member.name), array.field(number))
    elif pa.types.is_map(kind):
        yield from _leaves((*path, "key"), array.keys)
        yield from _leaves((*path, "value"), array.items)
    elif pa.types.is_list(kind):
        yield from _leaves(path, array.values)
    elif _is_text(kind):
        yield path, array.dictionary if pa.types.is_dictionary(kind) else array


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _rows_of(array: pa.Array) -> np.ndarray[Any, Any]:
    """How many entries have each of the distinct values."""
    if not pa.types.is_dictionary(array.type):
        return np.ones(len(array), np.int64)
    codes = array.indices.drop_null().to_numpy(zero_copy_only=False)
    return np.bincount(codes, minlength=len(array.dictionary))


def _replaced(values: pa.Array, replace: Replace) -> tuple[pa.Array, Flags]:
    """Texts with something in their place, and which of them have it."""
    after = [None if text is None else replace(text) for text in values.to_pylist()]
    flags: Flags = np.array([text is not None for text in after], bool)
    chosen = pa.array([text for text in after if text is not None], pa.string())
    return pc.replace_with_mask(values, pa.array(flags, pa.bool_()), chosen), flags


def _nothing(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        nulls = pa.nulls(len(array), array.type.index_type)
        return pa.DictionaryArray.from_arrays(nulls, pa.array([], array.type.value_type))
    return pa.nulls(len(array), array.type)


def _decoded(array: pa.Array) -> pa.Array:
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def _compacted(array: pa.Array) -> pa.Array:
    return _decoded(array).dictionary_encode() if pa.types.is_dictionary(array.type) else array


def _matching(keys: pa.Array, pattern: str) -> Flags:
    """Which entries have a name that a pattern finds."""
    coded = pa.types.is_dictionary(keys.type)
    names = keys.dictionary if coded else keys
    few = len(names) <= KEPT_NAMES and names.nbytes <= KEPT_NAME_BYTES
    matches = _cached_matches(tuple(names.to_pylist()), pattern) if few else _names_matching(names, pattern)
    return matches[keys.indices.to_numpy(zero_copy_only=False)] if coded else matches


@lru_cache(maxsize=64)
def _cached_matches(names: tuple[str, ...], pattern: str) -> Flags:
    """The same for few names: those of the records before come again."""
    return _names_matching(pa.array(names, pa.string()), pattern)


def _names_matching(names: pa.Array, pattern: str) -> Flags:
    matches: Flags = pc.fill_null(pc.match_substring_regex(names, pattern), False).to_numpy(zero_copy_only=False)
    return matches


def _list(array: pa.Array, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(array.offsets, values, mask=array.is_null() if array.null_count else None)


def _map(array: pa.Array, keys: pa.Array, items: pa.Array) -> pa.Array:
    mask = array.is_null() if array.null_count else None
    return pa.MapArray.from_arrays(array.offsets, keys, items, mask=mask)


def _unique_names(array: pa.Array, names: pa.Array) -> pa.Array:
    """Names of a map's entries; one that was hidden and stands in its row twice gets a number."""
    offsets = array.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    texts = _decoded(names)
    used = numbered_names(np.repeat(np.arange(len(array)), np.diff(offsets)), texts.slice(first, last - first))
    return pa.concat_arrays([texts.slice(0, first), _decoded(used), texts.slice(last)])


def _without(array: pa.Array, flags: pa.Array) -> pa.Array:
    """Lists or maps without some of their entries."""
    keep = pc.invert(flags).to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(keep)]).astype(np.int32)
    offsets = pa.array(ends[array.offsets.to_numpy()])
    mask = array.is_null() if array.null_count else None
    chosen = pa.array(keep)
    if pa.types.is_map(array.type):
        return pa.MapArray.from_arrays(offsets, array.keys.filter(chosen), array.items.filter(chosen), mask=mask)
    return pa.ListArray.from_arrays(offsets, array.values.filter(chosen), mask=mask)

