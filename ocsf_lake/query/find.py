"""Where a value stands in the lake: in any text of any table, and as a view over OCSF's observables."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta

import pyarrow as pa

from ocsf_lake.catalogs.definitions import QUARANTINE
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import ConfigError
from ocsf_mappers.ocsf.tables import PROVENANCE

VIEW = "observables"
SHOWN_CHARACTERS = 120
_JSON_MEMBERS = frozenset(["data", "raw_data"])
"""Members that hold JSON as text."""
_LEFT_OUT = frozenset(PROVENANCE.names) - {"source_object"} | {"observables"}
"""Columns that repeat what stands elsewhere."""


def observables(tables: Collection[str]) -> str:
    """A query for the observables of all events of some tables: table, path, value, type, event and time."""
    queries = [
        f"SELECT {sqltext.text(name)} AS table_name, o.name AS path, o.value AS value, o.type AS type, "
        f"event, time FROM (SELECT unnest(observables) AS o, {_event(name)} AS event, time_dt AS time "
        f"FROM {sqltext.name(name)})"
        for name in tables
    ]
    empty = "SELECT NULL::VARCHAR AS table_name, NULL::VARCHAR AS path, NULL::VARCHAR AS value, NULL::VARCHAR AS type, "
    return " UNION ALL ".join(queries or [f"{empty}NULL::VARCHAR AS event, NULL::TIMESTAMPTZ AS time WHERE false"])


FOUND = "SELECT * FROM found ORDER BY time DESC NULLS LAST, table_name, event, path"
"""What was found, latest first, see `queries`."""
EVENTS = f"SELECT count(*) FROM found WHERE table_name <> {sqltext.text(QUARANTINE)}"
"""How much of it stands in events."""


def queries(value: str, tables: Sequence[str], first: date | None = None, last: date | None = None) -> list[str]:
    """Statements that put every place where a value stands into a table `found`: table, path, text, event and time.

    One for each table, as all at once would take the memory of all at once.

    A text is a match when it is the value, in any case, an address also in its other spellings and a name also with a
    dot at its end; and JSON when it has the value, as it is, as a whole text in it.

    Args:
        value: An address, name, ARN, key, hash or the like.
        tables: Tables of events, and `quarantine`, whose raw records are looked through for the value anywhere.
        first: The first day, UTC.
        last: The last day, included.

    Raises:
        ConfigError: There is no value, or the first day comes after the last.
    """
    if not value.strip():
        raise ConfigError("there is nothing to find: name an address, a name, an ARN, a key or a hash")
    if first and last and first > last:
        raise ConfigError(f"the first day, {first}, comes after the last, {last}")
    columns = "table_name VARCHAR, path VARCHAR, value VARCHAR, event VARCHAR, time TIMESTAMPTZ"
    statements = [f"CREATE TEMP TABLE found ({columns})"]
    for name in tables:
        select = (
            _in_quarantine(value)
            if name == QUARANTINE
            else _in_table(name, registry.table(name).arrow, value, _days(first, last))
        )
        statements.append(f"INSERT INTO found {select}")
    return statements


def reads(tables: Sequence[str], first: date | None = None, last: date | None = None) -> list[str]:
    """What `queries` read, in words that tell which partitions; see `query.connect`."""
    where = _days(first, last)
    return [f"SELECT * FROM {sqltext.name(name)}{where if name != QUARANTINE else ''}" for name in tables]


def _days(first: date | None, last: date | None) -> str:
    conditions = []
    if first:
        conditions.append(f"time_dt >= TIMESTAMPTZ '{first} 00:00:00+00'")
    if last and last < date.max:
        conditions.append(f"time_dt < TIMESTAMPTZ '{last + timedelta(days=1)} 00:00:00+00'")
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def spellings(value: str) -> list[str]:
    """The texts as which a value may stand in an event, in lower case; at most three, as DuckDB joins with more."""
    word = value.lower()
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return [word, f"{word}."]
    return list(dict.fromkeys([word, address.compressed, address.exploded]))


def _in_table(name: str, columns: pa.Schema, value: str, where: str) -> str:
    words = sqltext.texts(spellings(value))
    quoted = f"to_json({sqltext.text(value)})::VARCHAR"
    hits: list[str] = []
    for column in columns:
        if column.name not in _LEFT_OUT:
            hits += _hits(sqltext.name(column.name), column.name, column.type, words, quoted, 0)
    places = f"flatten([{', '.join(hits)}])"
    inner = f"SELECT {places} AS hits, {_event(name)} AS event, time_dt AS time FROM {sqltext.name(name)}{where}"
    return (
        f"SELECT {sqltext.text(name)} AS table_name, hit.path AS path, {_around('hit.value', value)}, event, time "
        f"FROM (SELECT unnest(hits) AS hit, event, time FROM ({inner}) WHERE len(hits) > 0)"
    )


def _around(at: str, value: str) -> str:
    """A text, or of a long one what stands around the value."""
    begin = f"greatest(1, strpos({at}, {sqltext.text(value)}) - {SHOWN_CHARACTERS // 4})"
    return f"CASE WHEN length({at}) > {SHOWN_CHARACTERS} THEN substr({at}, {begin}, {SHOWN_CHARACTERS}) ELSE {at} END"


def _event(table: str) -> str:
    """What names an event for `ocsf-lake trace`: its uid, or where its record stands."""
    metadata = registry.table(table).arrow.field("metadata").type
    place = "source_object || '#' || source_record"
    return f"coalesce(metadata.uid, {place})" if metadata.get_field_index("uid") >= 0 else place


def _hits(at: str, path: str, kind: pa.DataType, words: str, quoted: str, depth: int) -> Iterator[str]:
    """Expressions for lists of `{path, value}`, one for each text or list of texts below a column."""
    if pa.types.is_string(kind):
        test = f"list_contains({words}, lower({at}))"
        if path.rpartition(".")[2] in _JSON_MEMBERS:
            test = f"({test} OR contains({at}, {quoted}))"
        yield f"CASE WHEN {test} THEN [{_hit(path, at)}] ELSE [] END"
    elif pa.types.is_struct(kind):
        for field in kind:
            inner_at, inner_path = f"{at}.{sqltext.name(field.name)}", f"{path}.{field.name}"
            yield from _hits(inner_at, inner_path, field.type, words, quoted, depth)
    elif pa.types.is_map(kind):
        item = f"x{depth}"
        test = f"list_contains({words}, lower({item}.value)) OR contains({item}.value, {quoted})"
        entries = f"list_filter(map_entries({at}), lambda {item}: {test})"
        hit = f"struct_pack(path := {sqltext.text(path + '.')} || {item}.key, value := {item}.value)"
        yield f"coalesce(list_transform({entries}, lambda {item}: {hit}), [])"
    elif pa.types.is_list(kind):
        item = f"x{depth}"
        inner = list(_hits(item, f"{path}[]", kind.value_type, words, quoted, depth + 1))
        if inner:
            each = inner[0] if len(inner) == 1 else f"flatten([{', '.join(inner)}])"
            yield f"coalesce(flatten(list_transform({at}, lambda {item}: {each})), [])"


def _hit(path: str, at: str) -> str:
    return f"struct_pack(path := {sqltext.text(path)}, value := {at})"


def _in_quarantine(value: str) -> str:
    return (
        f"SELECT {sqltext.text(QUARANTINE)} AS table_name, 'raw' AS path, " f"{_around('raw', value)}, "
        "source_object || '#' || source_record AS event, NULL::TIMESTAMPTZ AS time "
        f"FROM {QUARANTINE} WHERE contains(raw, {sqltext.text(value)})"
    )
