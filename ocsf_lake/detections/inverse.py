"""A mapper read backwards: in which column a member of its records stands.

Only rows that carry a member as it is can be read so. What an expression makes of several members, or of a part of one,
is a row by hand in `ocsf_lake.detections.logs`, or stands in `unmapped`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import pyarrow as pa

from ocsf_lake.detections import places
from ocsf_lake.detections.places import Column, Field, Kind, Place, Unmapped
from ocsf_mappers import Mapper
from ocsf_mappers.vocabulary import texts, values
from ocsf_mappers.vocabulary.record import CARRIER, OBJECT_KEY
from ocsf_mappers.vocabulary.word import Word

_NOT_OF_RECORDS = (OBJECT_KEY, CARRIER, values.ELEMENT, values.OUTER)


@cache
def fields(mapper: Mapper) -> Mapping[str, Field]:
    """Member -> where it stands, of those that some row carries as they are."""
    schema = mapper.lake_table.arrow
    by_member: dict[str, Field] = {}
    for path in _paths(mapper):
        words = {events.words[path] for events in mapper.events if path in events.words}
        if len(words) != 1 or (kind := kind_of(schema, path)) is None:
            continue  # a value there may be another member's
        (word,) = words
        for member in _carried(word):
            time = isinstance(word, texts.Iso8601)
            if time and path != "time":
                continue  # it is a column of timestamps
            column: Place = Column(places.column(path), Kind.TIME if time else kind)
            # `unmapped` has what is no value of the attribute, and what the OCSF version has no attribute for.
            by_member.setdefault(member, Field((column, Unmapped(member))))
    return by_member


def kind_of(schema: pa.Schema, path: str) -> Kind | None:
    """What a column holds; None where there is no such column, or it is a list or a structure."""
    first, *steps = path.split(".")
    if first not in schema.names:
        return None
    kind = schema.field(first).type
    for step in steps:
        if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
            return None
        kind = kind.field(step).type
    if pa.types.is_boolean(kind):
        return Kind.BOOLEAN
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return Kind.NUMBER
    return Kind.TEXT if pa.types.is_string(kind) else None


def members(mapper: Mapper) -> Iterator[tuple[str, bool]]:
    """Every member that a mapper declares, with dots, and whether it is JSON of any shape."""
    yield from _members(mapper.record, "")


def _members(kind: pa.DataType, before: str) -> Iterator[tuple[str, bool]]:
    for field in kind:
        if pa.types.is_struct(field.type):
            yield from _members(field.type, f"{before}{field.name}.")
        else:
            yield f"{before}{field.name}", field.type != pa.string()


def _paths(mapper: Mapper) -> list[str]:
    return list(dict.fromkeys(path for events in mapper.events for path in events.words))


def paths_of(mapper: Mapper, member: str) -> list[str] | None:
    """OCSF paths that carry a member's value, maybe among others'; None where records have no such member.

    Args:
        mapper: The source's.
        member: Its name, in any case; one that has members stands for none of them.
    """
    asked = member.lower()
    if not any(name.lower() == asked or name.lower().startswith(f"{asked}.") for name, _ in members(mapper)):
        return None
    words = [(path, word) for events in mapper.events for path, word in events.words.items()]
    paths = [path for path, word in words if asked in (name.lower() for name in _carried(word, later=True))]
    return list(dict.fromkeys(paths))


def _carried(word: Word, *, later: bool = False) -> Iterator[str]:
    """The members whose value is this word's, where it has one.

    Args:
        word: The word.
        later: Of several the first of which counts, the later ones too.
    """
    if isinstance(word, values.Column):
        if word.path[0] not in _NOT_OF_RECORDS:
            yield ".".join(word.path)
    elif isinstance(word, values.Case) and len(word.branches) == 1 and word.otherwise is None:
        yield from _carried(word.branches[0][1], later=later)
    elif isinstance(word, values.Coalesce):
        # Of several it is the first that is there; a later one may as well be another member's.
        for item in word.items if later else word.items[:1]:
            yield from _carried(item, later=later)
    elif isinstance(word, texts.Iso8601):
        yield from _carried(word.inner, later=later)
