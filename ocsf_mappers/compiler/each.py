"""Lists of objects, mapped element by element from JSON arrays and objects.

Each element goes through three steps: what the fields read is taken out of its text (`item`, see `compiler.reads`),
its values are made and cast (`flat`: texts at the places of their paths), then they are put together as the table's
struct. A cast that fails leaves the attribute null; unless the whole element is carried over too, the array then stays
in `unmapped`.
What counts is how many expressions there are: DuckDB sets each up anew for every two thousand rows, however few have
elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ocsf_mappers import sqltext
from ocsf_mappers.compiler import captions, casts
from ocsf_mappers.compiler.columns import Leaf, struct
from ocsf_mappers.compiler.reads import Columns, Element
from ocsf_mappers.errors import MappingError
from ocsf_mappers.ocsf import schema
from ocsf_mappers.vocabulary import lists
from ocsf_mappers.vocabulary.record import Path
from ocsf_mappers.vocabulary.values import ELEMENT, OUTER, columns
from ocsf_mappers.vocabulary.word import Consumption, Resolver, Word, both

Cast = Callable[[str, str, tuple[int, int] | None], str | None]
"""(OCSF base type, SQL of the text, limits) -> SQL that casts it, null where it cannot; None needs no cast."""


@dataclass(frozen=True)
class ObjectSchema:
    """What the elements are: an OCSF object in one version, under some profiles."""

    ocsf: schema.Schema
    type: schema.ObjectType
    profiles: frozenset[str]

    def attribute(self, path: str) -> schema.Attribute | None:
        """The attribute at a path inside the element; None where this version or these profiles do not have it."""
        owner: schema.ObjectType | None = self.type
        attribute = None
        for step in path.split("."):
            attribute = owner.attributes.get(step) if owner else None
            if attribute is None or (attribute.profiles and not attribute.profiles & self.profiles):
                return None
            owner = self.ocsf.members(attribute)
        return attribute


class SharedLists:
    """Columns of the record that hold what lists are made of, each computed once.

    Planning and setting up an expression costs more the deeper it is, and lists read their sources many times.
    """

    def __init__(self) -> None:
        self.sources, self.parts, self.kept = Columns("source"), Columns("part"), Columns("list")
        """The JSON values that lists go through, the flat elements of each part, and those that objects are made of."""


@dataclass(frozen=True)
class Taken:
    """A value taken out of an element: the column it fills, its SQL, and whether it alone makes no object.

    A time is taken once, under its name with `_dt`, as microseconds since 1970. A constant makes no object, nor does
    the caption of an id; an id that is required makes none where it is 0, its default.
    """

    path: str
    sql: str
    is_default: bool
    default: str | None = None


@dataclass(frozen=True)
class Sibling:
    """The caption that stands beside an id, where no part fills it with a text of its own."""

    id: str
    attribute: schema.Attribute

    @property
    def captions(self) -> list[tuple[str, str]]:
        """Id and caption of the enum's entries, without the one for other text."""
        entries = (self.attribute.enum or {}).items()
        return [(key, caption) for key, caption in entries if int(key) != captions.OTHER]

    @property
    def is_default(self) -> bool:
        """Whether it makes no object exist: it is always there."""
        return self.attribute.required


class ObjectList:
    """A list of objects made of one `each` or of several, one after the other.

    Args:
        parts: The expressions.
        holder: What an element is; fields that it does not know are left out.
        kind: The table's type of the list.
        record: SQL for the record's columns.
        cast: How text becomes a number or a boolean.
        outside: What the lists are read from: an element of the list that this one stands in, or the record.
        depth: How many lists this one stands in.
        shared: What gives columns of the record to SQL that needs no list around it; None where there are none.
    """

    def __init__(
        self,
        parts: Sequence[lists.Each],
        holder: ObjectSchema,
        kind: pa.DataType,
        record: Resolver,
        cast: Cast,
        outside: Resolver | None = None,
        depth: int = 0,
        shared: SharedLists | None = None,
    ) -> None:
        self.parts = parts
        self.holder = holder
        self.kind = kind
        self.record = record
        self.cast = cast
        self.outside = outside or record
        self.depth = depth
        self.shared = shared
        self.item, self.flat = f"item{depth}", f"flat{depth}"
        self.siblings = self._siblings()

    def _siblings(self) -> dict[str, Sibling]:
        """By path, the captions that follow from their id alone."""
        siblings = {}
        for part in self.parts:
            for path, _ in part.fields:
                attribute = self.holder.attribute(path)
                if attribute is not None and attribute.sibling and self._is_id(attribute):
                    sibling_path = ".".join([*path.split(".")[:-1], attribute.sibling])
                    if self._column(sibling_path) is not None:
                        siblings[sibling_path] = Sibling(path, attribute)
        mapped = {path for part in self.parts for path, _ in part.fields if self.holder.attribute(path)}
        return {path: sibling for path, sibling in siblings.items() if path not in mapped}

    def _is_id(self, attribute: schema.Attribute) -> bool:
        scalar = not attribute.object and not attribute.is_array
        return scalar and attribute.enum is not None and self.holder.ocsf.scalar(attribute).base == "integer_t"

    def sql(self) -> str:
        """SQL for the list in the table's type. A list of several parts, or inside another, is null without elements.

        What makes no object is left out, and asked whether anything is left, before objects are made: they are wide.
        """
        elements = [self._element(part) for part in self.parts]
        values = [self._taken(part, element) for part, element in zip(self.parts, elements, strict=True)]
        paths = list(dict.fromkeys(value.path for part in values for value in part))
        list_paths = sorted(path for path in paths if pa.types.is_list(self._column(path)))
        texts = [path for path in paths if path not in list_paths]
        flat = enumerate(zip(elements, values, strict=True))
        lists = [self._flat_list(number, element, part, texts, list_paths) for number, (element, part) in flat]
        leaves = {f"element.{path}": leaf for path, leaf in self._leaves(texts, list_paths, values)}
        packed, leaf = struct(pa.field("element", self.kind.value_type), "element", leaves)
        joined = lists[0] if len(lists) == 1 else f"flatten([{', '.join(lists)}])"
        kept = f"list_filter({joined}, lambda {self.flat}: {'false' if leaf.absent else leaf.sql})"
        if self.depth or (len(lists) > 1 and not self.parts[0].or_empty):
            kept = self._not_empty(kept)
        objects = f"list_transform({kept}, lambda {self.flat}: {packed})"
        if self.parts[0].or_empty and not self.depth:
            return f"coalesce({objects}, [])::{sqltext.duckdb_type(self.kind)}"
        return objects

    def _not_empty(self, sql: str) -> str:
        if self.shared is None:
            return _not_empty(sql)
        name = self.shared.kept.named(sql)
        return f"CASE WHEN len({name}) > 0 THEN {name} END"

    def _flat_list(
        self, number: int, element: Element, taken: Sequence[Taken], texts: Sequence[str], list_paths: Sequence[str]
    ) -> str:
        """SQL for the elements of one part, flat: number of the part, texts, and lists, each at its path's place.

        A struct with a member for each column would be read by all parts and filled by few: planning it costs seconds.
        """
        by_path = {value.path: value.sql for value in taken}
        filled = [path for path in texts if path in by_path]
        values = f"[{', '.join(f'({by_path[path]})::VARCHAR' for path in filled)}]::VARCHAR[]"
        if filled != texts[: len(filled)]:  # what lies behind the end of a list is null
            last = texts.index(filled[-1])
            places = ", ".join(str(filled.index(path) + 1 if path in filled else 0) for path in texts[: last + 1])
            values = f"list_select({values}, [{places}])"
        members = [f"p: {number}", f"v: {values}"]
        members += [f"l{place}: {by_path.get(path, 'NULL')}" for place, path in enumerate(list_paths)]
        # `{}` and null say nothing, whatever the fields would add to them
        nonempty = f"list_filter({self._elements(self.parts[number])}, lambda i: i::VARCHAR NOT IN ('{{}}', 'null'))"
        flat = f"{{{', '.join(members)}}}"
        mapped = f"list_transform({element.read(nonempty, flat)}, lambda {self.item}: {flat})"
        if len(self.parts) == 1:
            return mapped
        # Of many sources most are absent, and even of no elements a lambda costs something.
        guarded = f"CASE WHEN {self._source(self.parts[number])} IS NOT NULL THEN {mapped} END"
        return self.shared.parts.named(guarded) if self.shared else guarded

    def _leaves(
        self, texts: Sequence[str], list_paths: Sequence[str], values: Sequence[Sequence[Taken]]
    ) -> Iterator[tuple[str, Leaf]]:
        """Path and column of everything that stands in the finished elements."""
        for place, path in enumerate(list_paths):
            yield path, Leaf(f"{self.flat}.l{place}", tests=(f"{self.flat}.l{place} IS NOT NULL",))
        for path in texts:
            if path in self.siblings:
                continue
            sql = self._text(texts, path)
            presence = self._presence(path, sql, values)
            is_default = not any(presence)
            if path.endswith("_dt") and pa.types.is_timestamp(self._column(path) or pa.null()):
                yield path, Leaf(f"make_timestamptz(({sql})::BIGINT)", *presence, is_default=is_default)
            elif self._column(path) is not None:
                yield path, Leaf(sql, *presence, is_default=is_default)
            if path.endswith("_dt") and self._column(plain := path.removesuffix("_dt")) is not None:
                yield plain, Leaf(f"({sql})::BIGINT // 1000", *presence, is_default=is_default)
        for path, sibling in self.siblings.items():
            number = self._text(texts, sibling.id)
            branches = " ".join(f"WHEN '{key}' THEN {sqltext.text(caption)}" for key, caption in sibling.captions)
            label = f"CASE {number} {branches} END"
            sql = f"coalesce({self._text(texts, path)}, {label})" if path in texts else label
            presence = ((), ()) if sibling.is_default else self._presence(sibling.id, number, values)
            yield path, Leaf(sql, *presence, is_default=not any(presence))

    def _text(self, texts: Sequence[str], path: str) -> str:
        return f"{self.flat}.v[{texts.index(path) + 1}]"

    def _presence(
        self, path: str, sql: str, taken: Sequence[Sequence[Taken]]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Texts and tests that make an object with this value exist (see `Leaf`)."""
        values = [(number, value) for number, part in enumerate(taken) for value in part if value.path == path]
        if all(value.is_default for _, value in values):
            return (), ()
        is_default = [str(number) for number, value in values if value.is_default]
        defaults: dict[str | None, list[str]] = {}
        for number, value in values:
            if not value.is_default:
                defaults.setdefault(value.default, []).append(str(number))
        if not is_default and set(defaults) == {None}:
            return (sql,), ()
        tests = [f"{sql} IS NOT NULL"] if None in defaults or len(defaults) > 1 else []
        for default, numbers in defaults.items():
            if default is not None:
                other_parts = [f"{self.flat}.p NOT IN ({', '.join(numbers)})"] if len(defaults) > 1 else []
                tests.append(" OR ".join([f"{sql} <> {sqltext.text(default)}", *other_parts]))
        tests = [f"({test})" for test in tests] if len(tests) > 1 else tests
        if is_default:
            tests.append(f"{self.flat}.p NOT IN ({', '.join(is_default)})")
        return (), (f"({' AND '.join(tests)})",)

    @property
    def filled(self) -> pa.DataType:
        """The element's type with only the members that some part fills, and what is derived beside them."""
        paths = set()
        for part in self.parts:
            for path, word in lists.element_fields(part):
                attribute = self.holder.attribute(path)
                if attribute is None or lists.parts(word):
                    continue
                head = path.rpartition(".")[0]
                sibling = attribute.sibling or path.rpartition(".")[2]
                paths |= {path, path.removesuffix("_dt"), f"{path}_dt", f"{head}.{sibling}" if head else sibling}
        return _only(self.kind.value_type, "", paths)

    def _element(self, part: lists.Each) -> Element:
        return Element(self.item, self.record, (word for _, word in part.fields), casts=self._casts(part))

    def _casts(self, part: lists.Each) -> dict[Word, Callable[[str], str]]:
        """What makes numbers of the values of one part, see `casts.agreed`."""
        fields = [(path, self.holder.attribute(path), word) for path, word in part.fields]
        return casts.agreed(
            (word, casts.numeric(self.holder.ocsf.scalar(attribute), self._column(path)))
            for path, attribute, word in fields
            if attribute is not None and not attribute.object and not attribute.is_array and attribute.enum is None
        )

    def _taken(self, part: lists.Each, element: Element) -> list[Taken]:
        """What one part takes out of each element."""
        values = []
        fields = {path: (declared, word) for path, word in part.fields if (declared := self.holder.attribute(path))}
        for path, (attribute, word) in fields.items():
            default = self._default(attribute, word)
            for name, sql in self._values(path, attribute, word, fields.keys(), element):
                is_default = word.is_constant or (default is not None and name != path)
                values.append(Taken(name, sql, is_default, default))
        return values

    def _default(self, attribute: schema.Attribute, word: Word) -> str | None:
        """The text of the value that makes no object by itself."""
        if not self._is_id(attribute):
            return word.default
        number = captions.default_id(attribute, word.default)
        return None if number is None else str(number)

    def _source(self, part: lists.Each) -> str:
        """SQL for the JSON value that `each` goes through or into."""
        inner = part.inner.inner if isinstance(part.inner, lists.Every) else part.inner
        value = inner.sql(self.outside)
        value = f"to_json({value})" if inner.is_list else value
        return self.shared.sources.named(value) if self.shared else value

    def _elements(self, part: lists.Each) -> str:
        """SQL for the list of JSON values that `each` goes through."""
        if isinstance(part.inner, lists.Every):
            return f"json_extract({self._source(part)}, {sqltext.text(lists.json_path(part.inner.path))})"
        return lists.elements(self._source(part))

    def _values(
        self, path: str, attribute: schema.Attribute, word: Word, mapped: Iterable[str], element: Element
    ) -> Iterator[tuple[str, str]]:
        """Path and SQL of the columns that one field fills, as far as the table has them."""
        base = "" if attribute.object else self.holder.ocsf.scalar(attribute).base
        if attribute.is_array:
            if (kind := self._column(path)) is not None:
                yield path, self._list(path, attribute, word, kind, element)
        elif base in ("timestamp_t", "datetime_t"):
            plain = path.removesuffix("_dt")
            if self._column(plain) is not None or self._column(f"{plain}_dt") is not None:
                yield f"{plain}_dt", word.sql(element)
        elif self._is_id(attribute):
            yield from self._id(path, attribute, word, mapped, element)
        elif self._column(path) is not None:
            text = word.sql(element)
            yield path, text if word.is_constant else self._cast(path, attribute, text) or text

    def _cast(self, path: str, attribute: schema.Attribute, text: str) -> str | None:
        """SQL for a text as the attribute's type and the table's column have it; None where any text will do."""
        scalar, column = self.holder.ocsf.scalar(attribute), self._column(path)
        cast = self.cast(casts.column_kind(scalar.base, column), f"({text})::VARCHAR", scalar.range)
        return None if cast is None else casts.fitted(cast, column)

    def _id(
        self, path: str, attribute: schema.Attribute, word: Word, mapped: Iterable[str], element: Element
    ) -> Iterator[tuple[str, str]]:
        """An enum's id, and its sibling's text where the id does not determine it."""
        number = captions.id_sql(word, attribute, element)
        sibling_path = ".".join([*path.split(".")[:-1], attribute.sibling]) if attribute.sibling else ""
        sibling = self.siblings.get(sibling_path)
        if self._column(path) is not None or sibling:
            yield path, number
        if sibling:
            if not word.gives_only([caption for _, caption in sibling.captions]):
                yield sibling_path, f"CASE {number} WHEN {captions.OTHER} THEN {word.sql(element)} END"
        elif sibling_path and sibling_path not in mapped and self._column(sibling_path) is not None:
            yield sibling_path, _caption(number, attribute, word.sql(element))

    def _list(self, path: str, attribute: schema.Attribute, word: Word, kind: pa.DataType, element: Element) -> str:
        if lists.parts(word):
            members = self.holder.ocsf.members(attribute)
            if members is None:
                raise MappingError(f"{path}: OCSF {self.holder.ocsf.version} declares no members")
            inner = ObjectSchema(self.holder.ocsf, members, self.holder.profiles)
            return ObjectList(lists.parts(word), inner, kind, self.record, self.cast, element, self.depth + 1).sql()
        text = word.sql(element)
        as_list = text if word.is_list else lists.texts(text)
        return _not_empty(f"TRY_CAST({as_list} AS {sqltext.duckdb_type(kind)})")

    def _column(self, path: str) -> pa.DataType | None:
        kind = self.kind.value_type
        for step in path.split("."):
            index = kind.get_field_index(step) if pa.types.is_struct(kind) else -1
            if index < 0:
                return None
            kind = kind.field(index).type
        return kind

    # -- what is carried over -----------------------------------------------------------------------------------------
    def consumed(self, value: str) -> Iterator[Consumption]:
        """What the list carries over from the record; `value` is SQL for the finished list."""
        for part in self.parts:
            for use in list(part.inner.consumed(self.record)):
                condition = both(use.condition, f"NOT {self.leftover(part)}")
                yield Consumption(use.path, use.keys, condition)
        for path, column_path in dict.fromkeys(pair for part in self.parts for pair in self._outer_columns(part)):
            member = f"o.{'.'.join(map(sqltext.name, path.split('.')))}::VARCHAR"
            test = f"{value}, lambda o: {member} = {self.record(column_path)}"
            yield Consumption(column_path, (), f"list_bool_or(list_transform({test}))")

    def _outer_columns(self, part: lists.Each) -> Iterator[tuple[str, Path]]:
        """The record's columns that stand in elements as they are, and where."""
        for path, use in self._uses(part, self._element(part)):
            kind = self._column(path)
            if use.path[0] == OUTER and not use.keys and kind is not None and _is_as_written(kind):
                yield path, use.path[1:]

    def _uses(self, part: lists.Each, element: Element) -> Iterator[tuple[str, Consumption]]:
        for path, word in part.fields:
            attribute = self.holder.attribute(path)
            if attribute is None or lists.parts(word):
                continue
            uses = list(word.consumed(element))
            holds = self._holds(path, attribute, word, {name for name, _ in part.fields}, element) if uses else None
            for use in uses:
                yield path, Consumption(use.path, use.keys, both(both(use.condition, use.cast), holds))

    def _holds(
        self, path: str, attribute: schema.Attribute, word: Word, mapped: set[str], element: Element
    ) -> str | None:
        """SQL that is true where the finished element holds what a field was given; None where it always does."""
        text = word.sql(element)
        if attribute.is_array:
            return None if word.is_list else f"{lists.texts(text)} IS NOT NULL"
        default = self._default(attribute, word)
        if self._is_id(attribute):
            number = captions.id_sql(word, attribute, element)
            lost = [default] if default else []
            if not self._keeps_other(path, attribute, mapped) and not word.gives_only(captions.enum_ids(attribute)):
                lost.append(str(captions.OTHER))
            return f"{number} NOT IN ({', '.join(lost)})" if lost else None
        cast = None if attribute.object else self._cast(path, attribute, text)
        # An object that has nothing but defaults is not made.
        strong = f"({text})::VARCHAR <> {sqltext.text(default)}" if default else None
        return both(f"{cast} IS NOT NULL" if cast else None, strong)

    def _keeps_other(self, path: str, attribute: schema.Attribute, mapped: set[str]) -> bool:
        """Whether a text that an enum does not know stands beside its id."""
        sibling_path = ".".join([*path.split(".")[:-1], attribute.sibling]) if attribute.sibling else ""
        if sibling_path in self.siblings:
            return True
        return bool(sibling_path and sibling_path not in mapped and self._column(sibling_path) is not None)

    def leftover(self, part: lists.Each) -> str:
        """SQL that is true where some element holds a value that the mapping does not carry over."""
        source = self._source(part)
        extra = {"k": "json_keys(i)", "o": "starts_with(i::VARCHAR, '{')"}
        element = Element(self.item, self.record, (word for _, word in part.fields), extra, self._casts(part))
        uses = [use for _, use in self._uses(part, element)]
        if any(use.path == (ELEMENT,) and use.condition is None for use in uses):
            return f"(NOT {lists.has_elements(source)})"
        unused = self._unused_members(part, uses, element)
        read = element.read(lists.elements(source), unused)
        # null where there are no elements: these are computed once, for they may be large
        return f"coalesce(list_contains(list_transform({read}, lambda {self.item}: {unused}), true), true)"

    def _unused_members(self, part: lists.Each, uses: Sequence[Consumption], element: Element) -> str:
        read = {member.path for _, word in part.fields for member in columns(word)}
        paths = sorted(path for path in read if path[0] not in (ELEMENT, OUTER))
        unused = {path: self._unused(path, uses, element) for path in paths}
        always = sqltext.texts(path[0] for path in paths if unused[path] is None and len(path) == 1)
        sometimes = sqltext.texts(path[0] for path in paths if len(path) == 1)
        keys = f"{self.item}.k"
        tests = [f"NOT list_has_all({sometimes}, {keys})", *(test for test in unused.values() if test)]
        # Of a repeated member only the first is read.
        return (
            f"CASE WHEN len({keys}) > list_unique({keys}) THEN true "
            f"WHEN list_has_all({always}, {keys}) THEN NOT {self.item}.o ELSE {' OR '.join(tests)} END"
        )

    def _unused(self, path: Path, uses: Sequence[Consumption], element: Element) -> str | None:
        """SQL that is true where an element's member is there and no field uses it; None when one always does."""
        conditions = [use.condition for use in uses if use.path == path and not use.keys]
        if None in conditions:
            return None
        used = " OR ".join(f"({condition})" for condition in conditions) or "false"
        return f"({element(path)} IS NOT NULL AND ({used}) IS NOT TRUE)"


def _not_empty(sql: str) -> str:
    return f"list_transform([{sql}], lambda l: CASE WHEN len(l) > 0 THEN l END)[1]"


def _only(kind: pa.DataType, path: str, paths: set[str]) -> pa.DataType:
    """A struct without the leaves that are not wanted; lists are entered."""
    if pa.types.is_list(kind):
        return pa.list_(_only(kind.value_type, path, paths))
    fields = []
    for field in kind if pa.types.is_struct(kind) else ():
        name = f"{path}.{field.name}" if path else field.name
        if any(leaf == name or leaf.startswith(f"{name}.") for leaf in paths):
            fields.append(pa.field(field.name, field.type if name in paths else _only(field.type, name, paths)))
    return pa.struct(fields) if pa.types.is_struct(kind) else kind


def _caption(number: str, attribute: schema.Attribute, text: str) -> str:
    branches = " ".join(
        f"WHEN {key} THEN {sqltext.text(caption)}"
        for key, caption in (attribute.enum or {}).items()
        if int(key) != captions.OTHER
    )
    return f"CASE {number} {branches} WHEN {captions.OTHER} THEN {text} END"


def _is_as_written(kind: pa.DataType) -> bool:
    """Whether a column's values are written as the texts that they come from; of a number that is checked."""
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind))
