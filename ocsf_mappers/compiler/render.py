"""Expressions as DuckDB SQL, and what each expression consumes of the record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ocsf_mappers import sqltext
from ocsf_mappers.vocabulary import expr as e
from ocsf_mappers.vocabulary.record import Path


class Resolver(Protocol):
    """Where expressions read their values."""

    def __call__(self, path: Path) -> str:
        """SQL for a column."""

    def member(self, expr: e.Json) -> str:
        """SQL for a member of a JSON value, as text."""

    def is_null(self, expr: e.Expr) -> str:
        """SQL that is true where a value is missing."""

    def shared(self, sql: str) -> str:
        """SQL that is costly and may be needed several times, or the name of a column that holds it."""


def is_null(expr: e.Expr, column: Resolver) -> str:
    """SQL that is true where a value is missing."""
    return f"({value(expr, column)} IS NULL)"


def extracted(expr: e.Json, column: Resolver) -> str:
    """SQL that takes a member out of a JSON value where it is needed."""
    return f"json_extract_string({value(expr.inner, column)}, {sqltext.pointer(*expr.keys)})"


ABSENT = "NULL::VARCHAR"
"""What a resolver gives for a column that the batch does not have."""


def value(expr: e.Expr, column: Resolver) -> str:
    """SQL for the expression's value: text unless the expression says otherwise."""
    match expr:
        case e.Column(parts):
            return column(parts)
        case e.Literal(bool() as flag):
            return "true" if flag else "false"
        case e.Literal(int() as number):
            return str(number)
        case e.Literal(str() as text):
            return sqltext.text(text)
        case e.ListOf(items):
            return _list_of([value(item, column) for item in items])
        case e.Replace(inner, pairs, otherwise):
            return _replace(value(inner, column), pairs, None if otherwise is None else value(otherwise, column))
        case e.ReplacePrefix(inner, pairs, otherwise):
            quoted = [(old, sqltext.text(new)) for old, new in pairs]
            branches = by_prefix(value(inner, column), quoted, column)
            return f"CASE WHEN {value(inner, column)} IS NULL THEN NULL {branches} ELSE {value(otherwise, column)} END"
        case e.Json():
            return column.member(expr)
        case e.Extract(inner, pattern):
            found = f"regexp_extract({value(inner, column)}, {sqltext.text(pattern)}, 1)"
            return f"nullif({found}, '')"
        case e.Band(inner, pairs, otherwise):
            floors = [(str(floor), sqltext.text(new)) for floor, new in pairs]
            return band(value(inner, column), floors, value(otherwise, column))
        case e.Epoch(inner, micros, fraction):
            text = value(inner, column)
            return column.shared(_epoch_fraction(text, micros) if fraction else _epoch(text, micros))
        case e.Iso8601(inner):
            return column.shared(_iso8601(value(inner, column)))
        case e.Coalesce(items):
            return "coalesce(" + ", ".join(value(item, column) for item in items) + ")"
        case e.Case(branches, default):
            whens = [f"WHEN {value(test, column)} THEN {value(then, column)}" for test, then in branches]
            last = "" if default is None else f" ELSE {value(default, column)}"
            return f"CASE {' '.join(whens)}{last} END"
        case e.Sql(template, reads, _):
            return "(" + template.format(*(value(read, column) for read in reads)) + ")"
        case _:
            return _claim(expr, column)


def _claim(expr: e.Expr, column: Resolver) -> str:
    match expr:
        case e.Compare(op, left, right):
            return f"({value(left, column)} {op} {value(right, column)})"
        case e.Logic(op, left, right):
            return f"({value(left, column)} {op} {value(right, column)})"
        case e.Not(inner):
            return f"(NOT {value(inner, column)})"
        case e.IsNull(inner):
            return column.is_null(inner)
        case e.IsIn(inner, values):
            return f"({value(inner, column)} IN ({', '.join(sqltext.text(text) for text in values)}))"
        case e.Test(function, inner, argument):
            found = f"{function}({value(inner, column)}, {sqltext.text(argument)})"
            return column.shared(found) if function == "regexp_matches" else found
        case _:
            raise TypeError(f"{type(expr).__name__} cannot be rendered here")


def _list_of(items: list[str]) -> str:
    if len(items) == 1:
        return f"CASE WHEN {items[0]} IS NOT NULL THEN [{items[0]}] END"
    kept = f"list_filter([{', '.join(items)}], lambda item: item IS NOT NULL)"
    return f"CASE WHEN coalesce({', '.join(items)}) IS NOT NULL THEN {kept} END"


def _replace(text: str, pairs: tuple[tuple[str, str], ...], otherwise: str | None) -> str:
    branches = " ".join(f"WHEN {sqltext.text(old)} THEN {sqltext.text(new)}" for old, new in pairs)
    return f"CASE {text} {branches} ELSE {text if otherwise is None else otherwise} END"


def prefix(text: str, prefixes: Iterable[str]) -> str:
    """SQL for the first of these prefixes that a text starts with, in lower case; empty where there is none."""
    pattern = "^(?i)(" + "|".join(re.escape(old) for old in prefixes) + ")"
    return f"lower(regexp_extract({text}, {sqltext.text(pattern)}, 1))"


def by_prefix(text: str, pairs: Sequence[tuple[str, str]], column: Resolver) -> str:
    """`WHEN ... THEN ...` branches by how the text starts; the first of the pairs (prefix, SQL) that fits wins.

    Upper and lower case are the same.
    """
    found = column.shared(prefix(text, [old for old, _ in pairs]))
    grouped: dict[str, list[str]] = {}
    for old, new in pairs:
        grouped.setdefault(new, []).append(sqltext.text(old.lower()))
    return " ".join(f"WHEN {found} IN ({', '.join(olds)}) THEN {new}" for new, olds in grouped.items())


def band(text: str, pairs: Sequence[tuple[str, str]], otherwise: str) -> str:
    """A CASE over a number: SQL of the first of the pairs (floor, SQL) that it reaches; null where it is no number."""
    number = f"try_cast({text} AS DOUBLE)"
    branches = " ".join(f"WHEN {number} >= {floor} THEN {new}" for floor, new in pairs)
    return f"CASE WHEN {number} IS NULL THEN NULL {branches} ELSE {otherwise} END"


LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z: the last second that DuckDB, Arrow, Athena and Iceberg all can write."""


def _epoch(text: str, micros: int) -> str:
    """Microseconds since 1970 as BIGINT; null where the text is not a whole number or beyond year 9999."""
    number = f"try_cast({text} AS BIGINT)"
    limit = LAST_SECOND * (1_000_000 // micros)
    return f"CASE WHEN {number} BETWEEN 0 AND {limit} AND {number}::VARCHAR = {text} THEN {number} * {micros} END"


def _epoch_fraction(text: str, micros: int) -> str:
    """The same for a number with decimals, as JSON writers print times; finer than a microsecond is cut off."""
    number = f"try_cast({text} AS DECIMAL(26, 9))"
    limit = LAST_SECOND * (1_000_000 // micros)
    whole = f"floor({number} * {micros})::BIGINT"
    shaped = f"regexp_full_match({text}, '[0-9]+([.][0-9]+)?')"
    # Nearly all are whole, and those are read at once.
    return f"coalesce({_epoch(text, micros)}, CASE WHEN {shaped} AND {number} BETWEEN 0 AND {limit} THEN {whole} END)"


def _iso8601(text: str) -> str:
    """Microseconds since 1970 as BIGINT; null where the text is not a date with a time, or outside years 1 to 9999."""
    shaped = f"({text} LIKE '____-__-__T__:__%' OR {text} LIKE '____-__-__ __:__%')"
    # A cast with time zones costs ten times one without, and nearly every log writes Z.
    utc = f"ends_with({text}, 'Z') THEN epoch_us(try_cast({text} AS TIMESTAMP))"
    return f"CASE WHEN NOT {shaped} THEN NULL WHEN {utc} ELSE epoch_us(try_cast({text} AS TIMESTAMPTZ)) END"


@dataclass(frozen=True)
class Consumption:
    """A column that an expression uses up, where `condition` holds (None: always).

    `keys` names the member of a JSON column; empty means the whole column. `cast` is SQL for the rows where the text
    can be read as its type (None: nothing can fail); where it cannot, the text is not carried over after all.
    """

    path: Path
    keys: tuple[str, ...]
    condition: str | None
    cast: str | None = None


def consumed(expr: e.Expr, column: Resolver, condition: str | None = None) -> Iterator[Consumption]:
    """What the expression's value carries over from the record. Conditions carry nothing."""
    match expr:
        case e.Column(parts):
            yield Consumption(parts, (), condition)
        case e.Json(e.Column(parts), keys):
            yield Consumption(parts, keys, condition)
        case e.Replace(inner, _, None):
            yield from consumed(inner, column, condition)
        case e.Epoch(inner):
            # Each time answers for its own text: in coalesce(start, end) a good end does not carry a bad start over.
            for use in consumed(inner, column, condition):
                yield replace(use, cast=f"({value(expr, column)}) IS NOT NULL")
        case e.Iso8601(inner):
            # What is finer than a microsecond would be lost: then the text stays in `unmapped` as well.
            whole = f"length({value(inner, column)}) <= {len('2026-01-01T00:00:00.000000Z')}"
            for use in consumed(inner, column, both(condition, whole)):
                yield replace(use, cast=f"({value(expr, column)}) IS NOT NULL")
        case e.Replace(inner, pairs, _):
            known = ", ".join(sqltext.text(old) for old, _ in pairs)
            yield from consumed(inner, column, both(condition, f"{value(inner, column)} IN ({known})"))
        case e.ListOf(items) | e.Sql(_, items, True):
            for item in items:
                yield from consumed(item, column, condition)
        case e.Coalesce(items):
            yield from _consumed_coalesce(items, column, condition)
        case e.Case(branches, default):
            yield from _consumed_case(branches, default, column, condition)
        case _:
            return


def _consumed_coalesce(items: tuple[e.Expr, ...], column: Resolver, condition: str | None) -> Iterator[Consumption]:
    first = value(items[0], column)
    yield from consumed(items[0], column, condition)
    before = [first]
    for item in items[1:]:
        text = value(item, column)
        unused = " AND ".join(f"{earlier} IS NULL" for earlier in before)
        chosen = f"coalesce({', '.join(before)})" if len(before) > 1 else first
        yield from consumed(item, column, both(condition, f"({unused}) OR {chosen} = {text}"))
        before.append(text)


def _consumed_case(
    branches: tuple[tuple[e.Expr, e.Expr], ...], default: e.Expr | None, column: Resolver, condition: str | None
) -> Iterator[Consumption]:
    missed: list[str] = []
    for test, then in branches:
        claim = value(test, column)
        earlier = " AND ".join(f"({miss}) IS NOT TRUE" for miss in missed)
        yield from consumed(then, column, both(condition, both(earlier or None, claim)))
        missed.append(claim)
    if default is not None:
        earlier = " AND ".join(f"({miss}) IS NOT TRUE" for miss in missed)
        yield from consumed(default, column, both(condition, earlier))


def both(left: str | None, right: str | None) -> str | None:
    """Two conditions that must both hold; None is no condition."""
    if left is None or right is None:
        return left or right
    return f"({left}) AND ({right})"
