"""Casts from text to OCSF's types, null unless the text is exactly how the value would be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from ocsf_mappers import sqltext
from ocsf_mappers.ocsf.schema import ScalarType
from ocsf_mappers.vocabulary.word import Word


def column_kind(kind: str, column: pa.DataType | None) -> str:
    """The kind of value that a column of a table holds: it may be as narrow as another version of OCSF wants it."""
    return "integer_t" if kind == "long_t" and column == pa.int32() else kind


def fitted(sql: str, column: pa.DataType | None) -> str:
    """A number as a decimal column holds it, null where it is too large; of other columns as it is."""
    if column is None or not pa.types.is_decimal(column):
        return sql
    return f"try_cast({sql} AS {sqltext.duckdb_type(column)})"


def cast(kind: str, text: str, limits: tuple[int, int] | None) -> str | None:
    """A cast from text that gives null unless the text is exactly how the value would be written; None needs none."""
    match kind:
        case "integer_t":
            return _number(text, "INTEGER", limits)
        case "long_t":
            return _number(text, "BIGINT", limits)
        case "float_t":
            return f"try_cast({text} AS DOUBLE)"
        case "boolean_t":
            return f"CASE lower({text}::VARCHAR) WHEN 'true' THEN true WHEN 'false' THEN false END"
        case _:
            return None


def checked(kind: str, text: str, limits: tuple[int, int] | None) -> str | None:
    """The same cast for what stays text for now: of a number the text itself, for so would the number be written."""
    match kind:
        case "integer_t":
            return _number(text, "INTEGER", limits, result=text)
        case "long_t":
            return _number(text, "BIGINT", limits, result=text)
        case _:
            return cast(kind, text, limits)


def _number(text: str, kind: str, limits: tuple[int, int] | None, result: str | None = None) -> str:
    number = f"try_cast({text} AS {kind})"
    within = f" AND {number} BETWEEN {limits[0]} AND {limits[1]}" if limits else ""
    return f"CASE WHEN {number}::VARCHAR = {text}{within} THEN {result or number} END"


def numeric(scalar: ScalarType, column: pa.DataType | None) -> Callable[[str], str] | None:
    """What makes a value of a type that is no text of a text's SQL; None for texts and times."""
    kind = column_kind(scalar.base, column)
    if cast(kind, "", None) is None:
        return None
    return lambda text: fitted(cast(kind, f"({text})::VARCHAR", scalar.range) or text, column)


def agreed(word_casts: Iterable[tuple[Word, Callable[[str], str] | None]]) -> dict[Word, Callable[[str], str]]:
    """By value, what makes a number of it; values that fill a text somewhere are left out."""
    by_word: dict[Word, list[Callable[[str], str] | None]] = {}
    for word, made in word_casts:
        by_word.setdefault(word, []).append(made)
    return {word: made[0] for word, made in by_word.items() if made[0] is not None and None not in made}
