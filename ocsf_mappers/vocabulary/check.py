"""What is checked when a mapper is imported: every path, caption, column and table it names, with the nearest match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from ocsf_mappers.errors import MappingError, OcsfMappersError, nearest
from ocsf_mappers.ocsf import schema, tables
from ocsf_mappers.vocabulary.expr import Expr, as_condition, as_word
from ocsf_mappers.vocabulary.lists import Each, EachOf, Every, element_fields, parts
from ocsf_mappers.vocabulary.table import column_type, find, is_own, leaves
from ocsf_mappers.vocabulary.texts import Epoch, Iso8601
from ocsf_mappers.vocabulary.values import OUTER, Case, Coalesce, Column, ListOf, Literal, Sql, Text, columns
from ocsf_mappers.vocabulary.word import Word

if TYPE_CHECKING:
    from ocsf_mappers.vocabulary.mapper import EventMap, Mapper

NEEDED = ("activity_id", "severity_id", "time")
"""What every event map says for itself; the rest that OCSF requires of all classes is derived."""


_checking: ContextVar[bool] = ContextVar("checking", default=True)


@contextmanager
def unchecked() -> Iterator[None]:
    """Mappers that are made meanwhile are checked by who uses them: to check one takes longer than to make it."""
    before = _checking.set(False)
    try:
        yield
    finally:
        _checking.reset(before)


def check_new(mapper: Mapper) -> None:
    """`check` a mapper that is being made, unless that is put off."""
    if _checking.get():
        check(mapper)


def check(mapper: Mapper) -> None:
    """Refuse a mapper that could not work.

    Raises:
        MappingError: Names the source and everything that is wrong: each path with the nearest match.
    """
    try:
        # Columns are found with the paths, which have to be right before.
        problems = _problems(_checks(mapper)) or _problems(_table_checks(mapper))
    except OcsfMappersError as error:  # some row is no expression at all
        raise MappingError(str(error), source=mapper.name) from error
    if problems:
        all_of_them = MappingError("; ".join(problems), source=mapper.name)
        all_of_them.problems = tuple(problems)
        raise all_of_them


def _problems(checks: Iterable[tuple[str, Callable[[], None]]]) -> list[str]:
    problems = []
    for path, part in checks:
        try:
            part()
        except OcsfMappersError as error:
            message = str(error)
            problems.append(message if message.startswith(path) else f"{path}: {message}")
    return list(dict.fromkeys(problems))


def _checks(mapper: Mapper) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each part that may be wrong for itself, with the row that it is about."""
    yield "", partial(_check_events, mapper)
    yield "", mapper.shape.check_names
    for event in mapper.events:
        yield "", partial(_check_needed, event)
        if event.where is not None:
            yield "where", partial(_check_condition, mapper, event.where)
        for path, word in event.words.items():
            yield path, partial(_check_columns, mapper, word)
            for below, value in (("", word), *((f".{inner}", value) for inner, value in element_fields(word))):
                yield path, partial(_check_row, mapper, event, path + below, value)
    yield "table", partial(_check_columns, mapper, mapper.table_word)
    yield "observables", partial(_check_observables, mapper)
    for name, paths in (("drop", mapper.drop), ("known_values", mapper.known_values)):
        for path in paths:
            yield name, partial(mapper.shape.check, tuple(path.split(".")))


def _table_checks(mapper: Mapper) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "", partial(_check_tables, mapper)
    yield "", partial(_check_key, mapper)


def _check_events(mapper: Mapper) -> None:
    *firsts, last = mapper.events
    if last.where is not None or any(event.where is None for event in firsts):
        raise MappingError("every event map but the last needs a `where`, and the last has none")


def _check_needed(event: EventMap) -> None:
    if absent := [name for name in NEEDED if name not in event.fields]:
        verb = "is" if len(absent) == 1 else "are"
        raise MappingError(f"{event.event_class}: {', '.join(absent)} {verb} not mapped")


def _check_condition(mapper: Mapper, condition: Expr) -> None:
    as_condition(condition)
    _check_columns(mapper, condition)


def _check_row(mapper: Mapper, event: EventMap, path: str, value: Word) -> None:
    attribute, base = _resolve(event, path)
    _check_shape(path, attribute, base, value)
    if not parts(value):
        _check_captions(path, attribute, value)
    _check_outer(mapper, value)


def _check_observables(mapper: Mapper) -> None:
    captions = set(schema.load().observable_captions.values())
    for path, given in mapper.observables.items():
        for caption in [given] if isinstance(given, str) else given:
            if caption not in captions:
                raise MappingError(f"{path}: no observable type {caption!r}{nearest(caption, captions)}")


def _resolve(event: EventMap, path: str) -> tuple[schema.Attribute, str]:
    """The attribute and its scalar base ("" for an object with members), in the first shipped version that has it.

    What a version lacks is left out of its events.
    """
    facts, attribute = find(event, path)
    if attribute.object is None:
        return attribute, facts.scalar(attribute).base
    return attribute, "" if facts.members(attribute) else "json_t"


def lacking(mapper: Mapper, version: str) -> list[tuple[str, str]]:
    """Class and path of what the mapper maps and this OCSF version does not have."""
    mapped = [
        (event, name)
        for event in mapper.events
        for path, word in event.words.items()
        for name in (path, *(f"{path}.{inner}" for inner, _ in element_fields(word)))
    ]
    facts = schema.load(version)
    missing = [
        (event.event_class, name)
        for event, name in mapped
        if facts.find(event.event_class, name, event.all_profiles) is None
    ]
    return list(dict.fromkeys(missing))


def _check_columns(mapper: Mapper, given: object) -> None:
    for column in columns(as_word(given)):
        mapper.shape.check(column.path)


def _check_shape(path: str, attribute: schema.Attribute, base: str, word: Word) -> None:
    """Refuse a list where one value is wanted, one value for a list or an object, and text for a time."""
    made = parts(word)
    if made and not attribute.is_array:
        raise MappingError(f"{path}: each() makes a list of objects, and this is no list")
    if not made and not base:
        expected = "a list of objects: make it by each()" if attribute.is_array else "an object: map what is in it"
        raise MappingError(f"{path} is {expected}")
    sources = [part.inner.inner if isinstance(part.inner, Every) else part.inner for part in made] or [word]
    words = [inner for source in sources for inner in source.every()]
    if any(isinstance(inner, Each | Every) for inner in words):
        raise MappingError(f"{path}: each() stands alone or in a list of others, and every() before it")
    if any(item.is_list for inner in words if isinstance(inner, ListOf | Text) for item in inner.items):
        raise MappingError(f"{path}: a list cannot stand in a list or a text")
    if any(len({item.is_list for item in inner.given}) > 1 for inner in words if isinstance(inner, Case | Coalesce)):
        raise MappingError(f"{path}: one of several values is a list, another is not")
    if made:
        return
    if word.is_list and not attribute.is_array:
        raise MappingError(f"{path}: a list is given where one value is wanted")
    if isinstance(word, Literal) and attribute.is_array:
        raise MappingError(f"{path}: one value is given where a list is wanted")
    if base in ("timestamp_t", "datetime_t") and not any(isinstance(inner, Epoch | Iso8601 | Sql) for inner in words):
        raise MappingError(f"{path}: give a time, by iso8601(), epoch_seconds(), epoch_millis() or epoch_micros()")
    if word.default is not None and base != "string_t" and attribute.enum is None:
        raise MappingError(f"{path}: first() has a text for default, and this is none")


def _check_outer(mapper: Mapper, word: Word) -> None:
    """The record's columns that are named inside a list."""
    for part in word.every():
        if isinstance(part, Column) and part.path[0] == OUTER:
            mapper.shape.check(part.path[1:])
        for inner in (part.where, part.text) if isinstance(part, EachOf) else ():
            if inner is not None:
                _check_outer(mapper, inner)


def _check_captions(path: str, attribute: schema.Attribute, word: Word) -> None:
    if attribute.enum is None or attribute.type == "string_t":
        return
    captions = set(attribute.enum.values())
    for text in word.results():
        if not isinstance(text, str):
            raise MappingError(f"{path}: give the caption, not the number {text}")
        if text not in captions:
            raise MappingError(f"{path}: no caption {text!r}{nearest(text, captions)}")


def _check_tables(mapper: Mapper) -> None:
    shared = tables.shared()
    for name in mapper.tables:
        if name not in shared and not is_own(name, mapper):
            hint = nearest(name, shared) or f"; a table of its own is called {mapper.name!r}, or begins so"
            raise MappingError(f"the lake has no table {name!r}{hint}")
    first, *others = mapper.tables.values()
    if any(table.arrow != first.arrow for table in others):
        raise MappingError(f"the tables {', '.join(mapper.tables)} of one source have to have the same columns")
    filled = (name for event in mapper.events for name in leaves(event))
    absent = [name for name in dict.fromkeys(filled) if not any(column_type(first, at) for at in (name, f"{name}_dt"))]
    if absent:
        raise MappingError(f"table {first.name} has no such column; add in schemas/tables.json: {', '.join(absent)}")


def _check_key(mapper: Mapper) -> None:
    for path in mapper.duplicate_key:
        if column_type(mapper.lake_table, path) is None:
            raise MappingError(f"duplicate_key: the table has no column {path!r}")
