"""A mapper and an OCSF version, compiled to one DuckDB query.

The query reads a relation `batch` (see `ocsf_mappers.readers.Chunk`) and gives one row per record, in the same order:
the columns of the lake table, then `_object`, `_record` (where the record came from), `_table` (the lake table it
belongs to), `_failed` (attributes whose cast failed) and `_problems` (why the event is invalid OCSF, null when valid).

It is built in layers, each a subquery over the one before:
    records   the record taken apart (`r` for JSON sources)
    chosen    `em`, the event map that takes the record, and `_table`
    texts     x0, x1...: each mapped attribute before its cast
    values    v0, v1...: the same after its cast
    events    the table's columns: structs, enum ids and siblings, observables, unmapped
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from ocsf_mappers import expr as e
from ocsf_mappers import render, schema, sqltext, tables, validate
from ocsf_mappers.check import column_type, table_names
from ocsf_mappers.columns import NEVER, Leaf, column, typed
from ocsf_mappers.each import element_leftover, render_each
from ocsf_mappers.errors import MappingError
from ocsf_mappers.record import OBJECT_KEY, Path
from ocsf_mappers.unmapped import Leftovers

if TYPE_CHECKING:
    from ocsf_mappers.mapper import EventMap, Mapper

OBSERVABLE_TYPES = frozenset(range(1, 11))
"""Observables are made of the values whose OCSF type marks them: the ten of 1.1.0 (hostname, IP, MAC, user name, email,
URL, file name, hash, process, resource), which are what AWS writes in every version. Ports, account ids and user agents,
marked later, would double the column for little."""

DERIVED = ("category_name", "category_uid", "class_name", "class_uid", "type_name", "type_uid")


@dataclass(frozen=True)
class BatchShape:
    """What the batch relation holds.

    Args:
        columns: Source columns of a text log; None for JSON text in `_raw`.
        extras: Columns of a text log that the record type does not declare.
        object_key: Columns from the object's own name that are present.
        envelope: Whether `_envelope` holds the JSON around each record.
        careful: JSON only: some record has undeclared, repeated or mistyped members, so look at each.
    """

    columns: frozenset[str] | None = None
    extras: tuple[str, ...] = ()
    object_key: tuple[str, ...] = ()
    envelope: bool = False
    careful: bool = False


@dataclass(frozen=True)
class Mapped:
    """One attribute as one event map fills it."""

    attribute: schema.Attribute
    expr: e.Expr


class Compiler:
    """Compiles one mapper for one OCSF version and one shape of batch."""

    def __init__(self, mapper: Mapper, version: str, batch: BatchShape, *, validate: bool = True) -> None:
        self.mapper = mapper
        self.validate = validate
        self.batch = batch
        self.schema = schema.load(version)
        self.classes = [self.schema.event_class(event.event_class) for event in mapper.events]
        self.table = tables.get(table_names(mapper)[0])
        self.mapped = [self._mapped(event) for event in mapper.events]
        self.paths = list(dict.fromkeys(path for fields in self.mapped for path in fields))

    # -- reading the record -------------------------------------------------------------------------------------------
    def column(self, path: Path) -> str:
        """SQL for a source column; a text log without that column reads as null."""
        if path[0] == OBJECT_KEY:
            return f"_key_{path[1]}" if path[1] in self.batch.object_key else "NULL::VARCHAR"
        if self.batch.columns is None:
            return "r." + ".".join(sqltext.name(step) for step in path)
        return sqltext.name(path[0]) if path[0] in self.batch.columns else "NULL::VARCHAR"

    def readable(self, expr: e.Expr) -> bool:
        """Whether the batch holds anything that the expression reads."""
        named = [column.parts for column in e.columns(expr)]
        return not named or any(self.column(parts) != "NULL::VARCHAR" for parts in named)

    def _mapped(self, event: EventMap) -> dict[str, Mapped]:
        """The event map's fields that this version knows, machine-made ones first."""
        product = self.mapper.product
        fields: dict[str, object] = {
            "metadata.product.name": product.name,
            "metadata.product.vendor_name": product.vendor,
            "metadata.product.feature.name": product.feature,
            "metadata.version": self.schema.version,
            "metadata.profiles": list(event.all_profiles),
            **event.fields,
        }
        found = {}
        for path, given in fields.items():
            if given is None:
                continue
            try:
                chain = self.schema.resolve(event.event_class, path, event.all_profiles)
            except MappingError:
                continue  # check.py has made sure that some shipped version knows the path
            found[path] = Mapped(chain[-1], e.as_expr(given))
        return found

    # -- merging event maps -------------------------------------------------------------------------------------------
    def by_event_map(self, choices: list[str | None]) -> str:
        """SQL that picks, row by row, what the record's event map says."""
        if len(set(choices)) == 1:
            return choices[0] or "NULL"
        branches = " ".join(f"WHEN {number} THEN {sql}" for number, sql in enumerate(choices) if sql is not None)
        return f"CASE em {branches} END"

    def only(self, numbers: list[int], sql: str | None) -> str | None:
        """A condition restricted to some event maps; None is always."""
        if len(numbers) == len(self.classes):
            return sql
        chosen = f"em IN ({', '.join(str(number) for number in numbers)})"
        return chosen if sql is None else f"({chosen} AND ({sql}))"

    # -- values -------------------------------------------------------------------------------------------------------
    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each mapped path: x0/v0 is the first."""
        return {path: number for number, path in enumerate(self.paths)}

    def _is_caption(self, mapped: Mapped) -> bool:
        return mapped.attribute.enum is not None and self.schema.scalar(mapped.attribute).base == "integer_t"

    def _text(self, mapped: Mapped, path: str) -> str | None:
        if not self.readable(mapped.expr):
            return None
        if isinstance(mapped.expr, e.Each):
            return render_each(mapped.expr, self.column, self.arrow_type(path))
        if mapped.attribute.is_array and isinstance(mapped.expr, e.Column | e.Json):
            return f"from_json({render.value(mapped.expr, self.column)}, '[\"VARCHAR\"]')"
        return render.value(mapped.expr, self.column)

    def arrow_type(self, path: str) -> pa.DataType | None:
        """The table's type at an OCSF path, None where the table has no such column."""
        return column_type(self.table, path)

    def texts(self) -> Iterator[str]:
        """Projections x0, x1...: each mapped attribute before its cast."""
        for path, number in self.numbers.items():
            choices = [self._text(fields[path], path) if path in fields else None for fields in self.mapped]
            yield f"{self.by_event_map(choices)} AS x{number}"

    def _kind(self, path: str) -> str:
        """The scalar base of a path, `list` for lists, `caption` for enum ids."""
        mapped = next(fields[path] for fields in self.mapped if path in fields)
        if mapped.attribute.is_array:
            return "list"
        return "caption" if self._is_caption(mapped) else self.schema.scalar(mapped.attribute).base

    @cached_property
    def casts(self) -> dict[str, str]:
        """Paths whose text is cast and may fail, with the cast."""
        found = {}
        for path, number in self.numbers.items():
            if cast := _cast(self._kind(path), f"x{number}", self._constant(path)):
                found[path] = cast
        return found

    def _constant(self, path: str) -> bool:
        return all(isinstance(fields[path].expr, e.Literal) for fields in self.mapped if path in fields)

    def _times(self, path: str) -> bool:
        return self._kind(path) in ("timestamp_t", "datetime_t")

    def values(self) -> Iterator[str]:
        """Projections v0, v1...: each mapped attribute after its cast. Times are microseconds since 1970."""
        for path, number in self.numbers.items():
            yield f"{self.casts.get(path, f'x{number}')} AS v{number}"

    def _failed_tests(self) -> dict[str, str]:
        tests = {}
        for path, number in self.numbers.items():
            if path in self.casts:
                tests[path] = f"(x{number} IS NOT NULL AND v{number} IS NULL)"
            elif self._times(path):
                inputs = [self._time_input(fields[path].expr) if path in fields else None for fields in self.mapped]
                given = self.by_event_map(inputs)
                tests[path] = f"({given} IS NOT NULL AND v{number} IS NULL)"
        return tests

    def _time_input(self, expr: e.Expr) -> str | None:
        """The text that a time is made of."""
        if not self.readable(expr):
            return None
        match expr:
            case e.Epoch(inner) | e.Iso8601(inner):
                return render.value(inner, self.column)
            case e.Coalesce(items):
                inputs = [found for item in items if (found := self._time_input(item))]
                return f"coalesce({', '.join(inputs)})"
            case _:
                return None

    # -- columns ------------------------------------------------------------------------------------------------------
    def leaves(self) -> dict[str, Leaf]:
        """Every value that may stand in a column, by OCSF path."""
        found: dict[str, Leaf] = {}
        for path, number in self.numbers.items():
            kind = self._kind(path)
            if kind == "caption":
                found |= self._caption_leaves(path, f"v{number}")
            elif self._times(path):
                base = path.removesuffix("_dt")
                present = self._presence(path, f"v{number}")
                found[base] = Leaf(f"v{number} // 1000", present)
                found[f"{base}_dt"] = Leaf(f"make_timestamptz(v{number})", present)
            else:
                found[path] = Leaf(f"v{number}", self._presence(path, f"v{number}"))
        return found | self._class_leaves(found) | self._duration(found)

    def _presence(self, path: str, sql: str) -> str | None:
        given = [fields.get(path) for fields in self.mapped]
        if not any(mapped and self.readable(mapped.expr) for mapped in given):
            return None
        constant = all(mapped and isinstance(mapped.expr, e.Literal | e.ListOf) for mapped in given)
        plain = constant and all(not list(e.columns(mapped.expr)) for mapped in given if mapped)
        return "" if plain else f"{sql} IS NOT NULL"

    def _caption_leaves(self, path: str, sql: str) -> dict[str, Leaf]:
        """An enum id from its caption, and the sibling text beside it."""
        ids: list[str | None] = []
        siblings: list[str | None] = []
        required = False
        for fields in self.mapped:
            mapped = fields.get(path)
            if mapped is None:
                ids.append(None)
                siblings.append(None)
                continue
            required = mapped.attribute.required
            ids.append(_enum_id(mapped, sql))
            siblings.append(f"coalesce({sql}, 'Unknown')" if required else sql)
        attribute = next(fields[path].attribute for fields in self.mapped if path in fields)
        present = self._presence(path, sql)
        weak = required and present != ""
        if required and present is None:
            ids, siblings = ["0" if found else None for found in ids], ["'Unknown'" if s else None for s in siblings]
        leaves = {path: Leaf(self.by_event_map(ids), present, weak)}
        if attribute.sibling:
            sibling = ".".join([*path.split(".")[:-1], attribute.sibling])
            if sibling not in self.numbers:
                leaves[sibling] = Leaf(self.by_event_map(siblings), present, weak)
        return leaves

    def _class_leaves(self, leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
        activity = leaves["activity_id"].sql
        name = leaves["activity_name"].sql
        caption = f"CASE {activity} WHEN 99 THEN 'Other' ELSE {name} END"
        classes = self.classes
        texts = sqltext.text
        return {
            "class_uid": Leaf(self.by_event_map([str(found.uid) for found in classes]), ""),
            "class_name": Leaf(self.by_event_map([texts(found.caption) for found in classes]), ""),
            "category_uid": Leaf(self.by_event_map([str(found.category_uid) for found in classes]), ""),
            "category_name": Leaf(self.by_event_map([texts(found.category_name) for found in classes]), ""),
            "type_uid": Leaf(
                self.by_event_map([f"{found.uid * 100}::BIGINT + {activity}" for found in classes]), ""
            ),
            "type_name": Leaf(
                self.by_event_map([f"{texts(found.caption + ': ')} || {caption}" for found in classes]), ""
            ),
        }

    def _duration(self, leaves: Mapping[str, Leaf]) -> dict[str, Leaf]:
        """Milliseconds from start to end, where a class has both."""
        start, end = leaves.get("start_time", NEVER), leaves.get("end_time", NEVER)
        if "duration" in leaves or start.present is None or end.present is None:
            return {}
        span = f"({end.sql}) - ({start.sql})"
        return {"duration": Leaf(f"CASE WHEN {span} BETWEEN 0 AND 2147483647 THEN {span} END", f"{span} IS NOT NULL")}

    def columns(self) -> Iterator[str]:
        """Projections of the table's columns, in its order; provenance is added by the engine."""
        leaves = self.leaves()
        leaves["unmapped"] = Leaf(self._unmapped(), "x")
        leaves["observables"] = Leaf(self._observables(leaves), "x")
        leaves["region"] = self._partition_value(leaves.get("cloud.region", NEVER), r"^[a-z0-9-]{1,32}$")
        leaves["accountid"] = self._partition_value(leaves.get("cloud.account.uid", NEVER), r"^[0-9]{12}$")
        for field in self.table.arrow:
            if field.name in tables.PROVENANCE.names:
                continue
            built = column(field, field.name, leaves)
            yield f"{typed(built, field.type)} AS {sqltext.name(field.name)}"

    def _partition_value(self, leaf: Leaf, pattern: str) -> Leaf:
        """A value that may enter a path: the event's own where it is well formed, else `unknown`."""
        if leaf.present is None:
            return Leaf("'unknown'", "")
        safe = f"CASE WHEN regexp_full_match({leaf.sql}, {sqltext.text(pattern)}) THEN {leaf.sql} ELSE 'unknown' END"
        return Leaf(safe, "")

    # -- unmapped and observables -------------------------------------------------------------------------------------
    def _unmapped(self) -> str:
        leftovers = Leftovers(self.mapper.shape, self.batch, self.column, frozenset(self.mapper.drop))
        for path, number in self.numbers.items():
            for use, events in self._uses(path):
                if path in self.casts or self._times(path):
                    use = render.Consumption(use.path, use.keys, render.both(use.condition, f"v{number} IS NOT NULL"))
                leftovers.use(use.path, use.keys, self.only(events, use.condition))
        return leftovers.sql()

    def _uses(self, path: str) -> Iterator[tuple[render.Consumption, list[int]]]:
        """What a path consumes, with the event maps that agree on it."""
        if self.arrow_type(path) is None and self.arrow_type(f"{path}_dt") is None:
            return
        grouped: dict[render.Consumption, list[int]] = {}
        for number, fields in enumerate(self.mapped):
            if path not in fields:
                continue
            expr = fields[path].expr
            found = render.consumed(expr, self.column)
            if isinstance(expr, e.Each) and isinstance(expr.inner, e.Column):
                whole = f"NOT {element_leftover(expr, self.column)}"
                found = iter([render.Consumption(expr.inner.parts, (), whole)])
            for use in found:
                grouped.setdefault(use, []).append(number)
        yield from grouped.items()

    def _observables(self, leaves: Mapping[str, Leaf]) -> str:
        captions = self.schema.observable_captions
        singles: list[str] = []
        lists: list[str] = []
        for path, kind in self._observable_paths():
            label = f"'type': {sqltext.text(captions[kind])}, 'type_id': {kind}::INTEGER"
            owner = self._list_owner(path)
            if owner is None:
                if leaves[path].present is not None:
                    singles.append(f"{{'name': {sqltext.text(path)}, 'value': {leaves[path].sql}, {label}}}")
                continue
            if leaves.get(owner, NEVER).present is None:
                continue
            member = ".".join(["item", *(sqltext.name(step) for step in path.split(".")[len(owner.split(".")) :])])
            name = f"{owner}[]{path[len(owner) :]}"
            lists.append(
                f"list_transform(list_filter({leaves[owner].sql}, lambda item: {member} IS NOT NULL), "
                f"lambda item: {{'name': {sqltext.text(name)}, 'value': {member}, {label}}})"
            )
        kept = f"list_filter([{', '.join(singles)}], lambda item: item.value IS NOT NULL)" if singles else "[]"
        return f"list_concat({', '.join([kept, *lists])})" if lists else kept

    def _list_owner(self, path: str) -> str | None:
        steps = path.split(".")
        for length in range(1, len(steps) + 1):
            owner = ".".join(steps[:length])
            if pa.types.is_list(self.arrow_type(owner)):
                return owner
        return None

    def _observable_paths(self) -> list[tuple[str, int]]:
        """OCSF paths that hold observables and their type ids, sorted by path."""
        marked: dict[str, int] = {}
        by_caption = {caption: number for number, caption in self.schema.observable_captions.items()}
        for event in self.mapper.events:
            for path, given in event.fields.items():
                inner = [f"{path}.{name}" for name, _ in given.fields] if isinstance(given, e.Each) else [path]
                for leaf in inner:
                    kind = self._observable_kind(event, leaf)
                    if caption := self.mapper.observables.get(leaf):
                        kind = by_caption[caption]
                    if kind in OBSERVABLE_TYPES and self.arrow_type(leaf) is not None:
                        marked[leaf] = kind
        return sorted(marked.items())

    def _observable_kind(self, event: EventMap, path: str) -> int | None:
        try:
            attribute = self.schema.resolve(event.event_class, path, event.all_profiles)[-1]
        except MappingError:
            return None
        return self.schema.scalar(attribute).observable if attribute.object is None else None

    # -- the query ----------------------------------------------------------------------------------------------------
    def sql(self) -> str:
        """The whole query over `batch`."""
        failed = self._failed_tests()
        names = ", ".join(f"CASE WHEN {test} THEN {sqltext.text(path)} END" for path, test in failed.items())
        listed = f"list_filter([{names}], lambda item: item IS NOT NULL)"
        failing = f"CASE WHEN {' OR '.join(failed.values())} THEN {listed} END" if failed else "NULL"
        columns = [*self.columns(), "_object", "_record", "_table", f"({failing})::VARCHAR[] AS _failed"]
        if self.batch.careful:
            columns.append("_repeated")
        problems = "NULL"
        if self.validate:
            problems = validate.problems(self.schema, self._events(), self.table.arrow)
        if self.batch.careful:
            problems = f"CASE WHEN _repeated IS NOT NULL THEN [_repeated] ELSE {problems} END"
        layers = [
            self._records(),
            f"SELECT *, {self._event_map()} AS em, {self._table()} AS _table FROM records",
            f"SELECT *, {', '.join(self.texts())} FROM chosen",
            f"SELECT *, {', '.join(self.values())} FROM texts",
            f"SELECT {', '.join(columns)} FROM vals",
        ]
        names_of_layers = ("records", "chosen", "texts", "vals", "events")
        parts = ",\n".join(
            f"{name} AS NOT MATERIALIZED ({sql})" for name, sql in zip(names_of_layers, layers, strict=True)
        )
        return f"WITH {parts}\nSELECT *, ({problems})::VARCHAR[] AS _problems FROM events"

    def _events(self) -> list[tuple[schema.EventClass, tuple[str, ...]]]:
        pairs = zip(self.classes, self.mapper.events, strict=True)
        return [(found, event.all_profiles) for found, event in pairs]

    def _records(self) -> str:
        if self.batch.columns is not None:
            return "SELECT * FROM batch"
        shape = self.mapper.shape
        keys = "".join(f", _key_{name}" for name in self.batch.object_key)
        envelope = ", _envelope" if self.batch.envelope else ""
        parsed = f"SELECT _object, _record{keys}{envelope}, _raw, from_json(_raw, {shape.json_spec}) AS r"
        if not self.batch.careful:
            return f"{parsed} FROM batch"
        repeated = (
            "list_filter(list_transform(k, lambda names: "
            "CASE WHEN len(names) > list_unique(names) THEN 'repeated JSON key: ' || "
            "list_filter(names, lambda name, i: list_position(names, name) < i)[1] END), "
            "lambda found: found IS NOT NULL)[1]"
        )
        keyed = f"{parsed}, json_keys(_raw, {shape.object_paths}) AS k FROM batch"
        return f"SELECT *, {repeated} AS _repeated FROM ({keyed})"

    def _event_map(self) -> str:
        tests = [event.where for event in self.mapper.events]
        branches = " ".join(
            f"WHEN {render.value(test, self.column)} THEN {number}"
            for number, test in enumerate(tests)
            if test is not None
        )
        return f"(CASE {branches} ELSE {len(tests) - 1} END)::TINYINT" if branches else "0::TINYINT"

    def _table(self) -> str:
        return render.value(e.as_expr(self.mapper.table), self.column)


def _cast(kind: str, text: str, constant: bool) -> str | None:
    """A cast from text that gives null unless the text is exactly how the value would be written; None needs none."""
    if constant:
        return None
    match kind:
        case "integer_t":
            return _number(text, "INTEGER")
        case "long_t":
            return _number(text, "BIGINT")
        case "float_t":
            return f"try_cast({text} AS DOUBLE)"
        case "boolean_t":
            return f"CASE lower({text}::VARCHAR) WHEN 'true' THEN true WHEN 'false' THEN false END"
        case _:
            return None


def _number(text: str, kind: str) -> str:
    number = f"try_cast({text} AS {kind})"
    return f"CASE WHEN {number}::VARCHAR = {text} THEN {number} END"


def _enum_id(mapped: Mapped, sql: str) -> str:
    """SQL for the id of a caption: null stays null (0 where OCSF requires the attribute), unknown text is 99."""
    enum = mapped.attribute.enum or {}
    ids = {caption: number for number, caption in enum.items()}
    null = "0" if mapped.attribute.required and "0" in enum else "NULL"
    other = "99" if "99" in enum else "NULL"
    if isinstance(mapped.expr, e.Literal):
        return ids.get(str(mapped.expr.value), other)
    branches = " ".join(f"WHEN {sqltext.text(caption)} THEN {number}" for caption, number in ids.items())
    return f"CASE WHEN {sql} IS NULL THEN {null} ELSE CASE {sql} {branches} ELSE {other} END END"
