"""The paths of a table: what OCSF calls them, and how many rows have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from ocsf_lake.catalogs.definitions import definition
from ocsf_lake.lake import Lake
from ocsf_lake.ledger.files import Chosen, LakeFile
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf import schema
from ocsf_mappers.ocsf.tables import hive_type

_OURS = {
    "time_dt": "Event Time, UTC",
    "eventday": "Day of the event, UTC, as YYYYMMDD: a partition",
    "region": "Region of the event: a partition",
    "accountid": "Account of the event: a partition",
    "asl_version": "Version of Security Lake's columns",
    "source_object": "Object that the record stands in",
    "source_etag": "ETag of that object",
    "source_record": "Number of the record in it, from 1",
    "mapper_version": "Mapping that made the event",
    "unmapped": "What the mapping has no place for: map of dotted keys to text",
}
SHARE_ROWS, SHARE_FILES = 100_000, 200
"""So many rows, or files, are read to say what share of them has a value."""
ROWS = "SELECT coalesce(sum(rows), 0)::BIGINT FROM ledger_files WHERE table_name = $table"


@dataclass(frozen=True)
class Path:
    """One path of a table.

    Args:
        path: Dotted; `[]` behind a list.
        type: Its type, as Athena spells it.
        description: OCSF's captions of its steps; "" where OCSF has none.
        values: Captions that it may have; none where it is open.
    """

    path: str
    type: str
    description: str = ""
    values: tuple[str, ...] = ()


def of(table: str, version: str) -> list[Path]:
    """Every path of a table of events that holds a value.

    Args:
        table: Its name.
        version: OCSF version whose captions are taken.
    """
    registered = registry.table(table)
    ocsf = schema.load(version)
    classes: list[schema.ObjectType] = [ocsf.event_class(name) for name in _classes(table)]
    keys = [pa.field(key, pa.string()) for key in definition(table).keys if key not in registered.arrow.names]
    columns = [*registered.arrow, *keys]
    return [path for column in columns for path in _below(ocsf, classes, column.name, column.type, column.name, ())]


@cache
def ids(table: str, version: str) -> Mapping[str, tuple[str | None, Mapping[str, tuple[str, ...]]]]:
    """Path, in lower case, of each attribute of a table with ids -> path of the caption beside it, captions by id.

    An id may have several: that of an activity is another one in each class.

    Args:
        table: Its name.
        version: OCSF version whose captions are taken.
    """
    ocsf = schema.load(version)
    captions_by_path: dict[str, tuple[str | None, Mapping[str, tuple[str, ...]]]] = {}

    def look(holders: Sequence[schema.ObjectType], fields: Iterable[pa.Field], before: str) -> None:
        for field in fields:
            attributes = [holder.attributes[field.name] for holder in holders if field.name in holder.attributes]
            captions: dict[str, tuple[str, ...]] = {}
            for key, text in (item for attribute in attributes for item in (attribute.enum or {}).items()):
                captions[key] = tuple(dict.fromkeys([*captions.get(key, ()), text]))
            if captions:
                sibling = next((attribute.sibling for attribute in attributes if attribute.sibling), None)
                beside = f"{before}{sibling}".lower() if sibling else None
                captions_by_path[f"{before}{field.name}".lower()] = beside, captions
            inner = field.type
            while pa.types.is_list(inner):
                inner = inner.value_type
            if pa.types.is_struct(inner):
                members = [of for attribute in attributes if (of := ocsf.members(attribute)) is not None]
                look(members, list(inner), f"{before}{field.name}.")

    look([ocsf.event_class(name) for name in _classes(table)], list(registry.table(table).arrow), "")
    return captions_by_path


def matching(table: str, paths: Sequence[Path], like: str | None) -> list[Path]:
    """The paths that have a text in their name or captions, in any case.

    Raises:
        ConfigError: None has.
    """
    word = (like or "").lower()
    chosen = [path for path in paths if word in path.path.lower() or word in path.description.lower()]
    if not chosen:
        raise ConfigError(f"{table} has no column with {like!r} in its path or description")
    return chosen


def newest(lake: Lake, tables: Mapping[str, Chosen | None]) -> dict[str, list[LakeFile]]:
    """The files of tables that shares are taken of: a table may be terabytes, and what its events have is in a few."""
    return lake.files.newest(tables, SHARE_ROWS, SHARE_FILES)


def filled(table: str, paths: Sequence[Path]) -> str:
    """A query for the number of rows of a table, and of those that have a value at each path."""
    counts = [f"count_if({_has(path.path)})" for path in paths]
    return f"SELECT {', '.join(['count(*)', *counts])} FROM {sqltext.name(table)}"


def _has(path: str) -> str:
    """A condition that there is a value at a path; in lists, that one of the items has it."""
    outer, mark, inner = path.partition("[]")
    at = ".".join(sqltext.name(step) for step in outer.split("."))
    if not mark:
        return f"{at} IS NOT NULL"
    if not inner:
        return f"len({at}) > 0"
    return f"len(list_filter({at}, lambda x: {_has_item('x', inner.removeprefix('.'))})) > 0"


def _has_item(item: str, path: str) -> str:
    outer, mark, inner = path.partition("[]")
    at = ".".join([item, *(sqltext.name(step) for step in outer.split(".") if step)])
    if not mark:
        return f"{at} IS NOT NULL"
    deeper = f"{item}x"
    test = _has_item(deeper, inner.removeprefix(".")) if inner else f"{deeper} IS NOT NULL"
    return f"len(list_filter({at}, lambda {deeper}: {test})) > 0"


def _classes(table: str) -> list[str]:
    """OCSF classes of the events in a table."""
    return list(
        dict.fromkeys(
            event.event_class
            for mapper in registry.usable()[0].values()
            if table in mapper.tables
            for event in mapper.events
        )
    )


def _below(
    ocsf: schema.Schema, holders: Sequence[schema.ObjectType], name: str, kind: pa.DataType, path: str,
    captions: tuple[str, ...],
) -> Iterator[Path]:  # fmt: skip
    attributes = [holder.attributes[name] for holder in holders if name in holder.attributes]
    caption = next((attribute.caption for attribute in attributes if attribute.caption), "")
    steps = (*captions, caption) if caption else captions
    inner = kind
    while pa.types.is_list(inner):
        inner, path = inner.value_type, f"{path}[]"
    if pa.types.is_struct(inner):
        members = [object_type for attribute in attributes if (object_type := ocsf.members(attribute)) is not None]
        for field in inner:
            yield from _below(ocsf, members, field.name, field.type, f"{path}.{field.name}", steps)
        return
    description = _OURS.get(path) or (" > ".join(steps) if caption else "")
    values = {text: None for attribute in attributes for text in (attribute.enum or {}).values()}
    yield Path(path, hive_type(kind), description, tuple(values))
