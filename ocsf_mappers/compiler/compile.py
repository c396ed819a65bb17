"""A mapper and an OCSF version, compiled to one DuckDB query and the plan that puts its result together.

The query reads a relation `batch` (see `ocsf_mappers.readers.Chunk`) and gives one row per record, in the same order.
It is built in layers, each over the one before:
    records   the record taken apart (`r` for JSON sources)
    fields    field0, field1...: the members of `r` that expressions read
    members   known0, known1...: fields, or columns of a text log, null where they say nothing; q0, q1...: members of
              JSON fields; table0, table1...: long tables, which are constants
    taken     member0, member1...: members of JSON fields, one by one, null where they say nothing
    shared    b0, b1...: patterns and times that several expressions want
    sources   source0, source1...: what lists are made of
    chosen    `_event_map`, the number of the event map that takes the record, and `_table`, its lake table;
              part0, part1...: parts of lists
    texts     x0, x1...: attributes that are cast, before the cast; list0, list1...: all parts of a list
    vals      v0, v1...: every mapped attribute; of an enum the id, of a time the microseconds since 1970
    events    JSON that is left over (j0, j1...), and what is wrong with the elements of lists (k0, k1...)
Each adds its columns, a layer without any is left out. What many expressions read has a column of its own in a layer
before theirs: DuckDB would find that too, but plans a projection of all columns for each depth at which it does.
The last SELECT adds what is left over (u0, u1..., _more), what failed (_failed), and why the event is invalid
(_problems).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from ocsf_mappers import sqltext
from ocsf_mappers.compiler import captions, casts, statistics
from ocsf_mappers.compiler.each import ObjectList, ObjectSchema, SharedLists
from ocsf_mappers.compiler.flat import FlatColumns
from ocsf_mappers.compiler.observables import observables
from ocsf_mappers.compiler.program import EVENT_MAP, Caption, Program
from ocsf_mappers.compiler.reads import Record, SharedRecord
from ocsf_mappers.compiler.unmapped import Unmapped
from ocsf_mappers.errors import MappingError
from ocsf_mappers.ocsf import schema, validate
from ocsf_mappers.vocabulary import lists
from ocsf_mappers.vocabulary.expr import as_word
from ocsf_mappers.vocabulary.record import Path
from ocsf_mappers.vocabulary.table import column_type
from ocsf_mappers.vocabulary.texts import Epoch, Iso8601
from ocsf_mappers.vocabulary.values import ListOf, Literal, columns
from ocsf_mappers.vocabulary.word import ABSENT, Consumption, Resolver, Word, both

if TYPE_CHECKING:
    from ocsf_mappers.vocabulary.mapper import EventMap, Mapper


@dataclass(frozen=True)
class BatchShape:
    """What the batch relation holds.

    Args:
        columns: Declared columns that are present of a text log (see `readers.tabular`); None for JSON text in
            `_raw`.
        object_key: Columns from the object's own name that are present.
        envelope: Whether `_envelope` holds the JSON around each record.
        check_keys: JSON only: some record has undeclared, repeated or mistyped members, so look at each.
    """

    columns: frozenset[str] | None = None
    object_key: tuple[str, ...] = ()
    envelope: bool = False
    check_keys: bool = False


@dataclass(frozen=True)
class Mapped:
    """One attribute as one event map fills it."""

    attribute: schema.Attribute
    word: Word


@lru_cache(maxsize=128)
def compile_mapper(mapper: Mapper, version: str, batch: BatchShape, *, validated: bool = True) -> Program:
    """The program that maps batches of this shape, compiled once; `validated` makes it find invalid events."""
    return Compiler(mapper, version, batch).program(validated=validated)


class Compiler:
    """A mapper in one OCSF version, for batches of one shape.

    Args:
        mapper: The mapper.
        version: The OCSF version.
        batch: What the batch relation holds.
    """

    def __init__(self, mapper: Mapper, version: str, batch: BatchShape) -> None:
        self.mapper = mapper
        self.batch = batch
        self.column = self._resolver()
        self._users: dict[Path, set[int]] = {}
        """Which event maps carry a member over."""
        self.schema = schema.load(version)
        self.classes = [self.schema.event_class(event.event_class) for event in self.mapper.events]
        self.table = mapper.lake_table
        self.mapped = [self._mapped(event) for event in self.mapper.events]
        self.paths = [path for path in dict.fromkeys(p for fields in self.mapped for p in fields) if self._stored(path)]
        self._record.casts.update(casts.agreed(self._numeric()))

    def _resolver(self) -> Resolver:
        """How expressions read the record's columns."""
        self._record = record = Record(
            self.batch.columns,
            self.batch.object_key,
            self.mapper.shape.leaves,
            self.mapper.blank,
            envelope=self.batch.envelope,
        )
        self._members = SharedRecord(record)
        self._lists = SharedLists()
        return self._members

    def _mapped(self, event: EventMap) -> dict[str, Mapped]:
        """The event map's fields that this version knows and the batch can fill, machine-made ones first."""
        product = self.mapper.product
        machine = {
            "metadata.product.name": product.name,
            "metadata.product.vendor_name": product.vendor,
            "metadata.product.feature.name": product.feature,
            "metadata.version": self.schema.version,
            "metadata.profiles": list(event.all_profiles),
        }
        fields = {}
        for path, value in {**machine, **event.words}.items():
            if value is None:
                continue
            chain = self.schema.find(event.event_class, path, event.all_profiles)
            if chain is None:
                continue  # `check` has made sure that some shipped version knows the path
            mapped = Mapped(chain[-1], as_word(value))
            if self._readable(mapped.word) or chain[-1].required or mapped.word.default is not None:
                fields[path] = mapped
        return fields

    def _numeric(self) -> Iterator[tuple[Word, Callable[[str], str] | None]]:
        """Values of attributes, and what makes numbers of them."""
        for fields in self.mapped:
            for path, mapped in fields.items():
                attribute = mapped.attribute
                if not attribute.object and not attribute.is_array and attribute.enum is None:
                    yield mapped.word, casts.numeric(self.schema.scalar(attribute), column_type(self.table, path))

    def _stored(self, path: str) -> bool:
        return any(column_type(self.table, name) is not None for name in (path, f"{path}_dt"))

    def _readable(self, word: Word) -> bool:
        """Whether the batch holds anything that the expression reads."""
        paths = [column.path for column in columns(word)]
        return not paths or any(self.column(path) != ABSENT for path in paths)

    # -- merging event maps -------------------------------------------------------------------------------------------
    def _choice(self, choices: list[str | None]) -> str:
        """SQL that picks, row by row, what the record's event map says."""
        if len(set(choices)) == 1:
            return choices[0] or "NULL"
        branches = " ".join(f"WHEN {number} THEN {sql}" for number, sql in enumerate(choices) if sql is not None)
        return f"CASE {EVENT_MAP} {branches} END"

    def _only(self, numbers: list[int], sql: str | None) -> str | None:
        """A condition restricted to some event maps; None is always."""
        if len(numbers) == len(self.classes):
            return sql
        condition = f"{EVENT_MAP} IN ({', '.join(str(number) for number in numbers)})"
        return condition if sql is None else f"({condition} AND ({sql}))"

    def _everywhere(self, path: str) -> list[Mapped | None]:
        return [fields.get(path) for fields in self.mapped]

    def _any(self, path: str) -> Mapped:
        return next(mapped for mapped in self._everywhere(path) if mapped is not None)

    # -- kinds of attributes ------------------------------------------------------------------------------------------
    def _kind(self, path: str) -> str:
        """`constant`, `caption`, `list`, or the scalar base of the attribute's OCSF type."""
        mapped = self._any(path)
        if path != "activity_id" and all(field is None or field.word.is_constant for field in self._everywhere(path)):
            return "constant"
        if mapped.attribute.is_array:
            return "list"
        base = self.schema.scalar(mapped.attribute).base
        return "caption" if mapped.attribute.enum is not None and base == "integer_t" else base

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each path."""
        return {path: self._kind(path) for path in self.paths}

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each path that the query computes: x0/v0 is the first."""
        return {path: number for number, path in enumerate(p for p in self.paths if self.kinds[p] != "constant")}

    @cached_property
    def casts(self) -> dict[str, str]:
        """Paths whose text is cast and may fail, with the cast."""
        cast_by_path = {}
        for path, number in self.numbers.items():
            column = column_type(self.table, path)
            kind = casts.column_kind(self.kinds[path], column)
            limits = None if kind == "list" else self.schema.scalar(self._any(path).attribute).range
            if cast := casts.cast(kind, f"x{number}", limits):
                cast_by_path[path] = casts.fitted(cast, column)
        return cast_by_path

    @cached_property
    def defaults(self) -> dict[str, int | str]:
        """By path, the value that stands where the log says nothing; such a value makes no object exist."""
        default_by_path: dict[str, int | str] = {}
        for path in self.numbers:
            defaults = {mapped.word.default for mapped in self._everywhere(path) if mapped is not None}
            if len(defaults) > 1:
                raise MappingError(f"{path}: one event map has a default that makes no object, another has not")
            default = defaults.pop()
            mapped = self._any(path)
            value = captions.default_id(mapped.attribute, default) if self.kinds[path] == "caption" else default
            if "." in path and value is not None:
                default_by_path[path] = value
        return default_by_path

    def is_missing(self, number: int) -> str:
        """SQL that is true where an attribute has no value."""
        return f"v{number} IS NULL"

    def is_default(self, number: int) -> str:
        """SQL that is true where there is no value, or only its default."""
        default = next(value for path, value in self.defaults.items() if self.numbers[path] == number)
        return f"(v{number} = {_literal(default)}) IS NOT FALSE"

    def is_time(self, path: str) -> bool:
        """Whether a path holds a point in time."""
        return self.kinds[path] in ("timestamp_t", "datetime_t")

    # -- layers -------------------------------------------------------------------------------------------------------
    def _text(self, path: str, mapped: Mapped | None) -> str | None:
        if mapped is None:
            return None
        if lists.parts(mapped.word):
            return self._objects(path, mapped).sql()
        if self.kinds[path] == "caption":
            return captions.id_sql(mapped.word, mapped.attribute, self.column)
        if self.kinds[path] == "list" and not mapped.word.is_list:
            return lists.texts(mapped.word.sql(self.column))
        return mapped.word.sql(self.column)

    def _objects(self, path: str, mapped: Mapped) -> ObjectList:
        """A list of objects as this version and the table know it."""
        members = self.schema.members(mapped.attribute)
        if members is None:
            raise MappingError(f"{path}: OCSF {self.schema.version} declares no members")
        number = next(number for number, fields in enumerate(self.mapped) if fields.get(path) is mapped)
        object_schema = ObjectSchema(self.schema, members, frozenset(self.mapper.events[number].all_profiles))
        kind = column_type(self.table, path)
        shared = self._shared_lists()
        return ObjectList(lists.parts(mapped.word), object_schema, kind, self.column, casts.checked, shared=shared)

    def _shared_lists(self) -> SharedLists | None:
        """What gives columns to lists; what one of several event maps reads is computed for its own records only."""
        return self._lists if len(self.mapper.events) == 1 else None

    def _texts(self) -> Iterator[str]:
        for path in self.casts:
            yield f"{self._chosen(path)} AS x{self.numbers[path]}"

    def _values(self) -> Iterator[str]:
        for path, number in self.numbers.items():
            yield f"{self.casts.get(path) or self._chosen(path)} AS v{number}"

    def _chosen(self, path: str) -> str:
        return self._choice([self._text(path, mapped) for mapped in self._everywhere(path)])

    def _events(self) -> Iterator[str]:
        yield f"({' OR '.join(self._strikes()) or 'false'}) AS failing"
        for path in self.paths:
            if self.kinds[path] == "caption" and (text := self._other_text(path)):
                yield f"CASE WHEN v{self.numbers[path]} = {captions.OTHER} THEN {text} END AS o{self.numbers[path]}"
        for number, pair in enumerate(self._leftovers.pairs()):
            yield f"{pair} AS j{number}"

    def _other_text(self, path: str) -> str | None:
        """The text of a caption that the enum does not know; None when an expression gives only known ones."""
        fields = self._everywhere(path)
        if all(m is None or m.word.gives_only(captions.enum_ids(m.attribute)) for m in fields):
            return None
        return self._choice([mapped.word.sql(self.column) if mapped else None for mapped in fields])

    def _failed(self) -> dict[str, str]:
        """For each path that is cast, SQL that is true where the cast failed."""
        tests = {path: f"(x{self.numbers[path]} IS NOT NULL AND v{self.numbers[path]} IS NULL)" for path in self.casts}
        for path, number in self.numbers.items():
            if self.is_time(path):
                time_text = self._choice(
                    [mapped.word.time_text(self.column) if mapped else None for mapped in self._everywhere(path)]
                )
                tests[path] = f"({time_text} IS NOT NULL AND v{number} IS NULL)"
        return tests

    def _strikes(self) -> list[str]:
        """SQL that is true where some text could not be read as what it was read for.

        That is where an attribute stays empty, and where one of several texts for a time could not be read and another
        one was taken: each answers for itself.
        """
        unread = []
        for path in filter(self.is_time, self.numbers):
            for mapped in filter(None, self._everywhere(path)):
                times = [word for word in mapped.word.every() if isinstance(word, Epoch | Iso8601)]
                # A text that is tried in several forms is read if one of them fits.
                for text in dict.fromkeys(word.inner for word in times if word != mapped.word):
                    tried = [f"{word.sql(self.column)} IS NULL" for word in times if word.inner == text]
                    unread.append(f"({text.sql(self.column)} IS NOT NULL AND {' AND '.join(tried)})")
        return list(dict.fromkeys([*self._failed().values(), *unread]))

    # -- what is left over --------------------------------------------------------------------------------------------
    @cached_property
    def _leftovers(self) -> Unmapped:
        leftovers = Unmapped(self.mapper.shape, self.batch, self.column, frozenset(self.mapper.drop))
        for path in self.paths:
            for use, events in self._uses(path):
                value = f"v{self.numbers[path]}"
                may_fail = path in self.casts or self.kinds[path] == "list"
                cast = use.cast or (f"{value} IS NOT NULL" if may_fail else None)
                condition = use.condition
                if lost := self._lost(path):
                    condition = both(condition, f"{value} NOT IN ({', '.join(map(_literal, lost))})")
                self._users.setdefault(use.path, set()).update(events)
                leftovers.use(use.path, use.keys, self._only(events, condition), cast)
        return leftovers

    def _lost(self, path: str) -> list[int | str]:
        """Values that do not carry a text over: defaults, which make no object, and ids without the text beside."""
        lost = [self.defaults[path]] if path in self.defaults else []
        if self.kinds[path] == "caption" and self._other_text(path):
            sibling = self.sibling_path(path)
            if sibling is None or not self._stored(sibling):
                lost.append(captions.OTHER)
        return lost

    def _uses(self, path: str) -> Iterable[tuple[Consumption, list[int]]]:
        """What a path consumes, with the event maps that agree on it."""
        grouped: dict[Consumption, list[int]] = {}
        for number, mapped in enumerate(self._everywhere(path)):
            if mapped is None:
                continue
            # A text that is no list stays where it is.
            as_list = self.kinds[path] == "list" and not lists.parts(mapped.word) and not mapped.word.is_list
            is_array = f"{lists.texts(mapped.word.sql(self.column))} IS NOT NULL" if as_list else None
            consumed = mapped.word.consumed(self.column, is_array)
            if lists.parts(mapped.word):
                consumed = self._objects(path, mapped).consumed(f"v{self.numbers[path]}")
            for use in consumed:
                grouped.setdefault(use, []).append(number)
        return grouped.items()

    # -- what records hold, see `ocsf_mappers.compiler.statistics` ----------------------------------------------------
    @cached_property
    def _taken(self) -> list[Path]:
        used = (*self._leftovers.whole, *self._leftovers.members)
        return [path for path in statistics.taken(self.mapper.shape, used) if self.column(path) != ABSENT]

    def _member_bits(self) -> list[str]:
        leaves = self.mapper.shape.leaves
        tests = {True: "NOT IN ('{}', 'null')", False: "IS NOT NULL"}
        return list(statistics.bits([f"{self.column(path)} {tests[leaves[path]]}" for path in self._taken]))

    def _unlisted(self) -> Iterator[tuple[str, str]]:
        """Source path and SQL for the text there that is not among those the mapper lists."""
        for name, texts in self.mapper.known_values.items():
            column = self.column(tuple(name.split(".")))
            if column != ABSENT:
                listed = ", ".join(sqltext.text(text) for text in texts)
                yield name, f"CASE WHEN {column} NOT IN ({listed}) THEN {column} END"

    # -- the program --------------------------------------------------------------------------------------------------
    def program(self, *, validated: bool) -> Program:
        """The query and the plan for its result."""
        program = self.outline()
        return replace(program, sql=self._sql(program, validated=validated))

    def outline(self) -> Program:
        """The plan for the result, without the query."""
        kinds, numbers = self.kinds, self.numbers
        words = [{path: mapped.word for path, mapped in fields.items()} for fields in self.mapped]
        constants = {path: self._constants(path) for path in self.paths if kinds[path] == "constant"}
        siblings = {path: caption for path in numbers if kinds[path] == "caption" and (caption := self._caption(path))}
        # In the order of the mapping: the program is part of the fingerprint, which is the same in every process.
        fixed_captions = [path for path in constants if self._any(path).attribute.enum and path.endswith("_id")]
        for path in fixed_captions:
            constants |= self._constant_sibling(path)
        return Program(
            sql="",
            constants={**self._class_constants(), **constants},
            values={
                path: f"v{number}"
                for path, number in numbers.items()
                if kinds[path] != "caption" and not self.is_time(path)
            },
            times={path.removesuffix("_dt"): f"v{number}" for path, number in numbers.items() if self.is_time(path)},
            captions=siblings,
            class_captions=[(event_class.caption, event_class.uid) for event_class in self.classes],
            leftovers={key: f"u{number}" for number, (key, _) in enumerate(self._leftovers.singles())},
            observables=observables(self.mapper, self.schema, self.table, words),
            members=[".".join(path) for path in self._taken],
            carriers=[frozenset(self._users[path]) for path in self._taken],
            member_bits=[f"m{number}" for number, _ in enumerate(self._member_bits())],
            unlisted={name: f"n{number}" for number, (name, _) in enumerate(self._unlisted())},
            defaults=self.defaults,
        )

    def _constants(self, path: str) -> list[str | int | bool | list[str] | None]:
        return [None if mapped is None else _constant(mapped) for mapped in self._everywhere(path)]

    def _constant_sibling(self, path: str) -> dict[str, list[str | int | bool | list[str] | None]]:
        sibling = self.sibling_path(path)
        if sibling is None:
            return {}
        fields = self._everywhere(path)
        return {sibling: [str(m.word.value) if m and isinstance(m.word, Literal) else None for m in fields]}

    def sibling_path(self, path: str) -> str | None:
        """The path of an id's sibling, None when there is none or an event map fills it itself."""
        sibling = self._any(path).attribute.sibling
        full_path = ".".join([*path.split(".")[:-1], sibling]) if sibling else None
        return None if full_path in self.paths else full_path

    def _caption(self, path: str) -> Caption:
        fields = self._everywhere(path)
        labels = [{int(k): v for k, v in (m.attribute.enum or {}).items()} if m else {} for m in fields]
        return Caption(
            column=f"v{self.numbers[path]}",
            other=f"o{self.numbers[path]}" if self._other_text(path) else None,
            captions=labels,
            sibling=self.sibling_path(path),
            passes_text=[m is not None and m.word.passes_text for m in fields],
        )

    def _class_constants(self) -> dict[str, list[str | int]]:
        return {
            "class_uid": [event_class.uid for event_class in self.classes],
            "class_name": [event_class.caption for event_class in self.classes],
            "category_uid": [event_class.category_uid for event_class in self.classes],
            "category_name": [event_class.category_name for event_class in self.classes],
        }

    def _sql(self, program: Program, *, validated: bool) -> str:
        failed = [f"CASE WHEN {test} THEN {sqltext.text(path)} END" for path, test in self._failed().items()]
        failed_paths = f"list_filter([{', '.join(failed)}], lambda item: item IS NOT NULL)" if failed else "NULL"
        columns = [
            *("_object", "_record", "_table", EVENT_MAP),
            *(f"v{number}" for number in self.numbers.values()),
            *(f"{caption.other}::VARCHAR AS {caption.other}" for caption in program.captions.values() if caption.other),
            *(f"{sql} AS u{number}" for number, (_, sql) in enumerate(self._leftovers.singles())),
            f"{self._leftovers.more('failing', [f'j{n}' for n in range(len(self._leftovers.pairs()))])} AS _more",
            *(f"{sql} AS {name}" for name, sql in zip(program.member_bits, self._member_bits(), strict=True)),
            *(f"{sql} AS {program.unlisted[name]}" for name, sql in self._unlisted()),
            f"(CASE WHEN failing THEN {failed_paths} END)::VARCHAR[] AS _failed",
            f"({self._problems() if validated else 'NULL'})::VARCHAR[] AS _problems",
        ]
        below, with_layers = "records", [f"records AS NOT MATERIALIZED ({self._records()})"]
        for name, added in self._layers(validated=validated).items():
            if added:
                with_layers.append(f"{name} AS NOT MATERIALIZED (SELECT {', '.join(['*', *added])} FROM {below})")
                below = name
        return "WITH " + ",\n".join(with_layers) + f"\nSELECT {', '.join(columns)} FROM {below}"

    def _layers(self, *, validated: bool) -> dict[str, list[str]]:
        """The columns that each layer adds to those of the one before."""
        chosen = [f"{self._event_map()} AS {EVENT_MAP}", f"{self._table()} AS _table"]
        texts, values, events = list(self._texts()), list(self._values()), list(self._events())
        tallies = [f"{sql} AS {name}" for name, sql in self._checks[0].items()] if validated else []
        # Only now is it known what the others read.
        record, shared = self._record, self._lists
        return {
            "fields": record.fields.selected(),
            "members": [*record.nonblank_columns.selected(), *record.tables.selected(), *self._members.columns()],
            "taken": self._members.taken.selected(),
            "shared": record.shared_columns(),
            "sources": shared.sources.selected(),
            "chosen": [*chosen, *shared.parts.selected()],
            "texts": [*texts, *shared.kept.selected()],
            "vals": values,
            "events": [*events, *tallies],
        }

    @cached_property
    def _checks(self) -> tuple[dict[str, str], list[validate.Check]]:
        """Columns that checks need, and the checks (see `validate.tallied`)."""
        profiles = [event.all_profiles for event in self.mapper.events]
        events = list(zip(self.classes, profiles, strict=True))
        columns = FlatColumns(self)
        checks = [
            validate.for_class(check, EVENT_MAP, [number], len(events))
            for number, (event_class, profiles) in enumerate(events)
            for check in validate.class_checks(
                self.schema, event_class, profiles, self._filled(number), columns.of(number)
            )
        ]
        errors = [check for check in validate.merged(checks) if not check.warning]
        return validate.tallied(errors, "k")

    def _problems(self) -> str:
        problems = validate.listing(self._checks[1], warnings=False)
        if not self.batch.check_keys:
            return problems
        return f"CASE WHEN _repeated IS NOT NULL THEN [_repeated] ELSE {problems} END"

    def _filled(self, number: int) -> pa.Schema:
        """The table's columns, lists of objects only with the members that an event map fills: others need no check."""
        columns = self.table.arrow
        for path, mapped in self.mapped[number].items():
            if lists.parts(mapped.word) and "." not in path:
                kind = self._objects(path, mapped).filled
                columns = columns.set(columns.get_field_index(path), pa.field(path, pa.list_(kind)))
        return columns

    def _records(self) -> str:
        if self.batch.columns is not None:
            return "SELECT * FROM batch"
        shape = self.mapper.shape
        keys = "".join(f", _key_{name}" for name in self.batch.object_key)
        envelope = ", _envelope" if self.batch.envelope else ""
        parsed = f"SELECT _object, _record{keys}{envelope}, _raw, from_json(_raw, {shape.json_spec}) AS r"
        if not self.batch.check_keys:
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
        *firsts, _ = self.mapper.events
        branches = " ".join(
            f"WHEN {as_word(event.where).sql(self.column)} THEN {number}" for number, event in enumerate(firsts)
        )
        return f"(CASE {branches} ELSE {len(firsts)} END)::TINYINT" if branches else "0::TINYINT"

    def _table(self) -> str:
        return as_word(self.mapper.table_word).sql(self.column)


def _constant(mapped: Mapped) -> str | int | bool | list[str]:
    if isinstance(mapped.word, ListOf):
        return [str(item.value) for item in mapped.word.items if isinstance(item, Literal)]
    value = mapped.word.value if isinstance(mapped.word, Literal) else ""
    if mapped.attribute.enum and mapped.attribute.type in ("integer_t", "long_t"):
        return captions.constant_id(mapped.attribute, str(value))
    return value


def _literal(value: int | str) -> str:
    return str(value) if isinstance(value, int) else sqltext.text(value)
