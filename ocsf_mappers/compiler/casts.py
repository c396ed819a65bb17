"""Casts from text to OCSF's types, null unless the text is exactly how the value would be written."""

from __future__ import annotations


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
