"""Why an answer is empty, by what the columns of its conditions hold: other case, other ranges, other keys.

Only for a query of one table whose conditions all have to hold; what is not understood is left out. The columns that it
looks at are those that the query read, of the same partitions, and it looks no longer than a few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

from ocsf_lake.config import Settings
from ocsf_lake.lake import opened
from ocsf_lake.query import pruning, shown
from ocsf_lake.query import query as lake_query
from ocsf_lake.text import iso8601
from ocsf_mappers import registry, sqltext
from ocsf_mappers.errors import OcsfMappersError, nearest

_RANGES = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_IN_WHAT = ("expressions", "query", "unnest", "field")
_PARTITIONS = frozenset(["region", "accountid", "eventday"])
_MAP = "unmapped"
_SHOWN_KEYS = 8
_SHOWN_VALUES = 3
_SHORTEST = 3
"""Shorter words are within too many texts to say anything."""
_COMPARED = 10_000
"""To look at the letters of more different texts takes seconds in a large lake."""
_SHOWN_LETTERS = 80
"""Longer texts, such as requests in JSON, are not shown."""
SECONDS = 5.0
"""How long it may take: each question reads the columns of a condition once more."""
TOO_LONG = "no reason found within {:.0f} s; conditions on eventday, accountid and region narrow the search"


class _TooLongError(Exception):
    """The time is over."""


@dataclass(frozen=True)
class _Asked:
    """Rows that a query might have given, to be asked about.

    Args:
        connection: The lake, with what the query reads of it.
        rows: What follows SELECT.
        until: When to end, by the monotonic clock.
    """

    connection: duckdb.DuckDBPyConnection
    rows: str
    until: float

    def all(self, selected: str, rows: str | None = None) -> list[tuple[Any, ...]]:
        """What is selected of the rows, or of others."""
        self._in_time()
        return lake_query.fetched(self.connection, f"SELECT {selected} {rows or self.rows}", waiting=self._in_time)

    def one(self, selected: str) -> tuple[Any, ...]:
        """The one row of aggregates over the rows."""
        (row,) = self.all(selected)
        return row

    def _in_time(self) -> None:
        if time.monotonic() > self.until:
            raise _TooLongError


def reasons(settings: Settings, sql: str) -> list[str]:
    """What is known of the conditions that nothing met.

    Args:
        settings: The lake.
        sql: A query that gave nothing.
    """
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
    except (sqlglot.errors.SqlglotError, RecursionError):
        return []
    source = tree.args.get("from_") or tree.args.get("from") if isinstance(tree, exp.Select) else None
    where = tree.args.get("where")
    if source is None or where is None or tree.args.get("joins") or not isinstance(source.this, exp.Table):
        return []
    part = shown.part_of(source.this.name)
    if part is None or part not in registry.tables():
        return []
    every = where.this.unnest()
    conditions = [part.unnest() for part in every.flatten()] if isinstance(every, exp.And) else [every]
    if never := [reason for condition in conditions for reason in _never(condition)]:
        return never
    kept = [condition for condition in conditions if _columns(condition) and _columns(condition) <= _PARTITIONS]
    rows = f"FROM {source.this.sql('duckdb')}"
    if kept:
        rows += f" WHERE {exp.and_(*(condition.copy() for condition in kept)).sql('duckdb')}"
    lines: list[str] = []
    is_over = False
    try:
        with suppress(duckdb.Error, OcsfMappersError), lake_query.connected(settings, sql) as connection:
            asked = _Asked(connection, rows, time.monotonic() + SECONDS)
            # A pattern or a function of partitions, which were not left out beforehand.
            if kept and asked.one("count(*)") == (0,):
                with opened(settings, reading=True) as lake:
                    return list(pruning.nothing_left({part: lambda _: False}, lake.files.partitions))
            lines += _reasons(asked, [condition for condition in conditions if condition not in kept])
    except _TooLongError:
        is_over = True
    parts = pruning.parts([sql], shown.part_of)
    if lines and parts and parts.get(part) is not None:
        lines.insert(0, "of the partitions that the query reads:")
    return [*lines, *([TOO_LONG.format(SECONDS)] if is_over else [])]


def _never(condition: exp.Expr) -> Iterator[str]:
    """Of a condition that no value meets, the reason."""
    if isinstance(condition, _COMPARISONS) and any(isinstance(side, exp.Null) for side in condition.unnest_operands()):
        yield f"{condition.sql('duckdb')}: nothing is equal or unequal to NULL; write IS NULL or IS NOT NULL"
    elif isinstance(condition, exp.In) and not any(condition.args.get(name) for name in _IN_WHAT):
        yield f"{condition.sql('duckdb')}: the list is empty, so no row is in it"


def _reasons(asked: _Asked, conditions: list[exp.Expr]) -> Iterator[str]:
    is_alone = len(conditions) == 1
    some = False
    for condition in conditions:
        for reason in _of(asked, condition, alone=is_alone):
            some = True
            yield reason
    if conditions and not is_alone and not some:
        every = exp.and_(*(condition.copy() for condition in conditions)).sql("duckdb")
        if asked.one(f"count_if({every})") == (0,):
            yield "no row meets all of the conditions"


def _of(asked: _Asked, condition: exp.Expr, *, alone: bool) -> Iterator[str]:
    """What one condition says, asked of the rows; of one that stands alone, not that no row meets it."""
    column = condition.this
    if bracket := condition.find(exp.Bracket):
        literal = bracket.expressions[0] if bracket.expressions else None
        if isinstance(literal, exp.Literal) and literal.is_string:
            yield from _keys(asked, bracket.this.sql("duckdb"), literal.name)
        return
    if isinstance(column, exp.Column) and column.table.lower() == _MAP:  # as DuckDB takes it: unmapped.eventCategory
        yield from _keys(asked, _MAP, column.name)
        return
    if not isinstance(column, exp.Column | exp.Dot):
        return
    at = column.sql("duckdb")
    sql, written = condition.sql("duckdb"), condition.sql()  # names without DuckDB's quotes, to be read
    value = condition.args.get("expression")
    if isinstance(condition, exp.EQ) and isinstance(value, exp.Literal) and value.is_string:
        met, kind, different = asked.one(f"count_if({sql}), any_value(typeof({at})), approx_count_distinct({at})")
        if not met:
            alike = _spelled(asked, at, value.name, different) if kind == "VARCHAR" else []
            if alike or not alone:
                yield f"no row has {written}" + (f"; there is {', '.join(alike)}" if alike else "")
    elif isinstance(condition, _RANGES):
        low, high, met = asked.one(f"min({at}), max({at}), count_if({sql})")
        if low is not None and not met:
            yield f"no row has {written}: {column.sql()} goes from {_shown(low)} to {_shown(high)}"
    elif isinstance(condition, exp.Like) and value is not None and not condition.args.get("negate"):
        pattern = value.sql("duckdb")
        in_case = f"count_if({at} ILIKE {pattern}), any_value({at}) FILTER ({at} ILIKE {pattern})"
        met, in_any_case, one = asked.one(f"count_if({sql}), {in_case}")
        if not met and in_any_case:
            yield f"no row has {written}; ILIKE, for letters of any case, is met by {in_any_case:,}, such as {one!r}"
        elif not met and not alone:
            yield f"no row has {written}"
    elif not alone and asked.one(f"count_if({sql})") == (0,):
        yield f"no row has {written}"


def _spelled(asked: _Asked, at: str, word: str, different: int) -> list[str]:
    """The most frequent texts that are spelled like a word, else those that it is within.

    Args:
        asked: The rows.
        at: The column, of texts.
        word: The word.
        different: How many different texts there are, about; of very many only those in other letters are looked for.
    """
    text = sqltext.text(word)
    if different > _COMPARED:
        (one,) = asked.one(f"any_value({at}) FILTER (lower({at}) = lower({text}))")
        return [] if one is None else [repr(one)]
    like = f"{_letters('v')} = {_letters(text)}"
    within = f" OR contains(lower(v), lower({text}))" if len(word) >= _SHORTEST else ""
    counted = f"FROM (SELECT {at} AS v, count(*) AS n {asked.rows} GROUP BY v)"
    near = f"WHERE {like}{within} ORDER BY alike DESC, n DESC, v LIMIT {_SHOWN_VALUES}"
    texts = asked.all(f"v, {like} AS alike", f"{counted} {near}")
    alike = [v for v, is_alike in texts if is_alike] or [v for v, _ in texts if len(v) <= _SHOWN_LETTERS]
    return [repr(v) for v in alike if word]


def _letters(sql: str) -> str:
    """SQL of a text's letters and digits alone, in lower case."""
    return f"regexp_replace(lower({sql}), '[^[:alnum:]]', '', 'g')"


def _keys(asked: _Asked, at: str, given_key: str) -> Iterator[str]:
    """Of a map that is asked for a key that no row has, the keys that there are."""
    each = f"SELECT unnest(map_keys({at})) AS key {asked.rows}"
    keys = [key for (key,) in asked.all("key", f"FROM ({each}) GROUP BY key ORDER BY count(*) DESC, key")]
    if keys and given_key not in keys:
        more = f" and {len(keys) - _SHOWN_KEYS:,} more" if len(keys) > _SHOWN_KEYS else ""
        yield f"{at}: no row has the key {given_key!r}{nearest(given_key, keys)}"
        yield f"  keys there are: {', '.join(keys[:_SHOWN_KEYS])}{more}"


def _columns(condition: exp.Expr) -> set[str]:
    return {column.name.lower() for column in condition.find_all(exp.Column)}


def _shown(value: object) -> str:
    return iso8601(value) if hasattr(value, "tzinfo") else str(value)  # type: ignore[arg-type]
