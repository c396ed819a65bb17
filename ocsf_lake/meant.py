"""What is meant by a name that there is not: tables of that log, where OCSF has that member, DuckDB's function."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    from ocsf_mappers import Mapper

_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(r'Referenced (?:column|table) "([^"]+)" not found')
_NO_FUNCTION = re.compile(r"Function with name (\S+) does not exist")
_IN_EXTENSION = re.compile(r"it exists in the (\w+) extension")
_MIXED = "Cannot mix values of type"
_NO_FILE = "Permission Error: Cannot access file"
_NO_MEMBER = re.compile(r"""Cannot extract field '([^']+)' from expression "(.+)" because it is not a struct""")
_LIST = re.compile(r"No function matches the given name and argument types '[^(]*\(.*\[\], STRING_LITERAL\)'")
_STEP = re.compile(r"struct_extract\((.+), '([^']+)'\)")
_MOST = 3
"""A name that logs have in more places, such as `name`, says nothing of which is meant."""
_MOST_MEMBERS = 8
"""Of an object, so many members are named."""
_SHORTEST = 2
"""No longer names, such as `id`, are members of anything."""


@contextmanager
def hinting(sql: str) -> Iterator[None]:
    """Adds notes to DuckDB's errors about names, with what is meant.

    Args:
        sql: The query.
    """
    try:
        yield
    except duckdb.Error as error:
        for hint in hints(str(error), sql):
            error.add_note(hint)
        raise


def lines(error: duckdb.Error) -> list[str]:
    """DuckDB's message, with what is meant before the names that are spelled nearest."""
    first, *rest = str(error).rstrip().expandtabs(4).split("\n")
    notes = getattr(error, "__notes__", [])
    is_answered = notes and (_NO_TABLE.search(first) or _IN_EXTENSION.search(first))
    return [first, *notes, *([] if is_answered else rest)]


def hints(message: str, sql: str) -> list[str]:
    """What is meant by a name that DuckDB does not know.

    Args:
        message: DuckDB's.
        sql: The query.
    """
    if missing := _NO_TABLE.search(message):
        from ocsf_lake.query import guesses

        tables = guesses.tables_meant(missing[1])
        return [f"there is {', '.join(tables)}"] if tables else []
    if missing := _NO_COLUMN.search(message):
        return _members(missing[1])
    if missing := _IN_EXTENSION.search(message):
        from ocsf_lake.query import lint

        return [f"extensions of DuckDB are not loaded here{f'; {lint.NETWORKS}' if missing[1] == 'inet' else ''}"]
    if missing := _NO_FUNCTION.search(message):
        return _translated(missing[1], sql)
    if message.startswith("Conversion Error") or _MIXED in message:  # an account or day written as a number, say
        from ocsf_lake.query import lint

        return lint.explanations(sql, "duckdb", is_empty=True)
    if message.startswith(_NO_FILE):
        return [
            "a query reads the lake's tables; a file of yours is one, too, by `--with NAME=FILE`, or by "
            "`with_tables(NAME=FILE)` in Python"
        ]
    if missing := _NO_MEMBER.search(message):
        return _inside(_path(missing[2]), missing[1])
    return [f"a list has no text of its own: {_ITEMS.format('resources', 'uid LIKE')}"] if _LIST.search(message) else []


# -- members of logs --------------------------------------------------------------------------------------------------
def _members(name: str) -> list[str]:
    """Of a member of logs, where events have it: one line for each place."""
    from ocsf_mappers import registry

    if len(name) <= _SHORTEST:
        return []
    sources_by_place: dict[str, list[str]] = {}
    for source, item in registry.sources().items():
        if place := _place(item.mapper, name):
            sources_by_place.setdefault(place, []).append(source)
    notes = []
    for place, sources in sources_by_place.items():
        page = f"`ocsf-lake explain {sources[0]}` says where each member goes"
        notes.append(f"{name} of {', '.join(sources)}{place} {page}")
    return notes if len(notes) <= _MOST else []


def _place(mapper: Mapper, name: str) -> str:
    """Where events of a source have a member, or the members of an object; "" where its records have none such."""
    from ocsf_lake.detections import inverse

    def paths(member: str) -> str:
        return " or ".join(inverse.paths_of(mapper, member) or ())

    members = [member for member, _ in inverse.members(mapper)]
    asked = _letters(name)
    if inside := [member for member in members if member.lower().startswith(f"{name.lower()}.")]:
        places = [f"{member[len(name) + 1 :]} in {at}" for member in inside if (at := paths(member))]
        return f": {', '.join(places[:_MOST_MEMBERS])};" if places else ":"
    whole = [member for member in members if _letters(member) == asked]
    last = [member for member in members if _letters(member.rpartition(".")[2]) == asked]
    places = [at for member in whole or last if (at := paths(member))]
    return f" is in {' or '.join(dict.fromkeys(places))};" if places else ":" if whole else ""


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", text.lower())


# -- functions of Athena, lists and texts -----------------------------------------------------------------------------
def _translated(function: str, sql: str) -> list[str]:
    """A query with a function of Athena's in DuckDB's words."""
    import sqlglot

    try:
        (instead,) = sqlglot.transpile(sql, read="trino", write="duckdb")
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError):
        return []
    if re.search(rf"\b{re.escape(function)}\s*\(", instead, re.IGNORECASE):
        return []
    return [f"{function} is a function of Athena's; in DuckDB's words: {instead}"]


_ITEMS = "len(list_filter({0}, lambda item: item.{1} ...)) > 0"


def _inside(path: str, member: str) -> list[str]:
    import pyarrow as pa

    from ocsf_mappers import registry

    column, _, steps = path.partition(".")
    for table in registry.tables().values():
        kind = next((field.type for field in table.columns() if field.name == column), None)
        for step in steps.split(".") if steps else ():
            # The query's table may be another one, with an object where the lake has none.
            inside = kind if kind is not None and pa.types.is_struct(kind) else ()
            kind = next((field.type for field in inside if field.name == step), None)
        if kind is not None and pa.types.is_list(kind):
            if not pa.types.is_struct(kind.value_type):
                return [f"{path} is a list of values: list_contains({path}, ...)"]
            items = _ITEMS.format(path, f"{member} =")
            return [f"{path} is a list: {items}; a row for each item: FROM ..., unnest({path}) AS t(item)"]
        if kind is not None and pa.types.is_string(kind):
            return [f"{path} is text; where that is JSON: {path} ->> '$.{member}'"]
    return []


def _path(expression: str) -> str:
    """A column's dotted path in DuckDB's own spelling of it."""
    step = _STEP.fullmatch(expression)
    return f"{_path(step[1])}.{step[2]}" if step else expression.strip('"')
