"""The rows of a query as text that DuckDB makes: JSON and CSV without a loop over rows in Python.

The text is that of `ocsf_lake.text`: times as ISO 8601, numbers that JSON does not have as null, an apostrophe before
what a spreadsheet would take for a formula. DuckDB's own `to_json` and `COPY` write NaN bare, other times, and a
structure in CSV as no JSON; put together member by member a row also takes less memory than as one document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from ocsf_lake import text as texts
from ocsf_mappers import sqltext

BATCH_ROWS = 500
"""Rows that are made into text at once."""

_AS_THEY_ARE = frozenset(
    [
        "boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger",
        "ubigint", "uhugeint",
    ]
)  # fmt: skip
_TEXTS = frozenset(["varchar", "enum", "uuid"])
_NESTED = frozenset(["list", "map", "struct"])
_NUMBER = sqltext.text(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


class UnsupportedError(Exception):
    """A type whose text has to be made in Python."""


def json_query(sql: str, names: Sequence[str], types: Sequence[DuckDBPyType], before: str = "", after: str = "") -> str:
    """A query for the rows of another as JSON objects, one column of text.

    Args:
        sql: The other query, without a semicolon.
        names: Its columns; of a repeated name too each is another.
        types: Their types.
        before: What stands before each object.
        after: What stands behind it.

    Raises:
        UnsupportedError: A type whose text has to be made in Python.
    """
    columns = zip(texts.unique(names), types, strict=True)
    row = _object([(name, _json(f"c{number}", kind)) for number, (name, kind) in enumerate(columns)], before, after)
    return f"SELECT {row} {_from(sql, names)}"


def csv_query(sql: str, names: Sequence[str], types: Sequence[DuckDBPyType], *, on_terminal: bool) -> str:
    """A query for the rows of another as lines of CSV, one column of text.

    Args:
        sql: The other query, without a semicolon.
        names: Its columns.
        types: Their types.
        on_terminal: Whether ends of lines and tabs within values are spelled out too.

    Raises:
        UnsupportedError: A type whose text has to be made in Python.
    """
    cells = [_cell(f"c{number}", kind, on_terminal) for number, kind in enumerate(types)]
    inner = ", ".join(f"coalesce({cell}, '') AS t{number}" for number, cell in enumerate(cells))
    quoted = [_quoted(f"t{number}", kind) for number, kind in enumerate(types)]
    if len(quoted) == 1:
        quoted = [f"CASE WHEN t0 = '' THEN '\"\"' ELSE {quoted[0]} END"]
    line = ", ',', ".join(quoted)
    return f"SELECT concat({line}, chr(10)) FROM (SELECT {inner} {_from(sql, names)})"


def chunks(batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    """The text of all rows of each batch, as the queries of this module give them."""
    for batch in batches:
        column = batch.column(0)
        if len(column):
            _, offsets, data = column.buffers()
            places = memoryview(offsets).cast("q" if pa.types.is_large_string(column.type) else "i")
            yield bytes(memoryview(data)[places[column.offset] : places[column.offset + len(column)]])


def _from(sql: str, names: Sequence[str]) -> str:
    """Columns by position: names that differ in case only are two columns, and none of them gets into the query."""
    return f"FROM (\n{sql}\n) AS r({', '.join(f'c{number}' for number in range(len(names)))})"


# -- JSON -------------------------------------------------------------------------------------------------------------
def _object(members: Sequence[tuple[str, str]], before: str = "", after: str = "") -> str:
    """Members: names, and expressions that give JSON texts.

    One call puts all of them together: of a chain of `||` each step holds what it has so far, of 2,048 rows.
    """
    pieces = []
    for number, (name, value) in enumerate(members):
        opened = ", " if number else f"{before}{{"
        key = f"{opened}{texts.json_text(name)}: "
        pieces += [sqltext.text(key), value]
    if not members:
        return sqltext.text(f"{before}{{}}{after}")
    closed = sqltext.text(f"}}{after}")
    return f"concat({', '.join(pieces)}, {closed})"


def _json(value: str, kind: DuckDBPyType, depth: int = 0) -> str:
    """An expression for the JSON text of a value, `null` where there is none."""
    return f"coalesce({_value(value, kind, depth)}, 'null')"


def _value(value: str, kind: DuckDBPyType, depth: int) -> str:
    name = kind.id
    if name in _AS_THEY_ARE:
        return f"{value}::VARCHAR"
    if name in _TEXTS:  # the type JSON too is text
        return f"to_json({value}::VARCHAR)::VARCHAR"
    if name in _FORMS:
        return _FORMS[name](value)
    if name == "list":
        ((_, item),) = _children(kind)
        return _list(value, item, depth)
    if name == "map":
        (_, key), (_, item) = _children(kind)
        return _map(value, key, item, depth)
    if name == "struct":
        return _struct(value, _children(kind), depth)
    raise UnsupportedError(name)


def _children(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, child) for name, child in kind.children if isinstance(child, DuckDBPyType)]


def _moment(pattern: str) -> Callable[[str], str]:
    zone = "Z" if pattern.endswith("Z") else ""
    return lambda value: f"'\"' || replace(strftime({value}, '{pattern}'), '.000000{zone}', '{zone}') || '\"'"


_FORMS: dict[str, Callable[[str], str]] = {
    "double": lambda value: f"CASE WHEN isfinite({value}) THEN {value}::VARCHAR END",
    "float": lambda value: f"CASE WHEN isfinite({value}) THEN {value}::DOUBLE::VARCHAR END",
    "decimal": lambda value: (
        f"CASE WHEN {value} = trunc({value}) THEN {value}::HUGEINT::VARCHAR ELSE {value}::DOUBLE::VARCHAR END"
    ),
    "timestamp with time zone": _moment("%Y-%m-%dT%H:%M:%S.%fZ"),
    "timestamp": _moment("%Y-%m-%dT%H:%M:%S.%f"),
    "date": lambda value: f"'\"' || {value}::VARCHAR || '\"'",
    "blob": lambda value: f"'\"' || lower(hex({value})) || '\"'",
    "null": lambda _: "NULL",
}


def _list(value: str, kind: DuckDBPyType, depth: int) -> str:
    item = f"x{depth}"
    items = f"list_transform({value}, lambda {item}: {_json(item, kind, depth + 1)})"
    return f"'[' || array_to_string({items}, ', ') || ']'"


def _map(value: str, key: DuckDBPyType, kind: DuckDBPyType, depth: int) -> str:
    """As an object; as a list of pairs where a key stands twice, of which readers of JSON would keep one."""
    if key.id != "varchar":
        raise UnsupportedError("map")
    item = f"x{depth}"
    name, content = _json(f"{item}.key", key), _json(f"{item}.value", kind, depth + 1)

    def entries(pair: str) -> str:
        return f"array_to_string(list_transform(map_entries({value}), lambda {item}: {pair}), ', ')"

    once = f"len(list_distinct(map_keys({value}))) = cardinality({value})"
    members, pairs = entries(f"{name} || ': ' || {content}"), entries(f"'[' || {name} || ', ' || {content} || ']'")
    return f"CASE WHEN {once} THEN '{{' || {members} || '}}' ELSE '[' || {pairs} || ']' END"


def _struct(value: str, members: Sequence[tuple[str, DuckDBPyType]], depth: int) -> str:
    steps = [(name, _json(f"{value}.{sqltext.name(name)}", kind, depth)) for name, kind in members]
    return f"CASE WHEN {value} IS NOT NULL THEN {_object(steps)} END"


# -- CSV --------------------------------------------------------------------------------------------------------------
def _cell(value: str, kind: DuckDBPyType, on_terminal: bool) -> str:
    """The text of a value, before it is quoted; what steers a terminal is left, but for ends of lines."""
    name = kind.id
    if name in _TEXTS:
        return _ends_spelled_out(_no_formula(f"{value}::VARCHAR"), on_terminal)
    if name in ("double", "float"):
        return f"{value}::DOUBLE::VARCHAR"
    if name in _AS_THEY_ARE or name == "decimal":
        return f"{value}::VARCHAR"
    as_json = _value(value, kind, 0)
    return as_json if name in _NESTED else f"trim({as_json}, '\"')"


def _no_formula(value: str) -> str:
    # Not IN: DuckDB makes a join of a long list, with a table in memory for each column.
    begins = " || ".join(f"chr({ord(sign)})" for sign in texts.FORMULAS)
    begins_so = f"{value} NOT IN ('', '-') AND contains({begins}, left({value}, 1))"
    formula = f"{begins_so} AND NOT regexp_full_match({value}, {_NUMBER})"
    return f"CASE WHEN {formula} THEN '''' || {value} ELSE {value} END"


def _ends_spelled_out(value: str, on_terminal: bool) -> str:
    spelled = {13: r"\r", **({10: r"\n", 9: r"\t"} if on_terminal else {})}
    for code, shown in spelled.items():
        value = f"replace({value}, chr({code}), '{shown}')"
    return value


def _quoted(value: str, kind: DuckDBPyType) -> str:
    if kind.id not in _TEXTS and kind.id not in _NESTED:  # numbers and times have nothing to be quoted
        return value
    marks = " OR ".join(f"contains({value}, {mark})" for mark in ("','", "'\"'", "chr(10)"))
    return f"CASE WHEN {marks} THEN '\"' || replace({value}, '\"', '\"\"') || '\"' ELSE {value} END"

