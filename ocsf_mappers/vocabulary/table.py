"""The tables that a mapper's events go to: shared ones of the lake, or its own with the columns that it fills."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from ocsf_mappers.ocsf import schema, shipped, tables
from ocsf_mappers.vocabulary.expr import as_word
from ocsf_mappers.vocabulary.lists import element_fields, parts

if TYPE_CHECKING:
    from ocsf_mappers.vocabulary.mapper import EventMap, Mapper


def is_own(name: str, mapper: Mapper) -> bool:
    """Whether a table may be the source's own: it is called as the source, with or without its vendor, or begins so."""
    names = (mapper.name, mapper.name.partition("_")[2] or mapper.name)
    return any(name == own or name.startswith(f"{own}_") for own in names)


def of_mapper(mapper: Mapper) -> dict[str, tables.Table]:
    """The lake tables that the mapper's records can go to, by name; their columns are found when they are needed."""
    return {
        name: tables.shared().get(name)
        or tables.Table(
            name,
            f"{tables.OWN}{name}/1.0",
            partial(_own_columns, mapper),
            latest=mapper.latest,
            sorted_by=tuple(mapper.sorted_by),
        )
        for name in map(str, dict.fromkeys(as_word(mapper.table_word).results()))
    }


def _own_columns(mapper: Mapper) -> pa.Schema:
    classes = dict.fromkeys(event.event_class for event in mapper.events)
    return tables.own_columns(classes, dict.fromkeys(name for event in mapper.events for name in filled(event)))


def filled(event: EventMap) -> Iterator[str]:
    """OCSF paths of what an event map fills, each followed by what the machinery makes of it.

    Captions have their sibling beside them, and times are kept as timestamps.
    """
    for path in leaves(event):
        yield from _columns_of(event, path)
    if {"start_time", "end_time"} <= event.words.keys():
        yield "duration"


def leaves(event: EventMap) -> Iterator[str]:
    """OCSF paths of the values that an event map fills, those of lists of objects included."""
    for path, word in event.words.items():
        inner = [f"{path}.{name}" for name, value in element_fields(word) if not parts(value)]
        yield from inner or [path]


def _columns_of(event: EventMap, path: str) -> Iterator[str]:
    facts, attribute = find(event, path)
    head = path.removesuffix(attribute.name)
    as_timestamp = f"{head}{attribute.name}_dt"
    if attribute.type == "timestamp_t" and facts.find(event.event_class, as_timestamp, event.all_profiles):
        yield as_timestamp
        return
    yield path
    if attribute.sibling is not None:
        yield head + attribute.sibling


def find(event: EventMap, path: str) -> tuple[schema.Schema, schema.Attribute]:
    """The first shipped OCSF version that has a path, and the attribute there.

    Raises:
        MappingError: None has it; names the nearest.
    """
    event_class, profiles = event.event_class, event.all_profiles
    versions = shipped.versions()  # loaded as they are needed: nearly all is in the first
    having = (facts for facts in map(schema.load, versions) if event_class in facts.classes)
    for facts in having:
        if chain := facts.find(event_class, path, profiles):
            return facts, chain[-1]
    closest = next((facts for facts in map(schema.load, versions) if event_class in facts.classes), None)
    (closest or schema.load(versions[0])).resolve(event_class, path, profiles)
    raise AssertionError(path)  # resolve has raised


def column_type(table: tables.Table, path: str) -> pa.DataType | None:
    """The table's type at an OCSF path (lists entered), None where the table has no such column."""
    kind: pa.DataType = table.struct
    for step in path.split("."):
        kind = kind.value_type if pa.types.is_list(kind) else kind
        index = kind.get_field_index(step) if pa.types.is_struct(kind) else -1
        if index < 0:
            return None
        kind = kind.field(index).type
    return kind
