"""Lists of objects, mapped element by element from JSON arrays and objects.

Each element goes through two steps: its values are taken out and cast (`flat`), then put together as the table's
struct. A cast that fails leaves the attribute null; unless the whole element is carried over too, the array then stays
in `unmapped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ocsf_mappers import captions, render, schema, sqltext
from ocsf_mappers import expr as e
from ocsf_mappers.columns import Leaf, column
from ocsf_mappers.errors import MappingError
from ocsf_mappers.record import Path

Cast = Callable[[str, str, tuple[int, int] | None], str | None]
"""(OCSF base type, SQL of the text, limits) -> SQL that casts it, null where it cannot; None needs no cast."""


@dataclass(frozen=True)
class Holder:
    """What the elements are: an OCSF object in one version, under some profiles."""

    facts: schema.Schema
    type: schema.ObjectType
    profiles: frozenset[str]

    def attribute(self, path: str) -> schema.Attribute | None:
        """The attribute at a path inside the element; None where this version or these profiles do not have it."""
        found: schema.ObjectType | None = self.type
        attribute = None
        for step in path.split("."):
            attribute = found.attributes.get(step) if found else None
            if attribute is None or (attribute.profiles and not attribute.profiles & self.profiles):
                return None
            found = self.facts.members(attribute)
        return attribute


@dataclass(frozen=True)
class Taken:
    """A value taken out of an element: the column it fills, its SQL, and whether it alone makes no object.

    A constant makes none, nor does the caption of an id; an id that is required makes none where it is 0, its default.
    """

    path: str
    sql: str
    weak: bool
    default: str | None = None


class ObjectList:
    """A list of objects made of one `each` or of several, one after the other.

    Args:
        parts: The expressions.
        holder: What an element is; fields that it does not know are left out.
        kind: The table's type of the list.
        record: SQL for the record's columns.
        cast: How text becomes a number or a boolean.
        depth: How many lists this one stands in.
    """

    def __init__(
        self,
        parts: Sequence[e.Each],
        holder: Holder,
        kind: pa.DataType,
        record: render.Resolver,
        cast: Cast,
        depth: int = 0,
    ) -> None:
        self.parts = parts
        self.holder = holder
        self.kind = kind
        self.record = record
        self.cast = cast
        self.depth = depth
        self.item, self.flat = f"item{depth}", f"flat{depth}"

    def sql(self) -> str:
        """SQL for the list in the table's type. A list of several parts without elements is null."""
        taken = [self._taken(part) for part in self.parts]
        listed = sorted({found.path for part in taken for found in part if pa.types.is_list(self._column(found.path))})
        lists = [self._flat_list(number, listed, taken[number]) for number in range(len(taken))]
        leaves = {f"element.{path}": self._leaf(path, listed, taken) for path in _paths(taken)}
        built = column(pa.field("element", self.kind.value_type), "element", leaves)
        joined = lists[0] if len(lists) == 1 else f"flatten([{', '.join(lists)}])"
        found = f"list_filter(list_transform({joined}, lambda {self.flat}: {built.sql}), lambda o: o IS NOT NULL)"
        if self.parts[0].or_empty:
            return f"coalesce({found}, [])::{sqltext.duckdb_type(self.kind)}"
        return found if len(lists) == 1 else _not_empty(found)

    def _flat_list(self, number: int, listed: Sequence[str], taken: Sequence[Taken]) -> str:
        """SQL for the elements of one part, flat: number of the part, texts, and the lists of all parts.

        A struct with a member for each column would be read by all parts and filled by few: planning it costs seconds.
        """
        by_path = {found.path: found.sql for found in taken}
        texts = ", ".join(f"({found.sql})::VARCHAR" for found in taken if found.path not in listed)
        members = [f"p: {number}", f"v: [{texts}]::VARCHAR[]"]
        for place, path in enumerate(listed):
            members.append(f"l{place}: {by_path.get(path) or f'NULL::{sqltext.duckdb_type(self._column(path))}'}")
        # `{}` and null say nothing, whatever the fields would add to them
        some = f"list_filter({self._elements(self.parts[number])}, lambda i: i::VARCHAR NOT IN ('{{}}', 'null'))"
        return f"list_transform({some}, lambda {self.item}: {{{', '.join(members)}}})"

    def _leaf(self, path: str, listed: Sequence[str], taken: Sequence[Sequence[Taken]]) -> Leaf:
        """A column from the flat elements of all parts."""
        if path in listed:
            sql, strong = f"{self.flat}.l{listed.index(path)}", [True]
        else:
            places: dict[int, list[int]] = {}
            strong = []
            for number, part in enumerate(taken):
                texts = [found for found in part if found.path not in listed]
                for place, found in enumerate(texts, start=1):
                    if found.path == path:
                        places.setdefault(place, []).append(number)
                        strong.append(not found.weak)
            sql = self._picked(places, len(taken))
            if pa.types.is_timestamp(self._column(path)):
                sql = f"make_timestamptz(({sql})::BIGINT)"
        if not any(strong):
            return Leaf(sql, None, weak=True)
        weak = [str(n) for n, part in enumerate(taken) if any(found.path == path and found.weak for found in part)]
        tested = f" AND {self.flat}.p NOT IN ({', '.join(weak)})" if weak and path not in listed else ""
        default = next((found.default for part in taken for found in part if found.path == path), None)
        tested += f" AND {sql} <> {sqltext.text(default)}" if default is not None else ""
        return Leaf(sql, f"({sql} IS NOT NULL{tested})")

    def _picked(self, places: Mapping[int, Sequence[int]], parts: int) -> str:
        """SQL for the text that stands, by part, at different places."""
        if list(places.values()) == [list(range(parts))]:
            return f"{self.flat}.v[{next(iter(places))}]"
        whens = " ".join(
            f"WHEN {self.flat}.p IN ({', '.join(map(str, numbers))}) THEN {self.flat}.v[{place}]"
            for place, numbers in places.items()
        )
        return f"CASE {whens} END"

    @property
    def filled(self) -> pa.DataType:
        """The element's type with only the members that some part fills, and what is derived beside them."""
        found = set()
        for part in self.parts:
            for path, expr in e.element_fields(part):
                attribute = self.holder.attribute(path)
                if attribute is None or e.parts(expr):
                    continue
                head = path.rpartition(".")[0]
                beside = attribute.sibling or path.rpartition(".")[2]
                found |= {path, path.removesuffix("_dt"), f"{path}_dt", f"{head}.{beside}" if head else beside}
        return _only(self.kind.value_type, "", found)

    def _taken(self, part: e.Each) -> list[Taken]:
        """What one part takes out of each element."""
        found = []
        fields = {path: (known, expr) for path, expr in part.fields if (known := self.holder.attribute(path))}
        for path, (attribute, expr) in fields.items():
            required_id = attribute.enum is not None and attribute.required
            for name, sql in self._values(path, attribute, expr, fields.keys()):
                weak = _constant(expr) or (required_id and name != path)
                found.append(Taken(name, sql, weak, "0" if required_id else None))
        return found

    def _elements(self, part: e.Each) -> str:
        """SQL for the list of JSON values that `each` goes through."""
        # An array inside an element is reached from it, one of the record from the record.
        reach = self._outside if self.depth else self.record
        if isinstance(part.inner, e.Every):
            path = "$" + "".join(_step(step) for step in part.inner.path.split("."))
            return f"json_extract({render.value(part.inner.inner, reach)}, {sqltext.text(path)})"
        return _elements(render.value(part.inner, reach))

    def _outside(self, path: Path) -> str:
        return self._reached(path, f"item{self.depth - 1}")

    def _inside(self, path: Path) -> str:
        return self._reached(path, self.item)

    def _reached(self, path: Path, item: str) -> str:
        if path[0] == e.OUTER:
            return self.record(path[1:])
        if path == (e.ELEMENT,):
            return f"nullif(json_extract_string({item}, '$'), '{{}}')"
        path = path[1:] if path[0] == e.ELEMENT else path
        # Not a struct of declared members: DuckDB's struct names ignore case, and logs hold both `ARN` and `arn`.
        return f"json_extract_string({item}, {sqltext.pointer(*path)})"

    def _values(
        self, path: str, attribute: schema.Attribute, expr: e.Expr, mapped: Iterable[str]
    ) -> Iterator[tuple[str, str]]:
        """Path and SQL of the columns that one field fills, as far as the table has them."""
        base = "" if attribute.object else self.holder.facts.scalar(attribute).base
        text = "" if e.parts(expr) else render.value(expr, self._inside)
        if attribute.is_array:
            if (kind := self._column(path)) is not None:
                yield path, self._list(path, attribute, expr, kind)
        elif base in ("timestamp_t", "datetime_t"):
            plain = path.removesuffix("_dt")
            for name, sql in ((plain, f"({text}) // 1000"), (f"{plain}_dt", text)):
                if self._column(name) is not None:
                    yield name, sql
        elif attribute.enum is not None and base == "integer_t":
            number = captions.id_sql(expr, attribute, self._inside)
            if self._column(path) is not None:
                yield path, number
            beside = ".".join([*path.split(".")[:-1], attribute.sibling]) if attribute.sibling else ""
            if beside and beside not in mapped and self._column(beside) is not None:
                yield beside, _caption(number, attribute, text)
        elif self._column(path) is not None:
            limits = self.holder.facts.scalar(attribute).range
            yield path, text if _constant(expr) else self.cast(base, f"({text})::VARCHAR", limits) or text

    def _list(self, path: str, attribute: schema.Attribute, expr: e.Expr, kind: pa.DataType) -> str:
        if e.parts(expr):
            members = self.holder.facts.members(attribute)
            if members is None:
                raise MappingError(f"{path}: OCSF {self.holder.facts.version} declares no members")
            inner = Holder(self.holder.facts, members, self.holder.profiles)
            sql = ObjectList(e.parts(expr), inner, kind, self.record, self.cast, self.depth + 1).sql()
        else:
            text = render.value(expr, self._inside)
            found = text if isinstance(expr, e.ListOf | e.Sql | e.Case) else f"from_json({text}, '[\"VARCHAR\"]')"
            sql = f"TRY_CAST({found} AS {sqltext.duckdb_type(kind)})"
        return _not_empty(sql)

    def _column(self, path: str) -> pa.DataType | None:
        kind = self.kind.value_type
        for step in path.split("."):
            index = kind.get_field_index(step) if pa.types.is_struct(kind) else -1
            if index < 0:
                return None
            kind = kind.field(index).type
        return kind

    # -- what is carried over -----------------------------------------------------------------------------------------
    def consumed(self, value: str) -> Iterator[render.Consumption]:
        """What the list carries over from the record; `value` is SQL for the finished list."""
        for part in self.parts:
            for use in list(render.consumed(part.inner, self.record)):
                condition = render.both(use.condition, f"NOT {self.leftover(part)}")
                yield render.Consumption(use.path, use.keys, condition)
        for path, column_path in dict.fromkeys(found for part in self.parts for found in self._outer_columns(part)):
            there = f"{value}, lambda o: o.{'.'.join(map(sqltext.name, path.split('.')))} = {self.record(column_path)}"
            yield render.Consumption(column_path, (), f"list_bool_or(list_transform({there}))")

    def _outer_columns(self, part: e.Each) -> Iterator[tuple[str, Path]]:
        """The record's columns that stand in elements as they are, and where."""
        for path, use in self._uses(part):
            kind = self._column(path)
            if use.path[0] == e.OUTER and not use.keys and kind is not None and pa.types.is_string(kind):
                yield path, use.path[1:]

    def _uses(self, part: e.Each) -> Iterator[tuple[str, render.Consumption]]:
        for path, expr in part.fields:
            attribute = self.holder.attribute(path)
            if attribute is None or e.parts(expr):
                continue
            text = render.value(expr, self._inside)
            limits = None if attribute.object else self.holder.facts.scalar(attribute).range
            base = "" if attribute.object else self.holder.facts.scalar(attribute).base
            cast = None if attribute.is_array or attribute.enum else self.cast(base, f"({text})::VARCHAR", limits)
            for use in render.consumed(expr, self._inside):
                condition = render.both(use.condition, use.cast or (f"{cast} IS NOT NULL" if cast else None))
                yield path, render.Consumption(use.path, use.keys, condition)

    def leftover(self, part: e.Each) -> str:
        """SQL that is true where some element holds a value that the mapping does not carry over."""
        array = render.value(part.inner, self.record)
        uses = [use for _, use in self._uses(part)]
        if any(use.path == (e.ELEMENT,) and use.condition is None for use in uses):
            return f"(left({array}::VARCHAR, 1) NOT IN ('[', '{{'))"
        left = self._unused_members(part, uses)
        found = f"list_bool_or(list_transform({_elements(array)}, lambda {self.item}: {left}))"
        return f"(left({array}::VARCHAR, 1) NOT IN ('[', '{{') OR coalesce({found}, false))"

    def _unused_members(self, part: e.Each, uses: Sequence[render.Consumption]) -> str:
        columns = {found.parts for _, expr in part.fields for found in e.columns(expr)}
        named = sorted(path for path in columns if path[0] not in (e.ELEMENT, e.OUTER))
        unused = {path: self._unused(path, uses) for path in named}
        always = sqltext.texts(path[0] for path in named if unused[path] is None and len(path) == 1)
        sometimes = sqltext.texts(path[0] for path in named if len(path) == 1)
        keys = f"json_keys({self.item})"
        tests = [f"NOT list_has_all({sometimes}, {keys})", *(test for test in unused.values() if test)]
        return (
            f"CASE WHEN list_has_all({always}, {keys}) THEN NOT starts_with({self.item}::VARCHAR, '{{') "
            f"ELSE {' OR '.join(tests)} END"
        )

    def _unused(self, path: Path, uses: Sequence[render.Consumption]) -> str | None:
        """SQL that is true where an element's member is there and no field uses it; None when one always does."""
        conditions = [use.condition for use in uses if use.path == path and not use.keys]
        if None in conditions:
            return None
        used = " OR ".join(f"({condition})" for condition in conditions) or "false"
        return f"({self._inside(path)} IS NOT NULL AND ({used}) IS NOT TRUE)"


def _paths(taken: Iterable[Sequence[Taken]]) -> list[str]:
    return list(dict.fromkeys(found.path for part in taken for found in part))


def _not_empty(found: str) -> str:
    return f"list_transform([{found}], lambda l: CASE WHEN len(l) > 0 THEN l END)[1]"


def _only(kind: pa.DataType, path: str, wanted: set[str]) -> pa.DataType:
    """A struct without the leaves that are not wanted; lists are entered."""
    if pa.types.is_list(kind):
        return pa.list_(_only(kind.value_type, path, wanted))
    fields = []
    for field in kind if pa.types.is_struct(kind) else ():
        name = f"{path}.{field.name}" if path else field.name
        if any(leaf == name or leaf.startswith(f"{name}.") for leaf in wanted):
            fields.append(pa.field(field.name, field.type if name in wanted else _only(field.type, name, wanted)))
    return pa.struct(fields) if pa.types.is_struct(kind) else kind


def _elements(array: str) -> str:
    return (
        f"CASE left({array}::VARCHAR, 1) WHEN '[' THEN from_json({array}, '[\"JSON\"]') "
        f"WHEN '{{' THEN [{array}::JSON] END"
    )


def _step(step: str) -> str:
    """A member's name, and `[]` behind it, as DuckDB's JSON path spells them."""
    name = step.removesuffix("[]")
    return (f'."{name}"' if name else "") + ("[*]" if step.endswith("[]") else "")


def _caption(number: str, attribute: schema.Attribute, text: str) -> str:
    branches = " ".join(
        f"WHEN {key} THEN {sqltext.text(caption)}"
        for key, caption in (attribute.enum or {}).items()
        if int(key) != captions.OTHER
    )
    return f"CASE {number} {branches} WHEN {captions.OTHER} THEN {text} END"


def _constant(expr: e.Expr) -> bool:
    items = expr.items if isinstance(expr, e.ListOf) else (expr,)
    return all(isinstance(item, e.Literal) for item in items)
