"""What is checked when a mapper is imported: every path, caption, column and table it names, with the nearest match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from ocsf_mappers.errors import MappingError, OcsfMappersError, nearest
from ocsf_mappers.ocsf import schema, shipped, tables
from ocsf_mappers.vocabulary.expr import as_condition, as_word
from ocsf_mappers.vocabulary.lists import Each, EachOf, Every, element_fields, parts
from ocsf_mappers.vocabulary.texts import Epoch, Iso8601
from ocsf_mappers.vocabulary.values import OUTER, Case, Coalesce, Column, ListOf, Literal, Sql, Text, columns
from ocsf_mappers.vocabulary.word import Word

if TYPE_CHECKING:
    from ocsf_mappers.vocabulary.mapper import EventMap, Mapper

NEEDED = ("activity_id", "severity_id", "time")
"""What every event map says for itself; the rest that OCSF requires of all classes is derived."""


def check(mapper: Mapper) -> None:
    """Refuse a mapper that could not work.

    Raises:
        MappingError: Names the source, the path and the nearest match.
    """
    try:
        _check_events(mapper)
        _check_tables(mapper)
        _check_observables(mapper)
        _check_key(mapper)
        for path in (*mapper.drop, *mapper.listed):
            mapper.shape.check(tuple(path.split(".")))
    except OcsfMappersError as error:
        raise MappingError(str(error), source=mapper.name) from error


def _check_events(mapper: Mapper) -> None:
    *firsts, last = mapper.events
    if last.where is not None or any(event.where is None for event in firsts):
        raise MappingError("every event map but the last needs a `where`, and the last has none")
    for event in mapper.events:
        for name in NEEDED:
            if name not in event.fields:
                raise MappingError(f"{event.event_class}: {name} is not mapped")
        if event.where is not None:
            as_condition(event.where)
            _check_columns(mapper, event.where)
        for path, word in event.words.items():
            _check_columns(mapper, word)
            for below, value in (("", word), *((f".{inner}", value) for inner, value in element_fields(word))):
                attribute, base = _resolve(event, path + below)
                _check_shape(path + below, attribute, base, value)
                if not parts(value):
                    _check_captions(path + below, attribute, value)
                _check_outer(mapper, value)


def _check_observables(mapper: Mapper) -> None:
    known = set(schema.load().observable_captions.values())
    for path, given in mapper.observables.items():
        for caption in [given] if isinstance(given, str) else given:
            if caption not in known:
                raise MappingError(f"{path}: no observable type {caption!r}{nearest(caption, known)}")


def _resolve(event: EventMap, path: str) -> tuple[schema.Attribute, str]:
    """The attribute and its scalar base ("" for an object with members), in the first shipped version that has it.

    What a version lacks is left out of its events.
    """
    event_class, profiles = event.event_class, event.all_profiles
    versions = shipped.versions()  # loaded as they are needed: nearly all is in the first
    having = (facts for facts in map(schema.load, versions) if facts.find(event_class, path, profiles))
    facts = next(having, None) or schema.load(versions[0])
    attribute = facts.resolve(event_class, path, profiles)[-1]
    if attribute.object is None:
        return attribute, facts.scalar(attribute).base
    return attribute, "" if facts.members(attribute) else "json_t"


def lacking(mapper: Mapper, version: str) -> list[tuple[str, str]]:
    """Class and path of what the mapper maps and this OCSF version does not have."""
    found = [
        (event, name)
        for event in mapper.events
        for path, word in event.words.items()
        for name in (path, *(f"{path}.{inner}" for inner, _ in element_fields(word)))
    ]
    facts = schema.load(version)
    missing = [
        (event.event_class, name)
        for event, name in found
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
        wanted = "a list of objects: make it by each()" if attribute.is_array else "an object: map what is in it"
        raise MappingError(f"{path} is {wanted}")
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
        raise MappingError(f"{path}: give a time, by iso8601(), epoch_seconds() or epoch_millis()")
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


def table_names(mapper: Mapper) -> list[str]:
    """The lake tables that the mapper's records can go to."""
    return [str(text) for text in dict.fromkeys(as_word(mapper.table).results())]


def _check_tables(mapper: Mapper) -> None:
    found = [tables.get(name) for name in table_names(mapper)]
    _check_columns(mapper, mapper.table)
    if not found or any(table.arrow != found[0].arrow for table in found):
        raise MappingError("the tables of one source must exist and have the same columns")
    for event in mapper.events:
        for path, word in event.words.items():
            inner = [f"{path}.{name}" for name, value in element_fields(word) if not parts(value)]
            for leaf in inner or [path]:
                if column_type(found[0], leaf) is None and column_type(found[0], f"{leaf}_dt") is None:
                    raise MappingError(
                        f"{leaf}: table {found[0].name} has no such column; add it in schemas/tables.json"
                    )


def _check_key(mapper: Mapper) -> None:
    for path in mapper.duplicate_key:
        if column_type(tables.get(table_names(mapper)[0]), path) is None:
            raise MappingError(f"duplicate_key: the table has no column {path!r}")


def column_type(table: tables.Table, path: str) -> pa.DataType | None:
    """The table's type at an OCSF path (lists entered), None where the table has no such column."""
    kind: pa.DataType = pa.struct(list(table.arrow))
    for step in path.split("."):
        kind = kind.value_type if pa.types.is_list(kind) else kind
        index = kind.get_field_index(step) if pa.types.is_struct(kind) else -1
        if index < 0:
            return None
        kind = kind.field(index).type
    return kind
