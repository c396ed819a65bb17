"""Two mappers, or two OCSF versions, on the same records: what differs, column by column. No lake is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa

from ocsf_lake.config import Settings
from ocsf_lake.inputs import discovery, listing
from ocsf_lake.inputs.listing import Calls
from ocsf_lake.storage import objects
from ocsf_mappers import Engine, RawObject, duck, sqltext
from ocsf_mappers.errors import ReadError
from ocsf_mappers.ocsf.tables import PROVENANCE
from ocsf_mappers.readers import Chunk, of_object
from ocsf_mappers.readers.streams import Blocks

EXAMPLES = 3
CHARACTERS = 200
"""Of an example's value, so many."""
LEFT_OUT = frozenset({*PROVENANCE.names, "metadata.version"})
"""Columns that say which mapper it was, not what it made."""


@dataclass(frozen=True)
class Example:
    """One record where two events differ: its object and number, and both values as text, None for none."""

    object: str
    record: int
    before: str | None
    after: str | None


@dataclass
class Change:
    """What became of one column.

    Args:
        path: Of the column, dotted; `quarantine` for records that are an event on one side alone.
        added: Records that have a value now and had none.
        removed: Records that had one and have none.
        changed: Records with another value.
        examples: A few.
    """

    path: str
    added: int = 0
    removed: int = 0
    changed: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass
class Difference:
    """What differs.

    Args:
        records: Records that were mapped twice.
        objects: Objects that they stood in.
        unread: Object -> why it was not compared.
        changes: By column, in the order of the table's columns.
    """

    records: int = 0
    objects: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)


def compare(
    before: Engine, after: Engine, uris: Iterable[str], settings: Settings, limit: int | None = None
) -> Difference:
    """Maps the records of some objects by both engines.

    Args:
        before: What was.
        after: What is.
        uris: Folders, globs and files.
        settings: How they are reached, and limits.
        limit: Objects that are looked at, at most.

    Raises:
        ConfigError: A URI stands for nothing.
    """
    difference = Difference()
    waiting: list[tuple[RawObject, Chunk]] = []

    def map_waiting() -> None:
        if waiting:
            _add(difference, before.map(waiting).events, after.map(waiting).events)
            waiting.clear()

    for uri in uris:
        for ref in (ref for page in listing.pages(uri, Calls(), settings.input_access) for ref in page):
            if limit is not None and difference.objects >= limit:
                break
            try:
                with objects.opened(ref, settings.input_access) as file:
                    _check_source(after.mapper.name, ref.uri, file, settings)
                    file.seek(0)
                    for chunk in _chunks(after, Blocks(file, settings.limits), ref.uri):
                        difference.records += chunk.read
                        waiting.append((discovery.raw_object(ref.uri), chunk))
                        if sum(len(chunk.records) for _, chunk in waiting) >= settings.part_rows:
                            map_waiting()
                difference.objects += 1
            except (ReadError, OSError) as error:
                difference.unread[ref.uri] = str(error)
    map_waiting()
    return difference


def _check_source(name: str, uri: str, file: BinaryIO, settings: Settings) -> None:
    """Refuses an object that its key or its content identifies as another source's."""
    source = discovery.of_key(uri).source or discovery.sniffed(uri, file, settings.limits).source
    if source is not None and source != name:
        raise ReadError(f"it is a log of {source}", object=uri)


def _chunks(engine: Engine, blocks: Blocks, uri: str) -> Iterator[Chunk]:
    if reason := discovery.without_records(blocks.head):
        raise ReadError(reason, object=uri)
    reader = next((reader for reader in engine.mapper.readers if reader.accepts(blocks.head)), None)
    if reader is None:
        raise ReadError(f"it is in none of the formats of {engine.mapper.name}", object=uri)
    yield from of_object(reader, uri).read(blocks)


# -- two tables of events ---------------------------------------------------------------------------------------------
def between(before: pa.Table, after: pa.Table) -> Difference:
    """What differs between events that two mappers made of the same records of the same objects.

    Args:
        before: Events with the columns that say where they came from; others may be missing on either side.
        after: The same. Values of examples are whole.
    """
    difference = Difference(len(before))
    _add(difference, before, after, None)
    return difference


def _add(difference: Difference, before: pa.Table, after: pa.Table, characters: int | None = CHARACTERS) -> None:
    old, new = _plain(before), _plain(after)
    old_leaves, new_leaves = dict(_leaves(old.schema)), dict(_leaves(new.schema))
    paths = {**old_leaves, **new_leaves}
    sides = {path: (_sql("old", path, old_leaves), _sql("new", path, new_leaves)) for path in paths}
    # An event on both sides, or `quarantine` is what differs.
    both = "(old.class_uid IS NOT NULL AND new.class_uid IS NOT NULL)"
    pairs = {
        "quarantine": ("if(old.class_uid IS NULL, NULL, 'an event')", "if(new.class_uid IS NULL, NULL, 'an event')"),
        **{path: (f"if({both}, {a}, NULL)", f"if({both}, {b}, NULL)") for path, (a, b) in sides.items()},
    }
    values = ", ".join(f"{a} AS a{number}, {b} AS b{number}" for number, (a, b) in enumerate(pairs.values()))
    counts = ", ".join(
        f"count(*) FILTER (a{number} IS NULL AND b{number} IS NOT NULL), "
        f"count(*) FILTER (a{number} IS NOT NULL AND b{number} IS NULL), count(*) FILTER (a{number} <> b{number})"
        for number in range(len(pairs))
    )
    with duck.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("old", old)
        connection.register("new", new)
        connection.execute(
            f"CREATE TEMP TABLE joined AS SELECT source_object AS o, source_record AS n, {values}"
            " FROM old FULL JOIN new USING (source_object, source_record)"
        )
        totals = connection.sql(f"SELECT {counts} FROM joined").fetchall()[0]
        for number, path in enumerate(pairs):
            added, removed, changed = totals[3 * number : 3 * number + 3]
            if not added + removed + changed:
                continue
            change = difference.changes.setdefault(path, Change(path))
            change.added += added
            change.removed += removed
            change.changed += changed
            rows = connection.sql(
                f"SELECT o, n, a{number}, b{number} FROM joined WHERE a{number} IS DISTINCT FROM b{number}"
                f" ORDER BY o, n LIMIT {EXAMPLES - len(change.examples)}"
            ).fetchall()
            change.examples += [
                Example(name, record, _cut(was, characters), _cut(now, characters)) for name, record, was, now in rows
            ]


def _cut(text: str | None, characters: int | None) -> str | None:
    return text if text is None or characters is None or len(text) <= characters else f"{text[:characters]}..."


def _plain(events: pa.Table) -> pa.Table:
    """Without dictionary encoding, which two tables need not have in common."""
    columns = {}
    for name in events.column_names:
        column = events[name]
        columns[name] = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    return pa.table(columns)


def _leaves(columns: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Path and type of the columns, structs entered; a list and a map are one value."""

    def enter(fields: Iterable[pa.Field], before: str) -> Iterator[tuple[str, pa.DataType]]:
        for item in fields:
            path = f"{before}{item.name}"
            if path in LEFT_OUT:
                continue
            if pa.types.is_struct(item.type):
                yield from enter(item.type, f"{path}.")
            else:
                yield path, item.type

    yield from enter(columns, "")


def _sql(side: str, path: str, columns: dict[str, pa.DataType]) -> str:
    """A column of one side as text, null where the side has none."""
    if path not in columns:
        return "NULL::VARCHAR"
    at = f"{side}.{'.'.join(sqltext.name(step) for step in path.split('.'))}"
    return f"to_json({at})::VARCHAR" if pa.types.is_nested(columns[path]) else f"{at}::VARCHAR"
